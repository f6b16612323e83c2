"""How good a model of several labels is on parts of a split: by the source's columns, and by the size of the images."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thaw.evaluation.metrics import wilson
from thaw.evaluation.multi_label.metrics import MAIN, effective_number
from thaw.evaluation.multi_label.pairs import Pairs
from thaw.evaluation.multi_label.resampling import precision_interval, resample
from thaw.evaluation.resampling import Resampling
from thaw.evaluation.scored import Row
from thaw.evaluation.slices import Comparison, large_slices, sort_with_p_values


def measure_slices(images: pl.DataFrame, pairs: Pairs, bins: int, resampling: Resampling) -> list[Row]:
    """Measure a model on each slice of the columns `meta_…` and of the megapixels.

    Slices are made as those of single labels are, of the images with a known pair: see
    `thaw.evaluation.slices.measure_slices`, also for those that are left out.

    Args:
        images: columns of images.csv, n rows in the order of the pairs.
        pairs: of the n images.
        bins: those of the calibration error.
        resampling: how the groups are resampled.

    Returns:
        A row for each slice: `column` (without `meta_`), `value`, `count` and `share` (of the images), `known_present`,
        `known_absent`, `accuracy` (the share of the known pairs that are called rightly, with Wilson's interval) and
        `mean_average_precision` with its interval. The worst slice stands first: the one with the lowest
        `accuracy_high`.

        `p_value` is the chance of a difference as large as that between the slice's accuracy and the rest's: of
        Fisher's exact test on one known pair a group, drawn by the seed, corrected for the number of slices (Holm
        1979). It is None where no group is left to compare with.
    """
    has_known = pairs.known.any(axis=1)
    pairs, images = pairs.take(has_known), images.filter(pl.Series(has_known))
    group, hits = _one_pair_a_group(pairs, resampling.seed)
    rows, comparisons = [], []
    for part in large_slices(images):
        count = int(part.inside.sum())
        row = {"column": part.column, "value": part.value, "count": count, "share": count / len(pairs)}
        rows.append(row | _measures(pairs.take(part.inside), bins, resampling))
        comparisons.append(Comparison(part.test, hits[part.inside[group]], hits[~part.inside[group]]))
    return sort_with_p_values(rows, comparisons)


def _measures(pairs: Pairs, bins: int, resampling: Resampling) -> Row:
    known, right = pairs.known, pairs.right
    accuracy = float(right.sum() / known.sum())
    effective = effective_number(pairs.groups[np.nonzero(known)[0]])
    low, high = wilson(accuracy * effective, effective)
    means = resample(pairs, bins, resampling)[""].means()
    bounds = precision_interval(means["average_precision"])
    precision = dict(zip((MAIN, f"{MAIN}_low", f"{MAIN}_high"), bounds, strict=True))
    return {
        "known_present": int(pairs.present.sum()),
        "known_absent": int(pairs.absent.sum()),
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        **precision,
    }


def _one_pair_a_group(pairs: Pairs, seed: int) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """Return the image (m,) of a known pair of each group, drawn evenly, and whether the pair is called rightly."""
    image, number = np.nonzero(pairs.known)
    order = np.random.default_rng(seed).permutation(len(image))
    image, number = image[order], number[order]
    first = np.unique(pairs.groups[image], return_index=True)[1]
    return image[first], pairs.right[image[first], number[first]]
