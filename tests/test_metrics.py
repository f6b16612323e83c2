"""The metrics equal scikit-learn, scipy or a count by hand; what is undefined is None, without a warning."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from thaw import metrics

pytestmark = pytest.mark.filterwarnings("error")
EXACT = {"rel": 0, "abs": 1e-9}


def example(count=300, classes=2, seed=0):
    """Return probabilities and labels of a classifier that is often right; some probabilities are 0."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    logits = generator.normal(size=(count, classes)) + 1.2 * np.eye(classes)[labels]
    probabilities = np.exp(2 * logits)
    probabilities[:5, 0] = 0
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels


def measure(probabilities, labels, weights=None, groups=None, bins=10, bootstrap=500, seed=0):
    weights = np.ones(len(labels)) if weights is None else weights
    groups = np.arange(len(labels)) if groups is None else groups
    return metrics.classification_metrics(
        probabilities, labels, weights, groups, bins=bins, bootstrap=bootstrap, seed=seed
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_plain_metrics_equal_scikit_learn(classes):
    probabilities, labels = example(classes=classes)
    predictions = probabilities.argmax(axis=1)
    scores = probabilities[:, 1] if classes == 2 else probabilities
    expected = {
        "accuracy": sk.accuracy_score(labels, predictions),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predictions),
        "macro_f1": sk.f1_score(labels, predictions, average="macro"),
        "roc_auc": sk.roc_auc_score(labels, scores, multi_class="ovr"),
        "log_loss": sk.log_loss(labels, probabilities),
        "brier": sk.brier_score_loss(labels, scores, scale_by_half=True),
    }
    got = measure(probabilities, labels)
    assert {key: got[key] for key in expected} == pytest.approx(expected, **EXACT)
    assert tuple(got) == metrics.METRICS
    assert all(type(value) is float for value in got.values())


def test_plain_metrics_ignore_the_weights():
    probabilities, labels = example()
    weights = np.random.default_rng(1).random(len(labels))
    plain, weighted = measure(probabilities, labels), measure(probabilities, labels, weights)
    changed = {key for key in plain if plain[key] != weighted[key]}
    assert changed == {"accuracy_weighted", "accuracy_weighted_low", "accuracy_weighted_high"}


def test_weighted_accuracy_equals_scikit_learn():
    probabilities, labels = example()
    weights = np.random.default_rng(1).choice([1, 1 / 3, 2 / 3, 0], len(labels))
    expected = sk.accuracy_score(labels, probabilities.argmax(axis=1), sample_weight=weights)
    assert measure(probabilities, labels, weights)["accuracy_weighted"] == pytest.approx(expected, **EXACT)


def test_expected_calibration_error_by_hand():
    top = np.array([0.6, 0.75, 0.9, 0.95])  # two bins of five: (0.6, 0.8] and (0.8, 1]; 0.6 closes (0.4, 0.6]
    probabilities = np.stack([1 - top, top], axis=1)
    labels = np.array([1, 0, 1, 0])
    # one image at 0.6, right; one at 0.75, wrong; two at 0.925 on average, half of them right
    expected = (1 * 0.4 + 1 * 0.75 + 2 * 0.425) / 4
    assert measure(probabilities, labels, bins=5)["ece"] == pytest.approx(expected, **EXACT)
    assert metrics.calibration_curve(probabilities, labels, bins=5) == [
        {"confidence": 0.6, "accuracy": 1.0, "count": 1},
        {"confidence": 0.75, "accuracy": 0.0, "count": 1},
        {"confidence": 0.925, "accuracy": 0.5, "count": 2},
    ]


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 40), (40, 40), (17, 40), (580, 656)])
def test_wilson_interval_equals_scipy(hits, count):
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert metrics.wilson(hits, count) == pytest.approx((expected.low, expected.high), **EXACT)


def test_bootstrap_interval_equals_drawing_groups_one_by_one():
    probabilities, labels = example(200)
    generator = np.random.default_rng(3)
    weights, groups = generator.choice([1, 1 / 3], 200), generator.integers(0, 80, 200).astype(str)
    hits = probabilities.argmax(axis=1) == labels
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    draws = [
        np.concatenate([members[i] for i in generator.integers(0, len(members), len(members))]) for _ in range(2000)
    ]
    expected = np.quantile([np.average(hits[draw], weights=weights[draw]) for draw in draws], [0.025, 0.975])
    got = measure(probabilities, labels, weights, groups, bootstrap=20_000)
    # two bootstraps of 2,000 agree to about a fiftieth of the interval's width, which is 0.13 here
    assert [got["accuracy_weighted_low"], got["accuracy_weighted_high"]] == pytest.approx(expected, abs=0.01)


