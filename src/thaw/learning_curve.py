"""What more labels would bring: the head, trained on parts of the training split."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from thaw.examples import Examples
from thaw.metrics import Row


def learning_curve(
    features: NDArray[np.floating],
    splits: Mapping[str, Examples],
    classes: tuple[str, ...],
    *,
    class_weight: str | None,
    strengths: Sequence[float],
    sizes: int = 5,
    draws: int = 5,
    seed: int,
) -> list[Row]:
    """Return a row for each size of the training split, the smallest first: how good a head on the plain features is.

    features (rows, channels) as the extraction wrote them; splits as `examples.read` returns them (`train`,
    `validation`, `test`). The sizes are those of a geometric row up to all images. At each, `draws` parts are drawn,
    whole groups, class by class so that each keeps its share and at least one image; the strength of each is chosen
    on validation. Columns: `images` (trained on, mean over the draws), `draws`, and for the test split `accuracy`,
    `accuracy_weighted` (means over the draws) and each with `_low`, `_high` (the lowest and the highest draw). All
    images are one draw. Empty where the test split is.
    """
    raise NotImplementedError
