"""How good a classifier is: measures with their intervals, and the curves behind them. Pure functions.

Throughout, n is the number of images and c >= 2 that of classes; `probabilities` is (n, c) float64 in rows
that sum to 1, `labels` and `predictions` are (n,) integers in 0 … c - 1. With two classes, class 1 is the
positive one. `weights` (n,) are >= 0: a measure X counts each image once, X_weighted as much as it weighs.

Every interval is of 95 %. But for the accuracy it is a bootstrap over `groups` (n,): a resample draws as many groups
as there are, with replacement, and takes or leaves their images together, since near-duplicates tell the same twice.

What a split leaves undefined (it has no image, or lacks a class) is None or no rows, never NaN and never a warning.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.metrics import precision_recall_curve as sk_precision_recall_curve
from sklearn.metrics import roc_curve as sk_roc_curve
from threadpoolctl import threadpool_limits

Row = dict[str, str | float | int | None]

Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution: 95 % lie between -Z and Z
POINTS = 200  # of a curve: finer than a plot of a few hundred pixels can show, and about 4 KB of CSV
TOP = 5  # labels among which `top_5_accuracy` looks
# What bounds the bootstrap: at LEAST resamples are drawn, fewer than were asked for only where they would cost more.
LEAST = 200
DRAWN = 2**27  # bytes of how often each group is drawn: 2,000 resamples of 67,000 groups
HELD = 2**20  # numbers in an array at a time: what fits a cache is faster than what is larger
RANKED = 3e10  # comparisons of ranks: about as many nanoseconds
MANY = 100  # images of a class from which on sorting all images costs less than comparing each with all


def names(classes: int) -> tuple[str, ...]:
    """Return the keys of `classification_metrics` for a number of classes, in their order.

    For each measure X: `X`, `X_low`, `X_high`, `X_weighted`, `X_weighted_low`, `X_weighted_high`.
    """
    kinds = [name + kind for name in _measures(classes) for kind in ("", "_weighted")]
    return tuple(kind + end for kind in kinds for end in ("", "_low", "_high"))


def classification_metrics(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    groups: NDArray[np.str_] | NDArray[np.integer],
    *,
    bins: int,
    bootstrap: int,
    seed: int,
) -> dict[str, float | None]:
    """Return the metrics of one model on one split, with the keys `names(c)`.

    - `accuracy`, whose interval is Wilson's, of images that are independent. So is that of `accuracy_weighted` where
      all weigh the same or resamples say nothing, of as many groups of equal weight as tell as much (Kish 1965).
    - `top_5_accuracy`, with more than five classes: the label is among the five most probable ones (of equally
      probable ones, those of lower number).
    - `balanced_accuracy`, `macro_f1`: means over the classes that have an image of recall and of F1.
    - `roc_auc`, `pr_auc` (average precision): of class 1 with two classes, else the mean over the classes that
      have an image of each against the rest.
    - `log_loss`: natural logarithm; probabilities are clipped at the machine's epsilon, as scikit-learn does.
    - `brier`: the squared error summed over the classes and halved: it lies in 0 … 1 for any number of
      classes and is the usual Brier score for two (scikit-learn's `brier_score_loss(…, scale_by_half=True)`).
    - `ece`: expected calibration error of the top class over `bins` bins of equal width (Guo et al. 2017,
      arXiv 1706.04599).

    The interval of `ece` is `calibration_interval`; the others are the middle 95 % of the resamples.

    An interval is None where resamples say nothing: one group, or every resample the same (as for a model that
    makes no mistake, of whose error they cannot tell). `bootstrap` resamples are drawn, or fewer, but at least LEAST,
    where there are very many images or classes.
    """
    result: dict[str, float | None] = {}
    scores = resampled(probabilities, labels, weights, groups, bins=bins, bootstrap=bootstrap, seed=seed)
    for name, values in scores.items():
        bounds = calibration_interval(values) if name.startswith("ece") else interval(values)
        if name.startswith("ece") and np.ptp(scores[name.replace("ece", "accuracy")]) < 1e-12:
            bounds = bounds[0], None, None
        result |= dict(zip((name, f"{name}_low", f"{name}_high"), bounds, strict=True))
    if len(labels):
        hits = probabilities.argmax(axis=1) == labels
        result["accuracy_low"], result["accuracy_high"] = wilson(int(hits.sum()), len(hits))
    effective = _effective(weights, groups)
    if effective > 1 and (result["accuracy_weighted_low"] is None or np.ptp(weights) == 0):
        bounds = wilson(result["accuracy_weighted"] * effective, effective)
        result["accuracy_weighted_low"], result["accuracy_weighted_high"] = bounds
    return {name: result[name] for name in names(probabilities.shape[1])}


def resampled(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    groups: NDArray[np.str_] | NDArray[np.integer],
    *,
    bins: int,
    bootstrap: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Return measure → (1 + resamples,): its value on the split, then on each resample, NaN where undefined.

    The measures are those of `classification_metrics`, but `ece` and `ece_weighted` are (bins, 1 + resamples), the
    difference of confidence and accuracy in each bin times the bin's share: the sum of their sizes is the error. The
    resamples depend on the groups (the `_weighted` ones on those that have a weight), the counts of the labels and
    the seed alone: those of two models on one split are paired.
    """
    plain = _resampled(probabilities, labels, np.ones(len(labels)), groups, bins, bootstrap, seed)
    counted = weights > 0
    if counted.all() and len(np.unique(weights)) == 1:
        weighted = plain
    else:
        parts = (array[counted] for array in (probabilities, labels, weights.astype(np.float64), groups))
        weighted = _resampled(*parts, bins, bootstrap, seed)
    return {**plain, **{f"{name}_weighted": values for name, values in weighted.items()}}


def interval(values: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of `resampled` values: the middle 95 % of the resamples where it is defined."""
    value, draws = values[0], values[1:][~np.isnan(values[1:])]
    if np.isnan(value):
        return None, None, None
    if len(draws) < 2 or np.ptp(draws) < 1e-12:
        return float(value), None, None
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(value), float(low), float(high)


def per_class(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    groups: NDArray[np.str_] | NDArray[np.integer],
    classes: Sequence[str],
    *,
    bootstrap: int,
    seed: int,
) -> list[Row]:
    """Return a row for each class, in their order, each image counted once.

    `class`, `support` (images of it), `predicted` (images taken for it), and `precision`, `recall`, `f1`, `roc_auc`,
    `pr_auc` of the class against the rest, each with `X_low` and `X_high` (95 %, bootstrap over groups). None where
    undefined: the precision of a class that is never predicted, all but that of one without an image, and an interval
    where resamples say nothing (one group, or every resample the same).
    """
    predictions = probabilities.argmax(axis=1)
    support, predicted = (np.bincount(array, minlength=len(classes)).tolist() for array in (labels, predictions))
    rows: list[Row] = [
        {"class": name, "support": of_label, "predicted": of_prediction}
        for name, of_label, of_prediction in zip(classes, support, predicted, strict=True)
    ]
    for name, values in _resampled_classes(probabilities, labels, predictions, groups, bootstrap, seed).items():
        for row, of_class in zip(rows, values, strict=True):
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), interval(of_class), strict=True))
    return rows


def wilson(hits: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a proportion `hits / count` (count > 0), after Wilson 1927.

    Unlike the normal approximation it stays within 0 … 1 and is right near both ends. It takes the images as
    independent.
    """
    centre = (hits + Z**2 / 2) / (count + Z**2)
    half = Z / (count + Z**2) * math.sqrt(max(0.0, hits * (count - hits) / count) + Z**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion(labels: NDArray[np.integer], predictions: NDArray[np.integer], classes: Sequence[str]) -> list[Row]:
    """Return `actual` and `predicted` of each image; DVC's template `confusion` counts them."""
    return [
        {"actual": classes[label], "predicted": classes[prediction]}
        for label, prediction in zip(labels.tolist(), predictions.tolist(), strict=True)
    ]


def roc_curve(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> list[Row]:
    """Return at most POINTS points of `false_positive_rate` and `true_positive_rate`, rising from 0 to 1.

    With more than two classes it is the micro average: each image is asked once for each class.
    """
    truth, scores, counts = _one_against_rest(probabilities, labels)
    if truth.all() or not truth.any():
        return []
    false_positive_rate, true_positive_rate, _ = sk_roc_curve(truth, scores, sample_weight=counts)
    return _thin(false_positive_rate=false_positive_rate, true_positive_rate=true_positive_rate)


def precision_recall_curve(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> list[Row]:
    """Return at most POINTS points of `recall`, rising from 0 to 1, and `precision`; averaged as `roc_curve`.

    It starts at recall 0 with precision 1, as scikit-learn has it.
    """
    truth, scores, counts = _one_against_rest(probabilities, labels)
    if truth.all() or not truth.any():
        return []
    precision, recall, _ = sk_precision_recall_curve(truth, scores, sample_weight=counts)
    return _thin(recall=recall[::-1], precision=precision[::-1])


def calibration_curve(probabilities: NDArray[np.float64], labels: NDArray[np.integer], bins: int) -> list[Row]:
    """Return mean `confidence`, `accuracy` and `count` of each of the `bins` of `ece` that holds an image."""
    confidence, accuracy, sizes = _reliability(probabilities, labels, bins)
    return [
        {"confidence": round(mean, 6), "accuracy": round(share, 6), "count": size}
        for mean, share, size in zip(confidence.tolist(), accuracy.tolist(), sizes.tolist(), strict=True)
    ]


def calibration_interval(gaps: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Return value, low and high of the calibration error of `resampled` gaps (bins, 1 + resamples).

    The error is a sum of sizes: chance can only add to it, and a resample adds chance once more, so that the middle
    of the resamples lies too high (of a model without error they cover 0 % of the time). Instead: the gaps of the
    split times a factor, plus what the resamples scatter around them, are splits of a model whose error is that
    factor times the one observed. The interval goes from the error at which 2.5 % of them have at least the observed
    one to that at which 97.5 % have (the inversion of a test). It may lie below the observed error, where that is no
    more than what chance makes of a smaller one. Where a handful of answers is wrong, it covers less than 95 %.
    """
    observed, scatter = gaps[:, :1], gaps[:, 1:] - gaps[:, :1]
    value = float(np.abs(observed).sum())
    if np.isnan(value):
        return None, None, None
    if not scatter.shape[1] or np.ptp(scatter) < 1e-12 or value < 1e-6:  # of no error there is no multiple
        return value, None, None
    shares = observed / value
    # Of each resample, the largest error with which it has no more than the observed one. What it has is convex in
    # that and made of lines: steps from above reach the place in as many as there are lines.
    error = value + np.abs(scatter).sum(axis=0)
    for _ in range(len(gaps) + 1):
        moved = error * shares + scatter
        slope = (shares * np.sign(moved)).sum(axis=0)
        excess = (np.abs(moved).sum(axis=0) - value).clip(0)
        error = np.where(slope > 1e-12, error - excess / slope.clip(1e-12), np.where(excess > 0, 0.0, error))
    low, high = np.quantile(error.clip(0, 1), [0.025, 0.975])
    return value, float(low), float(high)


def _effective(weights: NDArray[np.floating], groups: NDArray[np.str_] | NDArray[np.integer]) -> float:
    """Return how many groups of equal weight tell as much, 0 where nothing weighs anything."""
    _, group = np.unique(groups, return_inverse=True)
    of_group = np.bincount(group, weights) if len(weights) else weights
    return float(of_group.sum() ** 2 / (of_group**2).sum()) if of_group.any() else 0.0


def _measures(classes: int) -> tuple[str, ...]:
    return (
        *("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "pr_auc", "log_loss", "brier", "ece"),
        *(("top_5_accuracy",) if classes > TOP else ()),
    )


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def _resampled(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    weights: NDArray[np.float64],
    groups: NDArray[np.str_] | NDArray[np.integer],
    bins: int,
    bootstrap: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Return the measures of `resampled` for weights that are all above 0."""
    count, classes = probabilities.shape
    if not count:
        return {name: np.full((1, 1) if name == "ece" else 1, np.nan) for name in _measures(classes)}
    predictions = probabilities.argmax(axis=1)
    hits = predictions == labels
    confidence = probabilities.max(axis=1)
    likelihoods = probabilities[np.arange(count), labels]
    epsilon = np.finfo(np.float64).eps
    means = {
        "accuracy": hits,
        "log_loss": -np.log(likelihoods.clip(epsilon, 1 - epsilon)),
        # sum over classes of (p - y)² = sum of p² - 2 p[label] + 1
        "brier": (np.einsum("ij,ij->i", probabilities, probabilities) - 2 * likelihoods + 1) / 2,
    }
    if classes > TOP:
        means["top_5_accuracy"] = _rank(probabilities, labels) < TOP
    of_image = np.stack([np.ones(count), *means.values()])
    present, label = np.unique(labels, return_inverse=True)
    known = np.isin(predictions, present)
    of_label, of_hit = _sum_by(label, np.ones(count), len(present)), _sum_by(label, hits, len(present))
    of_prediction = _sum_by(np.searchsorted(present, predictions), known, len(present))
    of_bin = _sum_by(_bin(confidence, bins), confidence - hits, bins)

    group, times = _draw(groups, bootstrap, seed)
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in _measures(classes)}
    for part in _blocks(count, times.shape[1]):
        c = times[group, part] * weights[:, None]
        total, *sums = of_image @ c
        for name, values in zip(means, sums, strict=True):
            parts[name].append(values / total)
        actual, correct = of_label @ c, of_hit @ c
        parts["balanced_accuracy"].append(_mean_ratio(correct, actual, actual > 0))
        parts["macro_f1"].append(_mean_ratio(2 * correct, actual + of_prediction @ c, actual > 0))
        parts["ece"].append(of_bin @ c / total)
    positives = np.array([1]) if classes == 2 else present
    for part in _blocks(count, min(times.shape[1], 1 + _affordable(labels, positives))):
        blocks = _areas(probabilities, labels, positives, times[group, part] * weights[:, None])
        _, *areas = map(np.concatenate, zip(*blocks, strict=True))
        for name, values in zip(("roc_auc", "pr_auc"), areas, strict=True):
            parts[name].append(_mean_ratio(values, np.ones_like(values), ~np.isnan(values)))
    return {name: np.concatenate(values, axis=-1) for name, values in parts.items()}


@threadpool_limits.wrap(limits=1)
def _resampled_classes(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    predictions: NDArray[np.integer],
    groups: NDArray[np.str_] | NDArray[np.integer],
    bootstrap: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Return the measures of `per_class`, each (c, 1 + resamples), NaN where undefined."""
    count, classes = probabilities.shape
    names = ("precision", "recall", "f1", "roc_auc", "pr_auc")
    if not count:
        return {name: np.full((classes, 1), np.nan) for name in names}
    present = np.unique(labels)
    group, times = _draw(groups, min(bootstrap, _affordable(labels, present), max(LEAST, 8 * HELD // classes)), seed)
    result = {name: np.full((classes, times.shape[1]), np.nan) for name in names}
    of_label, of_prediction = (_sum_by(array, np.ones(count), classes) for array in (labels, predictions))
    of_hit = _sum_by(labels, predictions == labels, classes)
    for part in _blocks(count, times.shape[1]):
        c = times[group, part].astype(np.float64)
        actual, predicted, correct = of_label @ c, of_prediction @ c, of_hit @ c
        exists = actual > 0
        np.divide(correct, predicted, out=result["precision"][:, part], where=exists & (predicted > 0))
        np.divide(correct, actual, out=result["recall"][:, part], where=exists)
        np.divide(2 * correct, actual + predicted, out=result["f1"][:, part], where=exists)
        for block, roc_auc, pr_auc in _areas(probabilities, labels, present, c):
            result["roc_auc"][block, part], result["pr_auc"][block, part] = roc_auc, pr_auc
    return result


def _draw(
    groups: NDArray[np.str_] | NDArray[np.integer], bootstrap: int, seed: int
) -> tuple[NDArray[np.integer], NDArray[np.uint8]]:
    """Return the group of each image (n,), and how often each group stands in the split and in each resample.

    (g, 1 + resamples): the first column is the split itself, each group once.
    """
    unique, group = np.unique(groups, return_inverse=True)
    count = len(unique)
    bootstrap = min(bootstrap, max(LEAST, DRAWN // count))
    times = np.ones((count, 1 + bootstrap), np.uint8)
    generator = np.random.default_rng(seed)
    for part in _blocks(count, bootstrap):
        drawn = generator.integers(0, count, (part.stop - part.start, count))
        drawn += count * np.arange(len(drawn))[:, None]
        # None of hundreds of groups is drawn 256 times: that has a chance of 1 to 10^507.
        times[:, 1:][:, part] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).T
    return group, times


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of the columns, of at most HELD numbers or one column each."""
    step = max(1, HELD // rows)
    for start in range(0, columns, step):
        yield slice(start, min(start + step, columns))


def _sum_by(rows: NDArray[np.integer], values: NDArray[np.generic], count: int) -> csr_array:
    """Return the matrix (count, n) that, times (n, r), sums the images of each row, each times its value."""
    kept = values != 0
    return csr_array((values[kept].astype(np.float64), (rows[kept], np.flatnonzero(kept))), shape=(count, len(rows)))


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
    step = max(1, HELD // probabilities.shape[1])
    for start in range(0, len(labels), step):
        p, label = probabilities[start : start + step], labels[start : start + step, None]
        own = np.take_along_axis(p, label, axis=1)
        before = (p == own) & (np.arange(p.shape[1]) < label)
        ranks[start : start + step] = ((p > own) | before).sum(axis=1)
    return ranks


def _affordable(labels: NDArray[np.integer], positives: NDArray[np.integer]) -> int:
    """Return how many resamples of the areas under the curves of the classes `positives` RANKED pays for."""
    sizes = np.bincount(labels, minlength=positives.max() + 1)[positives]
    nanoseconds = len(labels) * 0.1 * np.minimum(sizes, MANY).sum()
    return max(LEAST, int(RANKED / max(nanoseconds, 1)))


def _areas(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    positives: NDArray[np.integer],
    c: NDArray[np.float64],
) -> Iterator[tuple[NDArray[np.integer], NDArray[np.float64], NDArray[np.float64]]]:
    """Yield some of the classes `positives` (k,), their ROC-AUC and average precision (k, r), until all are had.

    c (n, r) says how much each image counts in each resample. Where a resample has no image of the class, or none of
    another, both are NaN.
    """
    count, classes = probabilities.shape
    sizes = np.bincount(labels, minlength=classes)
    for k in positives[sizes[positives] >= MANY]:
        yield np.array([k]), *_areas_by_sorting(probabilities[:, k], labels == k, c)
    few = positives[sizes[positives] < MANY]
    by_class, starts = np.argsort(labels, kind="stable"), np.cumsum(sizes) - sizes
    while len(few):
        fits = max(1, int(np.searchsorted(np.cumsum(sizes[few]), HELD // 4 // count, side="right")))
        block, few = few[:fits], few[fits:]
        rows = np.concatenate([by_class[starts[k] : starts[k] + sizes[k]] for k in block])
        yield block, *_areas_by_comparing(probabilities, labels, block, rows, c)


def _areas_by_sorting(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], c: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both areas (1, r) of one class by going down its scores (n,), in steps.

    A step takes all images of a score where one of them is of the class; what lies between two such is one step.
    """
    values, score = np.unique(-scores, return_inverse=True)
    holds = np.bincount(score[truth], minlength=len(values)) > 0
    step = np.cumsum(holds | np.append(True, holds[:-1]))[score] - 1
    gained = _sum_by(step, truth, step.max() + 1) @ c
    lost = _sum_by(step, ~truth, step.max() + 1) @ c
    found, missed = np.cumsum(gained, axis=0), np.cumsum(lost, axis=0)
    beaten = missed[-1] - missed + lost / 2
    reached = found + missed
    precision = np.divide(found, reached, out=np.zeros_like(found), where=reached > 0)
    return _shares((gained * beaten).sum(axis=0), (gained * precision).sum(axis=0), found[-1], missed[-1])


def _areas_by_comparing(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    block: NDArray[np.integer],
    rows: NDArray[np.integer],
    c: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both areas (k, r) of the classes of a block by comparing each of their images, `rows`, with all images.

    Made for many small classes, since what is compared is a column of scores for each image, not all for each class.
    """
    scores, own = probabilities[:, labels[rows]].T, probabilities[rows, labels[rows], None]
    reach, same = scores >= own, labels[rows, None] == labels
    reached = reach.astype(np.float64) @ c
    found = csr_array((reach & same).astype(np.float64)) @ c
    missed = reached - found
    if (level := (scores == own) & ~same).any():
        missed -= level.astype(np.float64) @ c / 2
    of_class = _sum_by(np.searchsorted(block, labels[rows]), np.ones(len(rows)), len(block))
    of_image = c[rows]
    positive = of_class @ of_image
    negative = c.sum(axis=0) - positive
    beaten = negative[np.searchsorted(block, labels[rows])] - missed
    precision = np.divide(found, reached, out=np.zeros_like(found), where=reached > 0)
    return _shares(of_class @ (of_image * beaten), of_class @ (of_image * precision), positive, negative)


def _shares(
    pairs: NDArray[np.float64],
    precisions: NDArray[np.float64],
    positive: NDArray[np.float64],
    negative: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pairs in the right order as a share of all pairs, and the mean of the precisions, (k, r) each."""
    pairs, precisions, positive, negative = np.atleast_2d(pairs, precisions, positive, negative)
    defined = (positive > 0) & (negative > 0)
    return (
        np.divide(pairs, positive * negative, out=np.full(pairs.shape, np.nan), where=defined),
        np.divide(precisions, positive, out=np.full(pairs.shape, np.nan), where=defined),
    )


def _reliability(
    probabilities: NDArray[np.float64], labels: NDArray[np.integer], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return mean top-class confidence, accuracy and size of each bin that holds an image, in rising order."""
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    _, bin_of, sizes = np.unique(_bin(confidence, bins), return_inverse=True, return_counts=True)
    return np.bincount(bin_of, confidence) / sizes, np.bincount(bin_of, hits) / sizes, sizes


def _bin(confidence: NDArray[np.float64], bins: int) -> NDArray[np.integer]:
    """Return the bin of each confidence; a bin is open below and closed above, as in Guo et al. 2017."""
    return np.searchsorted(np.arange(1, bins) / bins, confidence)


def _one_against_rest(
    probabilities: NDArray[np.float64], labels: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.floating], NDArray[np.int64] | None]:
    """Return truth and score of class 1 with two classes, else those of every class in turn, and None.

    Of more than HELD scores, the levels that their log odds fall on in float16, those of the truth first, and how
    often.
    """
    count, classes = probabilities.shape
    if classes == 2:
        return labels == 1, probabilities[:, 1], None
    if probabilities.size <= HELD:
        return (labels[:, None] == np.arange(classes)).ravel(), probabilities.ravel(), None

    def levels(scores: NDArray[np.float64]) -> NDArray[np.int64]:
        p = scores.clip(1e-7, 1 - 1e-7)
        return np.bincount((np.log(p) - np.log1p(-p)).astype(np.float16).view(np.uint16).ravel(), minlength=2**16)

    of_truth = levels(probabilities[np.arange(count), labels])
    rows = max(1, HELD // classes)
    of_all = sum(levels(probabilities[start : start + rows]) for start in range(0, count, rows))
    counts = np.concatenate([of_truth, of_all - of_truth])
    used = np.flatnonzero(counts)
    return used < 2**16, (used % 2**16).astype(np.uint16).view(np.float16), counts[used]


def _thin(**columns: NDArray[np.float64]) -> list[Row]:
    """Return a curve as rows; of more than POINTS, those about equally far apart along it, with both ends."""
    points = np.stack(list(columns.values()), axis=1)
    if len(points) > POINTS:
        way = np.concatenate([[0.0], np.abs(np.diff(points, axis=0)).sum(axis=1).cumsum()])
        points = points[np.unique(np.searchsorted(way, np.linspace(0, way[-1], POINTS)))]
    return [dict(zip(columns, point, strict=True)) for point in points.round(6).tolist()]
