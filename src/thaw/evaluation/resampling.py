"""Measures on a split and on resamples of it: the bootstrap behind the intervals.

A resample draws as many groups as there are, with replacement. The images of a group come or stay away together,
since near-duplicates tell the same twice. In this module, r is 1 + the number of resamples: the first of r values is
that of the split itself. Throughout, NaN is what a resample leaves undefined.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from thaw.evaluation.scored import Scored, confidence_bins

Areas = tuple[NDArray[np.float64], NDArray[np.float64]]  # ROC-AUC and average precision, (k, r) each
Resampled = dict[str, NDArray[np.float64]]  # measure → its value on the split, then on each resample: see `resample`

AREAS = ("roc_auc", "pr_auc")  # the measures that are areas under curves
TOP_CLASSES = 5  # among which `top_5_accuracy` looks for the label
# Fewer resamples are drawn than were asked for only where they would cost more than this, but at least MIN_RESAMPLES.
MIN_RESAMPLES = 200
MAX_DRAWN_BYTES = 2**27  # of how often each group is drawn: 2,000 resamples of 67,000 groups
MAX_COMPARISONS = 3e10  # of ranks: about as many nanoseconds
BLOCK_NUMBERS = 2**20  # in an array at a time: what fits a cache is faster than what is larger
MIN_SORTED_IMAGES = 100  # of a class: from here on, sorting all images costs less than comparing each with all
MAX_SORTED = 2**22  # images times classes whose order is held at a time: 50 MB


@dataclass(frozen=True)
class Resampling:
    """How a bootstrap draws."""

    resamples: int
    seed: int


def measure_names(classes: int) -> tuple[str, ...]:
    """Return the names of the measures for a number of classes."""
    return (
        *("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "pr_auc", "log_loss", "brier", "ece"),
        *(("top_5_accuracy",) if classes > TOP_CLASSES else ()),
    )


def resample(scored: Scored, bins: int, resampling: Resampling, *, areas: bool = True) -> Resampled:
    """Return measure → (r,) float64: its value on the split, then on each resample.

    The measures are those of `metrics.classification_metrics`, plain and `_weighted`. But `ece` and `ece_weighted` are
    (bins, r): the difference of confidence and accuracy in each bin times the bin's share. The sum of their sizes is
    the error.

    The resamples depend only on the groups, on the counts of the labels and on the seed; the `_weighted` ones on those
    of the images that have a weight. So the resamples of two models on one split are paired.

    Args:
        scored: the images of a split.
        bins: those of the calibration error.
        resampling: how the groups are resampled.
        areas: whether `roc_auc` and `pr_auc` are among the measures. With many classes they take nearly all the time.

    Returns:
        The measures. Without images they are NaN, and so is what a resample leaves undefined.
    """
    plain = _resample(replace(scored, weights=np.ones(len(scored))), bins, resampling, areas)
    counted = scored.weights > 0
    if counted.all() and len(np.unique(scored.weights)) == 1:
        weighted = plain
    else:
        weights = scored.weights.astype(np.float64)
        weighted = _resample(replace(scored, weights=weights).take(counted), bins, resampling, areas)
    return {**plain, **{f"{name}_weighted": values for name, values in weighted.items()}}


def interval(values: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of (r,) resampled values: the middle 95 % of the resamples where it is defined."""
    value, draws = values[0], values[1:][~np.isnan(values[1:])]
    if np.isnan(value):
        return None, None, None
    if len(draws) < 2 or np.ptp(draws) < 1e-12:
        return float(value), None, None
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(value), float(low), float(high)


