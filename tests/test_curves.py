"""Curves are short, keep their area, and have no rows where they are undefined; without a warning."""

import numpy as np
import pytest
from scored_images import example, scored
from sklearn import metrics as sk

from thaw.evaluation import curves

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("curve", [curves.roc_curve, curves.precision_recall_curve])
def test_the_curve_of_very_many_scores_is_that_of_their_levels(curve, monkeypatch):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 7, 1500)
    odds = np.exp(generator.normal(12, 2, (1500, 1)) * np.eye(7)[np.where(generator.random(1500) < 0.9, labels, 0)])
    probabilities = odds / odds.sum(axis=1, keepdims=True)  # most of them 0.9999 and more
    exact = curve(scored(probabilities, labels))
    monkeypatch.setattr(curves, "MAX_SCORES", 100)
    levels = curve(scored(probabilities, labels))
    assert levels != exact
    x, y = exact[0]
    at = np.linspace(0.01, 0.99, 50)
    found, expected = (np.interp(at, [row[x] for row in rows], [row[y] for row in rows]) for rows in (levels, exact))
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_calibration_curve_by_hand():
    top = np.array([0.6, 0.75, 0.9, 0.95])  # two bins of five: (0.6, 0.8] and (0.8, 1]; 0.6 closes (0.4, 0.6]
    images = scored(np.stack([1 - top, top], axis=1), np.array([1, 0, 1, 0]))
    assert curves.calibration_curve(images, bins=5) == [
        {"confidence": 0.6, "accuracy": 1.0, "count": 1},
        {"confidence": 0.75, "accuracy": 0.0, "count": 1},
        {"confidence": 0.925, "accuracy": 0.5, "count": 2},
    ]


@pytest.mark.parametrize("present", [0, 1])
def test_a_single_class_has_no_curves(present):
    probabilities, labels = example()
    one_class = scored(probabilities[labels == present], labels[labels == present])
    assert curves.roc_curve(one_class) == curves.precision_recall_curve(one_class) == []


def test_an_empty_split_has_no_curves():
    empty = scored(np.empty((0, 2)), np.empty(0, int))
    assert curves.confusion(empty, ["a", "b"]) == []
    assert curves.roc_curve(empty) == curves.precision_recall_curve(empty) == []
    assert curves.calibration_curve(empty, bins=10) == []


def test_confusion_names_the_classes_of_each_image():
    rows = curves.confusion(scored(np.eye(2)[[0, 0, 1]], np.array([0, 1, 1])), ["cat", "dog"])
    assert [(row["actual"], row["predicted"]) for row in rows] == [
        ("cat", "cat"),
        ("dog", "cat"),
        ("dog", "dog"),
    ]


@pytest.mark.parametrize(("classes", "count"), [(2, 60), (2, 20_000), (4, 5_000)])
def test_curves_are_short_and_keep_their_area(classes, count):
    probabilities, labels = example(count, classes)
    truth = (labels == 1) if classes == 2 else np.eye(classes)[labels].ravel()
    scores = probabilities[:, 1] if classes == 2 else probabilities.ravel()
    roc = [tuple(row.values()) for row in curves.roc_curve(scored(probabilities, labels))]
    curve = [tuple(row.values()) for row in curves.precision_recall_curve(scored(probabilities, labels))]
    assert len(roc) <= curves.MAX_POINTS and len(curve) <= curves.MAX_POINTS
    assert (roc[0], roc[-1]) == ((0, 0), (1, 1))
    assert curve[0] == (0, 1) and curve[-1] == (1, pytest.approx(truth.mean(), abs=1e-6))
    assert roc == sorted(roc) and [x for x, _ in curve] == sorted(x for x, _ in curve)
    assert all(value == round(value, 6) for point in roc + curve for value in point)
    assert np.trapezoid(*np.array(roc).T[::-1]) == pytest.approx(sk.roc_auc_score(truth, scores), abs=2e-3)
    precision, recall, _ = sk.precision_recall_curve(truth, scores)
    assert np.trapezoid(*np.array(curve).T[::-1]) == pytest.approx(sk.auc(recall, precision), abs=2e-3)


def test_the_coverage_curve_is_the_accuracy_among_the_surest():
    confidence = np.repeat([0.9, 0.8, 0.7], [12, 4, 4])
    hits = np.repeat([True, False, True, False], [11, 1, 4, 4])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    rows = curves.coverage_curve(scored(probabilities[::-1], np.where(hits, 0, 1)[::-1]))
    assert rows == [
        {"coverage": 0.6, "accuracy": pytest.approx(11 / 12, abs=1e-6), "confidence": 0.9},
        {"coverage": 0.8, "accuracy": 15 / 16, "confidence": 0.8},
        {"coverage": 1.0, "accuracy": 0.75, "confidence": 0.7},
    ]
    few = scored(probabilities[:9], np.zeros(9, int))
    assert curves.coverage_curve(few) == curves.coverage_curve(scored(np.empty((0, 2)), np.empty(0, int))) == []