def test_bootstrap_is_seeded_and_leaves_the_global_state_alone():
    probabilities, labels = example()
    weights = np.random.default_rng(1).random(len(labels))
    before = np.random.get_state()[1].tolist()
    first, again, other = (measure(probabilities, labels, weights, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first["accuracy_weighted_low"] != other["accuracy_weighted_low"]
    assert np.random.get_state()[1].tolist() == before


def test_bootstrap_is_the_same_however_many_numbers_are_drawn_at_a_time(monkeypatch):
    probabilities, labels = example()
    weights = np.random.default_rng(1).random(len(labels))
    whole = measure(probabilities, labels, weights)
    monkeypatch.setattr(metrics, "DRAWS", 1000)
    assert measure(probabilities, labels, weights) == whole


def test_copies_within_their_groups_leave_the_interval_the_same():
    probabilities, labels = example()
    groups = np.arange(len(labels))
    twice = [np.repeat(array, 2, axis=0) for array in (probabilities, labels, np.ones(len(labels)), groups)]
    once, doubled = measure(probabilities, labels), measure(*twice)
    alone = measure(*twice[:3], groups=np.arange(2 * len(labels)))
    ends = ("accuracy_weighted_low", "accuracy_weighted_high")
    assert [once[end] for end in ends] == [doubled[end] for end in ends]
    assert alone[ends[1]] - alone[ends[0]] < 0.85 * (once[ends[1]] - once[ends[0]])  # by 1 / sqrt(2) = 0.71


def test_without_weight_the_weighted_accuracy_is_undefined():
    probabilities, labels = example()
    got = measure(probabilities, labels, weights=np.zeros(len(labels)))
    assert [key for key in got if got[key] is None] == [key for key in got if "weighted" in key]


def test_one_group_has_no_interval():
    probabilities, labels = example()
    got = measure(probabilities, labels, groups=np.zeros(len(labels), int))
    assert got["accuracy_weighted"] == got["accuracy"]
    assert got["accuracy_weighted_low"] is None and got["accuracy_weighted_high"] is None


@pytest.mark.parametrize("present", [0, 1])
def test_a_single_class_leaves_the_rank_undefined(present):
    probabilities, labels = example()
    kept = labels == present
    got = measure(probabilities[kept], labels[kept])
    assert [key for key in got if got[key] is None] == ["roc_auc"]
    assert got["balanced_accuracy"] == pytest.approx(got["accuracy"], **EXACT)
    assert metrics.roc_curve(probabilities[kept], labels[kept]) == []
    assert metrics.precision_recall_curve(probabilities[kept], labels[kept]) == []


def test_macro_averages_go_over_the_classes_present():
    probabilities, labels = example(classes=4)
    kept = labels != 2
    probabilities, labels = probabilities[kept], labels[kept]
    predictions = probabilities.argmax(axis=1)
    assert 2 in predictions
    got = measure(probabilities, labels)
    recalls = [(predictions[labels == k] == k).mean() for k in (0, 1, 3)]
    areas = [sk.roc_auc_score(labels == k, probabilities[:, k]) for k in (0, 1, 3)]
    assert got["balanced_accuracy"] == pytest.approx(np.mean(recalls), **EXACT)
    assert got["roc_auc"] == pytest.approx(np.mean(areas), **EXACT)
    assert got["macro_f1"] == pytest.approx(
        sk.f1_score(labels, predictions, labels=[0, 1, 3], average="macro"), **EXACT
    )


def test_an_empty_split_has_no_metrics_and_no_curves():
    probabilities, labels = np.empty((0, 2)), np.empty(0, int)
    assert measure(probabilities, labels) == dict.fromkeys(metrics.METRICS)
    assert metrics.confusion(labels, labels, ["a", "b"]) == []
    assert metrics.roc_curve(probabilities, labels) == []
    assert metrics.calibration_curve(probabilities, labels, bins=10) == []


def test_confusion_names_the_classes_of_each_image():
    rows = metrics.confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), ["cat", "dog"])
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
    roc = [tuple(row.values()) for row in metrics.roc_curve(probabilities, labels)]
    curve = [tuple(row.values()) for row in metrics.precision_recall_curve(probabilities, labels)]
    assert len(roc) <= metrics.POINTS and len(curve) <= metrics.POINTS
    assert (roc[0], roc[-1]) == ((0, 0), (1, 1))
    assert curve[0] == (0, 1) and curve[-1] == (1, pytest.approx(truth.mean(), abs=1e-6))
    assert roc == sorted(roc) and [x for x, _ in curve] == sorted(x for x, _ in curve)
    assert all(value == round(value, 6) for point in roc + curve for value in point)
    assert np.trapezoid(*np.array(roc).T[::-1]) == pytest.approx(sk.roc_auc_score(truth, scores), abs=2e-3)
    precision, recall, _ = sk.precision_recall_curve(truth, scores)
    assert np.trapezoid(*np.array(curve).T[::-1]) == pytest.approx(sk.auc(recall, precision), abs=2e-3)
