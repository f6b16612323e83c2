"""How good a classifier is: metrics with their intervals, and the curves behind them. Pure functions.

Throughout, n is the number of images and c >= 2 that of classes; `probabilities` is (n, c) float64 in rows
that sum to 1, `labels` and `predictions` are (n,) integers in 0 … c - 1. With two classes, class 1 is the
positive one. What a split leaves undefined (it has no image, or lacks a class) is None or no rows, never NaN
and never a warning.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve as sk_precision_recall_curve
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sk_roc_curve

Row = dict[str, str | float | int | None]

METRICS = (
    *("accuracy", "accuracy_low", "accuracy_high"),
    *("accuracy_weighted", "accuracy_weighted_low", "accuracy_weighted_high"),
    *("balanced_accuracy", "macro_f1", "roc_auc", "log_loss", "brier", "ece"),
)
Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution: 95 % lie between -Z and Z
POINTS = 200  # of a curve: finer than a plot of a few hundred pixels can show, and about 4 KB of CSV
DRAWS = 2**20  # numbers drawn at a time by the bootstrap: 8 MB, whatever the number of resamples


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
    """Return the metrics of one model on one split, in the order of METRICS.

    Only `accuracy_weighted` uses `weights` (n,), which are >= 0; every other metric counts each image once.
    Its interval resamples `groups` (n,) `bootstrap` times, since near-duplicates are not independent. The
    macro averages go over the classes that have an image. `accuracy_low`, `accuracy_high`: Wilson's interval.

    - `roc_auc`: of class 1 with two classes, else the mean of each class against the rest.
    - `log_loss`: natural logarithm; probabilities are clipped at the machine's epsilon, as scikit-learn does.
    - `brier`: the squared error summed over the classes and halved: it lies in 0 … 1 for any number of
      classes and is the usual Brier score for two (scikit-learn's `brier_score_loss(…, scale_by_half=True)`).
    - `ece`: expected calibration error of the top class over `bins` bins of equal width (Guo et al. 2017,
      arXiv 1706.04599).
    """
    if not len(labels):
        return dict.fromkeys(METRICS)
    count, classes = probabilities.shape
    predictions = probabilities.argmax(axis=1)
    hits = predictions == labels
    low, high = wilson(int(hits.sum()), count)
    weighted, weighted_low, weighted_high = _weighted_accuracy(hits, weights, groups, bootstrap, seed)

    actual = np.bincount(labels, minlength=classes)
    predicted = np.bincount(predictions, minlength=classes)
    correct = np.bincount(labels[hits], minlength=classes)
    present = actual > 0
    likelihoods = probabilities[np.arange(count), labels]
    epsilon = np.finfo(np.float64).eps
    confidence, accuracy, sizes = _reliability(probabilities, labels, bins)
    values = (
        *(hits.mean(), low, high),
        *(weighted, weighted_low, weighted_high),
        (correct[present] / actual[present]).mean(),
        (2 * correct[present] / (actual + predicted)[present]).mean(),
        _roc_auc(probabilities, labels, present),
        -np.log(likelihoods.clip(epsilon, 1 - epsilon)).mean(),
        # sum over classes of (p - y)² = sum of p² - 2 p[label] + 1
        (np.square(probabilities).sum(axis=1) - 2 * likelihoods + 1).mean() / 2,
        np.abs(confidence - accuracy) @ sizes / count,
    )
    return {name: None if value is None else float(value) for name, value in zip(METRICS, values, strict=True)}


def names(classes: int) -> tuple[str, ...]:
    """Return the keys of `classification_metrics` for a number of classes, in their order.

    For each measure X: `X`, `X_low`, `X_high`, `X_weighted`, `X_weighted_low`, `X_weighted_high`; the measures are
    accuracy, balanced_accuracy, macro_f1, roc_auc, pr_auc, log_loss, brier, ece and, with more than five classes,
    top_5_accuracy.
    """
    raise NotImplementedError


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
    raise NotImplementedError


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion `hits / count` (count > 0), after Wilson 1927.

    Unlike the normal approximation it stays within 0 … 1 and is right near both ends. It takes the images as
    independent.
    """
    centre = (hits + Z**2 / 2) / (count + Z**2)
    half = Z / (count + Z**2) * math.sqrt(hits * (count - hits) / count + Z**2 / 4)
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
    truth, scores = _one_against_rest(probabilities, labels)
    if truth.all() or not truth.any():
        return []
    false_positive_rate, true_positive_rate, _ = sk_roc_curve(truth, scores)
    return _thin(false_positive_rate=false_positive_rate, true_positive_rate=true_positive_rate)


def precision_recall_curve(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> list[Row]:
    """Return at most POINTS points of `recall`, rising from 0 to 1, and `precision`; averaged as `roc_curve`.

    It starts at recall 0 with precision 1, as scikit-learn has it.
    """
    truth, scores = _one_against_rest(probabilities, labels)
    if truth.all() or not truth.any():
        return []
    precision, recall, _ = sk_precision_recall_curve(truth, scores)
    return _thin(recall=recall[::-1], precision=precision[::-1])


def calibration_curve(probabilities: NDArray[np.float64], labels: NDArray[np.integer], bins: int) -> list[Row]:
    """Return mean `confidence`, `accuracy` and `count` of each of the `bins` of `ece` that holds an image."""
    confidence, accuracy, sizes = _reliability(probabilities, labels, bins)
    return [
        {"confidence": round(mean, 6), "accuracy": round(share, 6), "count": size}
        for mean, share, size in zip(confidence.tolist(), accuracy.tolist(), sizes.tolist(), strict=True)
    ]


def _weighted_accuracy(
    hits: NDArray[np.bool_],
    weights: NDArray[np.floating],
    groups: NDArray[np.str_] | NDArray[np.integer],
    bootstrap: int,
    seed: int,
) -> tuple[float | None, float | None, float | None]:
    """Return the weighted share of hits and its 95 % percentile bootstrap over groups, None for one group.

    A resample draws as many groups as there are. A group counts only by its weight and its weight that is
    hit: groups that agree in both are of one kind, and how often each kind is drawn is multinomial. That is
    the same distribution, at the price of the kinds, which are few. Images that weigh nothing take no part.
    """
    counted = weights > 0
    if not counted.any():
        return None, None, None
    hits, weights = hits[counted], weights[counted].astype(np.float64)
    _, group = np.unique(groups[counted], return_inverse=True)
    sums = np.stack([np.bincount(group, weights), np.bincount(group, weights * hits)], axis=1)
    share = (weights @ hits) / weights.sum()
    if len(sums) == 1:
        return share, None, None
    kinds, sizes = np.unique(sums, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    rows = max(1, DRAWS // len(kinds))
    resamples = []
    for start in range(0, bootstrap, rows):
        times = generator.multinomial(len(sums), sizes / len(sums), size=min(rows, bootstrap - start))
        total, right = (times @ kinds).T
        resamples.append(right / total)
    low, high = np.quantile(np.concatenate(resamples), [0.025, 0.975])
    return share, low, high


def _roc_auc(
    probabilities: NDArray[np.float64], labels: NDArray[np.integer], present: NDArray[np.bool_]
) -> float | None:
    if present.sum() < 2:
        return None
    positives = [1] if len(present) == 2 else np.flatnonzero(present)
    return float(np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in positives]))


def _reliability(
    probabilities: NDArray[np.float64], labels: NDArray[np.integer], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return mean top-class confidence, accuracy and size of each bin that holds an image, in rising order.

    A bin is open below and closed above, as in Guo et al. 2017.
    """
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    edges = np.arange(1, bins) / bins
    _, bin_of, sizes = np.unique(np.searchsorted(edges, confidence), return_inverse=True, return_counts=True)
    return np.bincount(bin_of, confidence) / sizes, np.bincount(bin_of, hits) / sizes, sizes


def _one_against_rest(
    probabilities: NDArray[np.float64], labels: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return truth and score of class 1 with two classes, else those of every class in turn."""
    if probabilities.shape[1] == 2:
        return labels == 1, probabilities[:, 1]
    return (labels[:, None] == np.arange(probabilities.shape[1])).ravel(), probabilities.ravel()


def _thin(**columns: NDArray[np.float64]) -> list[Row]:
    """Return a curve as rows; of more than POINTS, those about equally far apart along it, with both ends."""
    points = np.stack(list(columns.values()), axis=1)
    if len(points) > POINTS:
        way = np.concatenate([[0.0], np.abs(np.diff(points, axis=0)).sum(axis=1).cumsum()])
        points = points[np.unique(np.searchsorted(way, np.linspace(0, way[-1], POINTS)))]
    return [dict(zip(columns, point, strict=True)) for point in points.round(6).tolist()]