def shifted_interval(values: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of (r,) resampled values, in 0 … 1, of a measure that is biased where images are few.

    A resample draws some images twice. Where a class has a handful of images, this alone raises its average precision
    and lowers its F1, until the middle 95 % of the resamples leave out the value itself. So the resamples are shifted
    until their median is the value. The value may be off by as much, compared with that of endless images: the
    interval also holds the resamples shifted twice as far. Of the average precision of classes with few images it
    still holds this limit too rarely. It holds the mean of such splits.
    """
    value, low, high = interval(values)
    if value is None or low is None:
        return value, low, high
    bias = float(np.nanmedian(values[1:])) - value
    low, high = low - bias - max(bias, 0.0), high - bias - min(bias, 0.0)
    return value, max(low, 0.0), min(high, 1.0)


def calibration_interval(gaps: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of the calibration error of resampled gaps (bins, r).

    The error is a sum of sizes. So it is biased upwards, and resampling adds the bias again: of a model without error,
    the middle of the resamples never covers 0. A test is inverted instead.

    A model whose error is a multiple of the one observed has the gaps of the split times that factor. Its splits are
    these gaps plus what the resamples scatter around them. The interval goes from the error at which 2.5 % of such
    splits have at least the observed error to that at which 97.5 % have. It may lie below the observed error, where
    that is no more than chance makes of a smaller one. Where a handful of images is predicted wrongly, it covers less
    than 95 %.
    """
    observed, scatter = gaps[:, :1], gaps[:, 1:] - gaps[:, :1]
    value = float(np.abs(observed).sum())
    if np.isnan(value):
        return None, None, None
    if not scatter.shape[1] or np.ptp(scatter) < 1e-12 or value < 1e-6:  # of no error there is no multiple
        return value, None, None
    shares = observed / value
    # For each resample, the largest error with which it has no more than the observed one. What the resample has is
    # convex in that error and piecewise linear: Newton's steps from above end after at most one for each piece.
    error = value + np.abs(scatter).sum(axis=0)
    for _ in range(len(gaps) + 1):
        moved = error * shares + scatter
        slope = (shares * np.sign(moved)).sum(axis=0)
        excess = (np.abs(moved).sum(axis=0) - value).clip(0)
        error = np.where(slope > 1e-12, error - excess / slope.clip(1e-12), np.where(excess > 0, 0.0, error))
    low, high = np.quantile(error.clip(0, 1), [0.025, 0.975])
    return value, float(low), float(high)


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def _resample(scored: Scored, bins: int, resampling: Resampling, areas: bool) -> Resampled:
    """Return the measures of `resample` for weights that are all above 0."""
    count, classes = len(scored), scored.class_count
    names = [name for name in measure_names(classes) if areas or name not in AREAS]
    if not count:
        return {name: np.full((1, 1) if name == "ece" else 1, np.nan) for name in names}
    labels, predictions, hits, confidence = scored.labels, scored.predictions, scored.hits, scored.confidence
    means = _image_values(scored)
    image_values = np.stack([np.ones(count), *means.values()])
    present, label = np.unique(labels, return_inverse=True)
    predicts_present = np.isin(predictions, present)
    sum_labels, sum_hits = sum_by(label, np.ones(count), len(present)), sum_by(label, hits, len(present))
    sum_predictions = sum_by(np.searchsorted(present, predictions), predicts_present, len(present))
    sum_gaps = sum_by(confidence_bins(confidence, bins), confidence - hits, bins)

    group, times = draw(scored.groups, resampling)
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names if name not in AREAS}
    for part in blocks(count, times.shape[1]):
        counts = times[group, part] * scored.weights[:, None]
        total, *sums = image_values @ counts
        for name, values in zip(means, sums, strict=True):
            parts[name].append(values / total)
        actual, correct = sum_labels @ counts, sum_hits @ counts
        parts["balanced_accuracy"].append(_mean_ratio(correct, actual, actual > 0))
        parts["macro_f1"].append(_mean_ratio(2 * correct, actual + sum_predictions @ counts, actual > 0))
        parts["ece"].append(sum_gaps @ counts / total)
    result = {name: np.concatenate(values, axis=-1) for name, values in parts.items()}
    if not areas:
        return result
    positives = np.array([1]) if classes == 2 else present
    resamples = min(times.shape[1], 1 + _affordable(labels, positives))
    sums, defined = np.zeros((2, len(AREAS), resamples))
    by_class = _areas(
        scored, positives, lambda part: times[group, part] * scored.weights[:, None], [*blocks(count, resamples)]
    )
    for part, _, *both in by_class:
        for number, values in enumerate(both):
            sums[number, part] = np.vstack([sums[number, part], np.nan_to_num(values)]).sum(axis=0)
            defined[number, part] += (~np.isnan(values)).sum(axis=0)
    means = np.divide(sums, defined, out=np.full(sums.shape, np.nan), where=defined > 0)
    result |= dict(zip(AREAS, means, strict=True))
    return {name: result[name] for name in names}


