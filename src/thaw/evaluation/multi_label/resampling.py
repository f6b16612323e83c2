"""The measures of several labels on a split and on resamples of it: the bootstrap behind the intervals.

Whole groups of images are drawn, as `thaw.evaluation.resampling` does it, with all their pairs. So the classes of an
image, and near-duplicates, come or stay away together. In this module, k is the number of classes, and r is 1 + the
number of resamples: the first of r values is that of the split itself. NaN is what a resample leaves undefined.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thaw.evaluation.multi_label.pairs import Pairs
from thaw.evaluation.resampling import MIN_RESAMPLES, Resampling, SortedScores, blocks, draw, interval, sum_by
from thaw.evaluation.scored import confidence_bins

Array = NDArray[np.float64]

# Measures of a class. Each also has a mean over the classes and one value of all pairs together.
MEASURES = ("average_precision", "roc_auc", "f1", "precision", "recall", "accuracy", "log_loss", "brier", "ece")
Z = NormalDist().inv_cdf(0.975)
BIAS_TIMES = 2  # resamples show a half to four fifths of the bias of average precision
# Fewer resamples are drawn than were asked for only where they would cost more than this, but at least MIN_RESAMPLES.
MAX_PAIR_RESAMPLES = 2e9  # about a quarter of a minute
MAX_HELD_NUMBERS = 2**23  # of one model on one split: 64 MB
AREAS = ("roc_auc", "average_precision")
SUMS = ("total", "present", "called", "found", "right", "loss", "squares")  # of the pairs, behind the measures


@dataclass(frozen=True)
class Resampled:
    """Measures of the pairs of a split and of its resamples, by their names in MEASURES.

    But `ece` is the difference of probability and presence in each bin times the bin's share: (k, bins, r) and
    (bins, r). The sum of the sizes over the bins is the error.
    """

    by_class: dict[str, Array]  # (k, r)
    pooled: dict[str, Array]  # (r,): all pairs together

    def means(self) -> dict[str, Array]:
        """Return (r,) means over the classes in which a measure is defined; `ece` is (k' * bins, r) in this."""
        means = {name: _nan_mean(values) for name, values in self.by_class.items() if name != "ece"}
        gaps = self.by_class["ece"]
        defined = gaps[~np.isnan(gaps[:, 0, 0])]
        gaps = np.nan_to_num(defined) / max(1, len(defined))
        means["ece"] = gaps.reshape(-1, gaps.shape[-1]) if len(defined) else np.full((1, 1), np.nan)
        return means


def resample(pairs: Pairs, bins: int, resampling: Resampling) -> dict[str, Resampled]:
    """Resample the known pairs of a split: under "" each counts once, under "_weighted" as much as it weighs.

    The resamples depend only on the groups of the images that have a known pair, on the number of these pairs and on
    the seed; those by weight on the pairs that weigh anything. So those of two models on one split are paired.

    Args:
        pairs: of a split.
        bins: of the calibration error, of equal width.
        resampling: how the groups are resampled.
    """
    known = pairs.known
    plain = _resample(replace(pairs, weights=known.astype(np.float64)), bins, resampling)
    weights = pairs.weights[known]
    if weights.size and weights[0] > 0 and np.ptp(weights) == 0:
        return {"": plain, "_weighted": plain}
    return {"": plain, "_weighted": _resample(pairs, bins, resampling)}


def wide_interval(values: Array) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of (r,) resampled values: from the lower of two intervals' ends to the higher.

    The one is the middle 95 % of the resamples. The other is corrected for bias (Efron 1981): average precision of few
    present pairs is too high, and a resample, which draws some of them twice, is too high once more. Each alone holds
    the truth too rarely where few pairs are present: `benchmarks/multi_label_coverage.py`.
    """
    value, low, high = interval(values)
    if low is None:
        return value, low, high
    draws = values[1:][~np.isnan(values[1:])]
    below = ((draws < value).mean() + (draws <= value).mean()) / 2
    shift = 2 * NormalDist().inv_cdf(float(below.clip(1 / len(draws), 1 - 1 / len(draws))))
    ends = [NormalDist().cdf(shift + z) for z in (-Z, Z)]
    corrected = np.quantile(draws, ends)
    return value, min(low, float(corrected[0])), max(high, float(corrected[1]))


def precision_interval(
    values: Array, limits: tuple[float, float] = (0, 1)
) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of (r,) resampled mean average precisions: the `wide_interval`, and a third one.

    The third has the width of the percentiles, around the value less BIAS_TIMES the bias that the resamples show. A
    mean over many classes scatters little and keeps the bias of each. So nearly all resamples may lie above the value;
    below the lowest of them, the `wide_interval` cannot reach. `limits`: of the values.
    """
    value, low, high = wide_interval(values)
    if low is None:
        return value, low, high
    bias = np.nanmean(values[1:]) - value
    moved = np.clip(np.array(interval(values)[1:]) - (1 + BIAS_TIMES) * bias, *limits)
    return value, min(low, float(moved[0])), max(high, float(moved[1]))


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def _resample(pairs: Pairs, bins: int, resampling: Resampling) -> Resampled:
    pairs = replace(pairs, weights=np.where(pairs.known, pairs.weights, 0.0))
    pairs = pairs.take((pairs.weights > 0).any(axis=1))
    count, classes = int((pairs.weights > 0).sum()), pairs.class_count
    if not count:
        nothing = {name: np.full((classes, 1), np.nan) for name in MEASURES} | {"ece": np.full((classes, 1, 1), np.nan)}
        return Resampled(nothing, {name: values[0] for name, values in nothing.items()})
    held = classes * (bins + len(SUMS) + len(MEASURES))
    affordable = max(MIN_RESAMPLES, int(min(MAX_PAIR_RESAMPLES / count, MAX_HELD_NUMBERS / held)))
    group, times = draw(pairs.groups, replace(resampling, resamples=min(resampling.resamples, affordable)))
    parts = [_class_sums(pairs, number, bins, group, times) for number in range(classes)]
    sums = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    areas = [_class_areas(pairs, number, group, times) for number in range(classes)]
    by_class = _measures(sums) | {name: np.stack([part[name] for part in areas]) for name in AREAS}
    pooled = _measures({name: values.sum(axis=0, keepdims=True) for name, values in sums.items()})
    pooled = {name: values[0] for name, values in pooled.items()} | _pooled_areas(pairs, group, times)
    return Resampled({name: by_class[name] for name in MEASURES}, {name: pooled[name] for name in MEASURES})


def _rows(pairs: Pairs, number: int) -> NDArray[np.integer]:
    """Return the images whose pair with a class counts."""
    return np.flatnonzero(pairs.weights[:, number] > 0)


def _class_sums(pairs: Pairs, number: int, bins: int, group: NDArray, times: NDArray) -> dict[str, Array]:
    """Return SUMS of one class, (r,) each, and under `gaps` the sums of probability less presence, (bins, r)."""
    rows, resamples = _rows(pairs, number), times.shape[1]
    if not len(rows):
        return {name: np.zeros(resamples) for name in SUMS} | {"gaps": np.zeros((bins, resamples))}
    p, present, called = pairs.probabilities[rows, number], pairs.present[rows, number], pairs.called[rows, number]
    epsilon = np.finfo(np.float64).eps
    likelihoods = np.where(present, p, 1 - p).clip(epsilon, 1 - epsilon)
    ones, loss, squares = np.ones(len(rows)), -np.log(likelihoods), (p - present) ** 2
    summed = np.stack([ones, present, called, called & present, called == present, loss, squares]).astype(np.float64)
    sum_gaps = sum_by(confidence_bins(p, bins), p - present, bins)
    result, gaps = np.empty((len(SUMS), resamples)), np.empty((bins, resamples))
    for part, counts in _counts(pairs.weights[rows, number], group[rows], times):
        result[:, part], gaps[:, part] = summed @ counts, sum_gaps @ counts
    return dict(zip(SUMS, result, strict=True)) | {"gaps": gaps}


def _class_areas(pairs: Pairs, number: int, group: NDArray, times: NDArray) -> dict[str, Array]:
    """Return AREAS of one class, (r,) each."""
    rows = _rows(pairs, number)
    scored = pairs.probabilities[rows, number], pairs.present[rows, number], pairs.weights[rows, number]
    return _areas(*scored, group[rows], times)


def _pooled_areas(pairs: Pairs, group: NDArray, times: NDArray) -> dict[str, Array]:
    """Return AREAS of all pairs together, (r,) each."""
    cells = row, _ = np.nonzero(pairs.weights > 0)
    return _areas(pairs.probabilities[cells], pairs.present[cells], pairs.weights[cells], group[row], times)


def _areas(scores: Array, truth: NDArray[np.bool_], weights: Array, group: NDArray, times: NDArray) -> dict[str, Array]:
    """Return AREAS (r,) of pairs (m,), NaN where all are present, or all absent."""
    if truth.all() or not truth.any():
        return {name: np.full(times.shape[1], np.nan) for name in AREAS}
    in_order = SortedScores.of(scores, truth)
    parts = [in_order.areas(counts) for _, counts in _counts(weights, group, times)]
    areas = (np.concatenate(values, axis=1)[0] for values in zip(*parts, strict=True))
    return dict(zip(AREAS, areas, strict=True))


def _counts(weights: Array, group: NDArray, times: NDArray) -> Iterator[tuple[slice, Array]]:
    """Yield blocks of resamples, with how much each pair (m,) counts in each of them, (m, block)."""
    for part in blocks(len(weights), times.shape[1]):
        yield part, times[group, part] * weights[:, None]


def _measures(sums: dict[str, Array]) -> dict[str, Array]:
    """Return the measures that come from sums (k, r): all but the areas under curves."""
    total, present, called, found = (sums[name] for name in SUMS[:4])
    return {
        "f1": _ratio(2 * found, present + called, present > 0),
        "precision": _ratio(found, called, (called > 0) & (present > 0)),
        "recall": _ratio(found, present, present > 0),
        "accuracy": _ratio(sums["right"], total, total > 0),
        "log_loss": _ratio(sums["loss"], total, total > 0),
        "brier": _ratio(sums["squares"], total, total > 0),
        "ece": _ratio(sums["gaps"], total[:, None], (total > 0)[:, None]),
    }


def _ratio(numerator: Array, denominator: Array, defined: NDArray[np.bool_]) -> Array:
    defined = np.broadcast_to(defined, numerator.shape)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=defined)


def _nan_mean(values: Array) -> Array:
    """Return the mean (r,) over the classes (k, r) where it is defined, NaN where it is in none."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    return np.divide(np.where(defined, values, 0).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
