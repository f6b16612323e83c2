"""The curves behind the measures of a classifier, as rows of a table. Pure functions.

What a split leaves undefined (it has no image, or lacks a class) has no rows, never NaN and never a warning.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve as sk_precision_recall_curve
from sklearn.metrics import roc_curve as sk_roc_curve

from thaw.evaluation.scored import Row, Scored, confidence_bins

MAX_POINTS = 200  # of a curve: finer than a plot of a few hundred pixels can show, and about 4 KB of CSV
MIN_COVERED = 10  # images at the first point of `coverage_curve`: the accuracy of fewer is chance
MAX_SCORES = 2**20  # that a curve sorts one by one, and that are held at a time; more are counted by level


def confusion(scored: Scored, classes: Sequence[str]) -> list[Row]:
    """Return `actual` and `predicted`, names of classes, of each image. DVC's template `confusion` counts them."""
    rows = [[{"actual": actual, "predicted": predicted} for predicted in classes] for actual in classes]
    return [
        rows[label][prediction]
        for label, prediction in zip(scored.labels.tolist(), scored.predictions.tolist(), strict=True)
    ]


def roc_curve(scored: Scored) -> list[Row]:
    """Return at most MAX_POINTS points of `false_positive_rate` and `true_positive_rate`, rising from 0 to 1.

    With more than two classes it is the micro average: each image counts once for each class.
    """
    truth, scores, counts = _one_against_rest(scored)
    if truth.all() or not truth.any():
        return []
    false_positive_rate, true_positive_rate, _ = sk_roc_curve(truth, scores, sample_weight=counts)
    return _thin(false_positive_rate=false_positive_rate, true_positive_rate=true_positive_rate)


def precision_recall_curve(scored: Scored) -> list[Row]:
    """Return at most MAX_POINTS points of `recall`, rising from 0 to 1, and `precision`. Averaged as `roc_curve` is.

    It starts at recall 0 with precision 1, as scikit-learn has it.
    """
    truth, scores, counts = _one_against_rest(scored)
    if truth.all() or not truth.any():
        return []
    precision, recall, _ = sk_precision_recall_curve(truth, scores, sample_weight=counts)
    return _thin(recall=recall[::-1], precision=precision[::-1])


def calibration_curve(scored: Scored, bins: int) -> list[Row]:
    """Return mean `confidence`, `accuracy` and `count` of each of the `bins` of `ece` that holds an image."""
    bin_numbers = confidence_bins(scored.confidence, bins)
    _, bin_of, sizes = np.unique(bin_numbers, return_inverse=True, return_counts=True)
    confidence, accuracy = (np.bincount(bin_of, values) / sizes for values in (scored.confidence, scored.hits))
    return [
        {"confidence": round(mean, 6), "accuracy": round(share, 6), "count": size}
        for mean, share, size in zip(confidence.tolist(), accuracy.tolist(), sizes.tolist(), strict=True)
    ]


def coverage_curve(scored: Scored) -> list[Row]:
    """Return at most MAX_POINTS points: the `accuracy` among the surest images, over their share, the `coverage`.

    `confidence` is that of the least sure of them. Images of the same confidence come together.
    """
    order = np.argsort(-scored.confidence, kind="stable")
    confidence, right = scored.confidence[order], scored.hits[order].cumsum()
    count = np.arange(1, len(scored) + 1)
    last = np.append(confidence[:-1] > confidence[1:], True)[: len(scored)] & (count >= MIN_COVERED)
    return _thin(coverage=count[last] / len(scored), accuracy=(right / count)[last], confidence=confidence[last])


def _one_against_rest(
    scored: Scored,
) -> tuple[NDArray[np.bool_], NDArray[np.floating], NDArray[np.int64] | None]:
    """Return truth and scores: those of class 1 with two classes, else those of every class in turn; and None.

    Of more than MAX_SCORES, return the levels instead: each value of float16 that a log odds is rounded to, those of
    the truth first. The third array then counts the scores of each level.
    """
    probabilities, labels, classes = scored.probabilities, scored.labels, scored.class_count
    if classes == 2:
        return labels == 1, probabilities[:, 1], None
    if probabilities.size <= MAX_SCORES:
        return (labels[:, None] == np.arange(classes)).ravel(), probabilities.ravel(), None

    def count_levels(scores: NDArray[np.float64]) -> NDArray[np.int64]:
        p = scores.clip(1e-7, 1 - 1e-7)
        return np.bincount((np.log(p) - np.log1p(-p)).astype(np.float16).view(np.uint16).ravel(), minlength=2**16)

    true_counts = count_levels(probabilities[np.arange(len(labels)), labels])
    rows = max(1, MAX_SCORES // classes)
    all_counts = sum(count_levels(probabilities[start : start + rows]) for start in range(0, len(labels), rows))
    counts = np.concatenate([true_counts, all_counts - true_counts])
    used = np.flatnonzero(counts)
    return used < 2**16, (used % 2**16).astype(np.uint16).view(np.float16), counts[used]


def _thin(**columns: NDArray[np.float64]) -> list[Row]:
    """Return a curve as rows. Of more than MAX_POINTS, keep both ends and points equally far apart along the curve."""
    points = np.stack(list(columns.values()), axis=1)
    if len(points) > MAX_POINTS:
        length = np.concatenate([[0.0], np.abs(np.diff(points, axis=0)).sum(axis=1).cumsum()])
        points = points[np.unique(np.searchsorted(length, np.linspace(0, length[-1], MAX_POINTS)))]
    return [dict(zip(columns, point, strict=True)) for point in points.round(6).tolist()]