def _image_values(scored: Scored) -> dict[str, NDArray[np.generic]]:
    """Return measure → (n,) values, one for each image, whose weighted mean is the measure."""
    p = scored.probabilities
    likelihoods = p[np.arange(len(scored)), scored.labels]
    epsilon = np.finfo(np.float64).eps
    values = {
        "accuracy": scored.hits,
        "log_loss": -np.log(likelihoods.clip(epsilon, 1 - epsilon)),
        # sum over classes of (p - y)² = sum of p² - 2 p[label] + 1
        "brier": (np.einsum("ij,ij->i", p, p) - 2 * likelihoods + 1) / 2,
    }
    if scored.class_count > TOP_CLASSES:
        values["top_5_accuracy"] = _rank(p, scored.labels) < TOP_CLASSES
    return values


@threadpool_limits.wrap(limits=1)
def resample_classes(scored: Scored, resampling: Resampling) -> dict[str, NDArray[np.float64]]:
    """Return the measures of `metrics.class_metrics`: measure → (c, r) float64, each image counted once."""
    count, classes, labels, predictions = len(scored), scored.class_count, scored.labels, scored.predictions
    names = ("precision", "recall", "f1", "roc_auc", "pr_auc")
    if not count:
        return {name: np.full((classes, 1), np.nan) for name in names}
    present = np.unique(labels)
    most = min(resampling.resamples, _affordable(labels, present), max(MIN_RESAMPLES, 8 * BLOCK_NUMBERS // classes))
    group, times = draw(scored.groups, replace(resampling, resamples=most))
    result = {name: np.full((classes, times.shape[1]), np.nan) for name in names}
    sum_labels, sum_predictions = (sum_by(array, np.ones(count), classes) for array in (labels, predictions))
    sum_hits = sum_by(labels, scored.hits, classes)
    parts = [*blocks(count, times.shape[1])]
    for part in parts:
        counts = times[group, part].astype(np.float64)
        actual, predicted, correct = sum_labels @ counts, sum_predictions @ counts, sum_hits @ counts
        exists = actual > 0
        np.divide(correct, predicted, out=result["precision"][:, part], where=exists & (predicted > 0))
        np.divide(correct, actual, out=result["recall"][:, part], where=exists)
        np.divide(2 * correct, actual + predicted, out=result["f1"][:, part], where=exists)
    for part, block, *both in _areas(scored, present, lambda part: times[group, part].astype(np.float64), parts):
        for name, values in zip(AREAS, both, strict=True):
            result[name][block, part] = values
    return result


def count_resamples(groups: int, wanted: int) -> int:
    """Return how many resamples of so many groups are drawn, where `wanted` are asked for."""
    return min(wanted, max(MIN_RESAMPLES, MAX_DRAWN_BYTES // max(1, groups)))


def draw(
    groups: NDArray[np.str_] | NDArray[np.integer], resampling: Resampling
) -> tuple[NDArray[np.integer], NDArray[np.uint8]]:
    """Return the group number (n,) of each image, and how often each group stands in each of r resamples, (groups, r).

    The first column is the split itself, each group once.
    """
    unique, group = np.unique(groups, return_inverse=True)
    return group, _draw_times(len(unique), count_resamples(len(unique), resampling.resamples), resampling.seed)


@lru_cache(maxsize=1)  # all models are measured on the same resamples of a split
def _draw_times(count: int, resamples: int, seed: int) -> NDArray[np.uint8]:
    times = np.ones((count, 1 + resamples), np.uint8)
    generator = np.random.default_rng(seed)
    for part in blocks(count, resamples):
        drawn = generator.integers(0, count, (part.stop - part.start, count))
        drawn += count * np.arange(len(drawn))[:, None]
        # None of hundreds of groups is drawn 256 times: that has a chance of 1 to 10^507.
        times[:, 1:][:, part] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).T
    times.flags.writeable = False
    return times


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of the columns, of at most BLOCK_NUMBERS numbers or one column each."""
    step = max(1, BLOCK_NUMBERS // rows)
    for start in range(0, columns, step):
        yield slice(start, min(start + step, columns))


def sum_by(rows: NDArray[np.integer], values: NDArray[np.generic], count: int) -> csr_array:
    """Return the matrix (count, n) that, times (n, r), sums the images of each row, each times its value."""
    used = values != 0
    return csr_array((values[used].astype(np.float64), (rows[used], np.flatnonzero(used))), shape=(count, len(rows)))


def _mean_ratio(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64], defined: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the mean of (k, r) ratios over the rows where they are defined, (r,), NaN where none is."""
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=defined)
    rows = defined.sum(axis=0)
    return np.divide(ratio.sum(axis=0), rows, out=np.full(len(rows), np.nan), where=rows > 0)


def _rank(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return how many classes stand before the label's (n,): more probable ones, and as probable ones before it."""
    ranks = np.empty(len(labels), np.int64)
    step = max(1, BLOCK_NUMBERS // probabilities.shape[1])
    for start in range(0, len(labels), step):
        p, label = probabilities[start : start + step], labels[start : start + step, None]
        own = np.take_along_axis(p, label, axis=1)
        before = (p == own) & (np.arange(p.shape[1]) < label)
        ranks[start : start + step] = ((p > own) | before).sum(axis=1)
    return ranks


def _affordable(labels: NDArray[np.integer], positives: NDArray[np.integer]) -> int:
    """Return how many resamples of the areas under the curves of the classes `positives` cost MAX_COMPARISONS."""
    sizes = np.bincount(labels, minlength=positives.max() + 1)[positives]
    nanoseconds = len(labels) * 0.1 * np.minimum(sizes, MIN_SORTED_IMAGES).sum()
    return max(MIN_RESAMPLES, int(MAX_COMPARISONS / max(nanoseconds, 1)))


def _areas(
    scored: Scored,
    positives: NDArray[np.integer],
    counts_in: Callable[[slice], NDArray[np.float64]],
    parts: Sequence[slice],
) -> Iterator[tuple[slice, NDArray[np.integer], NDArray[np.float64], NDArray[np.float64]]]:
    """Yield the areas of some classes in some resamples, until all of both have come.

    Args:
        scored: the images (n).
        positives: (k,) numbers of classes.
        counts_in: returns how much each image counts in each resample of a part, (n, part).
        parts: of the resamples.

    Yields:
        A part, the numbers of classes, and their areas. Where a resample has no image of the class, or none of another,
        both areas are NaN.
    """
    probabilities, labels = scored.probabilities, scored.labels
    sizes = np.bincount(labels, minlength=scored.class_count)
    is_large = sizes[positives] >= MIN_SORTED_IMAGES
    large, small = positives[is_large], positives[~is_large]
    held = max(1, MAX_SORTED // len(scored))
    for start in range(0, len(large), held):
        sorted_scores = [(k, SortedScores.of(probabilities[:, k], labels == k)) for k in large[start : start + held]]
        for part in parts:
            counts = counts_in(part)
            for k, scores in sorted_scores:
                yield part, np.array([k]), *scores.areas(counts)
    by_class, starts = np.argsort(labels, kind="stable"), np.cumsum(sizes) - sizes
    for part in parts if len(small) else ():
        counts, left = counts_in(part), small
        counts = counts.astype(_exact_dtype(counts))
        while len(left):
            fitting = int(np.searchsorted(np.cumsum(sizes[left]), BLOCK_NUMBERS // 4 // len(scored), side="right"))
            block, left = np.split(left, [max(1, fitting)])
            members = [by_class[starts[k] : starts[k] + sizes[k]] for k in block]
            yield part, block, *_areas_by_comparing(scored, block, members, counts)


@dataclass(frozen=True)
class SortedScores:
    """The scores of one class, in falling steps: sorted once for all resamples.

    A step takes all images of a score where one of them is of the class; what lies between two such is one step.
    """

    positives: csr_array  # (steps, n), the images of the class in each step
    negatives: csr_array  # likewise, the others

    @classmethod
    def of(cls, scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> "SortedScores":
        """Sort the scores (n,) of images of which `truth` (n,) says whether they are of the class."""
        values, score = np.unique(-scores, return_inverse=True)
        has_positive = np.bincount(score[truth], minlength=len(values)) > 0
        step = np.cumsum(has_positive | np.append(True, has_positive[:-1]))[score] - 1
        return cls(*(sum_by(step, chosen, step.max() + 1) for chosen in (truth, ~truth)))

    def areas(self, counts: NDArray[np.float64]) -> Areas:
        """Return both areas (1, r); counts (n, r) says how much each image counts in each resample."""
        positives, negatives = self.positives @ counts, self.negatives @ counts
        true_positives, false_positives = np.cumsum(positives, axis=0), np.cumsum(negatives, axis=0)
        beaten = false_positives[-1] - false_positives + negatives / 2
        reached = true_positives + false_positives
        precision = np.divide(true_positives, reached, out=np.zeros_like(true_positives), where=reached > 0)
        pairs, precisions = (positives * beaten).sum(axis=0), (positives * precision).sum(axis=0)
        return _divide_areas(pairs, precisions, true_positives[-1], false_positives[-1])


def _areas_by_comparing(
    scored: Scored, block: NDArray[np.integer], members: list[NDArray[np.integer]], counts: NDArray[np.floating]
) -> Areas:
    """Return both areas of the classes of a block by comparing each of their images with all images.

    Made for many small classes: it compares a column of scores for each image, not all scores for each class.

    Args:
        scored: all images (n).
        block: (k,) numbers of classes.
        members: of each of these classes, the images, rising.
        counts: (n, r), how much each image counts in each resample, as `_exact_dtype` has them.

    Returns:
        ROC-AUC and average precision, (k, r) each.
    """
    probabilities, rows = scored.probabilities, np.concatenate(members)
    labels = scored.labels[rows]
    scores, own = probabilities[:, labels].T, probabilities[rows, labels, None]
    reached = _sums(scores >= own, counts)
    sizes = np.array([len(images) for images in members])
    # The pairs of images of one class: the number of the one among the rows, and the other image.
    row = np.arange(len(rows)).repeat(sizes.repeat(sizes))
    other = np.concatenate([np.tile(images, len(images)) for images in members])
    as_high = probabilities[other, labels[row]] >= own[row, 0]
    ones = np.ones(np.count_nonzero(as_high), counts.dtype)
    pairs = csr_array((ones, (row[as_high], other[as_high])), shape=(len(rows), len(scored)))
    true_positives = (pairs @ counts).astype(np.float64)
    false_positives = reached - true_positives
    level = scores == own
    level[row, other] = False
    if level.any():
        false_positives -= _sums(level, counts) / 2
    number_in_block = np.arange(len(block)).repeat(sizes)
    sum_classes = sum_by(number_in_block, np.ones(len(rows)), len(block))
    row_counts = counts[rows].astype(np.float64)
    positive = sum_classes @ row_counts
    negative = counts.sum(axis=0).astype(np.float64) - positive
    beaten = negative[number_in_block] - false_positives
    precision = np.divide(true_positives, reached, out=np.zeros_like(true_positives), where=reached > 0)
    return _divide_areas(
        sum_classes @ (row_counts * beaten), sum_classes @ (row_counts * precision), positive, negative
    )


def _sums(chosen: NDArray[np.bool_], counts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the sums (m, r) of the counts (n, r) over the images that are chosen in each row (m, n)."""
    return (chosen.astype(counts.dtype) @ counts).astype(np.float64)


def _exact_dtype(counts: NDArray[np.float64]) -> type[np.floating]:
    """Return float32, which is twice as fast, if every sum of some of the counts (n, r) is exact in it, else float64.

    So it is of whole numbers whose sum stays below 2^24, such as where every label weighs 1.
    """
    is_exact = counts.sum(axis=0).max() < 2**24 and (counts == np.rint(counts)).all()
    return np.float32 if is_exact else np.float64


def _divide_areas(
    pairs: NDArray[np.float64],
    precisions: NDArray[np.float64],
    positive: NDArray[np.float64],
    negative: NDArray[np.float64],
) -> Areas:
    """Return pairs in the right order as a share of all pairs, and the mean of the precisions, NaN where undefined.

    Args:
        pairs: (k, r) or (r,), sum of the pairs of a positive and a negative image in the right order.
        precisions: likewise, sum of the precisions at the positive images.
        positive: likewise, sum of the positive images.
        negative: likewise, sum of the negative images.

    Returns:
        ROC-AUC and average precision, (k, r) each.
    """
    pairs, precisions, positive, negative = np.atleast_2d(pairs, precisions, positive, negative)
    defined = (positive > 0) & (negative > 0)
    return (
        np.divide(pairs, positive * negative, out=np.full(pairs.shape, np.nan), where=defined),
        np.divide(precisions, positive, out=np.full(pairs.shape, np.nan), where=defined),
    )
