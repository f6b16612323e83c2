"""How good a model is on parts of a split: by what the source says of the images, and by their size."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thaw.metrics import Row

VALUES = 8  # slices of a column at most


def slices(
    images: pl.DataFrame,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    groups: NDArray[np.str_] | NDArray[np.integer],
    *,
    bins: int,
    bootstrap: int,
    seed: int,
) -> list[Row]:
    """Return a row for each slice of the columns `meta_…` of `images` and of `megapixels`, the worst slice first.

    `images` (n rows, in the order of `probabilities`) has the columns of images.csv. A row has `column` (without
    `meta_`), `value`, `count`, `share` (of the images), all that `metrics.classification_metrics` measures, and
    `p_value`. The worst is the one with the lowest `accuracy_high`: of a small slice little is known.

    A column of more than VALUES values is cut into quarters of equally many images where they are numbers, and has
    its most frequent values and `other` where they are text; a missing value is `missing`; a column of one value has
    no slices. `p_value`: of the slice's accuracy differing that much from the rest's by chance, by Fisher's exact
    test on one image a group, times the number of slices that are left to reject (Holm 1979): with any number of
    columns, a slice is called different by mistake in at most 5 of 100 reports. None where there is no rest.
    """
    raise NotImplementedError
