"""A threshold is the best there is for its aim."""

from functools import cache

import numpy as np
import pytest
from sklearn import metrics as sk
from threadpoolctl import threadpool_limits

from thaw.evaluation.thresholds import choose_threshold
from thaw.parameters.evaluate import Aim, parse_aim

pytestmark = pytest.mark.filterwarnings("error")


def scores(count=300, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    positive = 1 / (1 + np.exp(-generator.normal(size=count) - 1.5 * (labels - 0.5)))
    return positive.round(2), labels, generator.choice([1, 0.5, 0], count)


def test_the_number_of_threads_changes_no_bit():
    """OpenBLAS divides the sum of more than 10,000 products among its threads."""
    positive, labels, weights = scores(count=30_000)

    def chosen(threads):
        with threadpool_limits(threads):
            return [choose_threshold(positive, labels, weights, aim) for aim in (0.5, "best_f1", "recall:0.9")]

    assert chosen(1) == chosen(2) == chosen(4)


@cache
def every_threshold(seed):
    """Return (threshold, precision, recall, F1) by scikit-learn, for one threshold between any two probabilities."""
    positive, labels, weights = scores(seed=seed)
    found = []
    levels = np.unique(positive[weights > 0])
    for threshold in [levels[0] / 2, *((levels[1:] + levels[:-1]) / 2)]:
        values = sk.precision_recall_fscore_support(
            labels, positive > threshold, average="binary", sample_weight=weights, zero_division=0
        )
        found.append((threshold, *values[:3]))
    return np.array(found).T


@pytest.mark.parametrize("aim", [0.5, 0.3, "best_f1", "precision:0.9", "recall:0.9"])
def test_a_threshold_says_what_scikit_learn_measures_there(aim):
    positive, labels, weights = scores()
    got = choose_threshold(positive, labels, weights, aim)
    expected = sk.precision_recall_fscore_support(labels, positive > got.value, average="binary", sample_weight=weights)
    assert (got.precision, got.recall, got.f1) == pytest.approx(expected[:3], abs=1e-9)
    assert got.aim == aim and got.reached


def test_a_number_is_the_threshold():
    assert choose_threshold(*scores(), 0.37).value == 0.37


@pytest.mark.parametrize("aim", ["best_f1", "recall:0.9", "precision:0.9"])
def test_a_threshold_parts_neighbouring_numbers(aim):
    almost = np.nextafter(1, 0)  # the middle between it and 1 rounds to 1
    chosen = choose_threshold(np.array([0.1, 0.3, almost, 1]), np.array([0, 0, 0, 1]), np.ones(4), aim)
    assert chosen.value == almost
    assert (chosen.precision, chosen.recall) == (1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_f1_is_the_best_of_all_thresholds(seed):
    assert choose_threshold(*scores(seed=seed), "best_f1").f1 == pytest.approx(every_threshold(seed)[3].max(), abs=1e-9)


@pytest.mark.parametrize("wanted", ["0.8", ".95", "1", "1.0"])
@pytest.mark.parametrize("seed", range(5))
def test_a_wanted_recall_has_the_highest_precision(wanted, seed):
    got = choose_threshold(*scores(seed=seed), f"recall:{wanted}")
    _, precision, recall, _ = every_threshold(seed)
    assert got.reached and got.recall >= float(wanted) - 1e-9
    assert got.precision == pytest.approx(precision[recall >= float(wanted) - 1e-9].max(), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_wanted_precision_has_the_highest_recall(seed):
    got = choose_threshold(*scores(seed=seed), "precision:0.8")
    _, precision, recall, _ = every_threshold(seed)
    assert got.reached and got.precision >= 0.8 - 1e-9
    assert got.recall == pytest.approx(recall[precision >= 0.8 - 1e-9].max(), abs=1e-9)


def test_a_precision_out_of_reach_is_said_and_comes_near():
    positive, labels, weights = np.array([0.9, 0.8, 0.3, 0.1]), np.array([0, 1, 1, 0]), np.ones(4)
    got = choose_threshold(positive, labels, weights, "precision:0.9")
    assert not got.reached
    assert got.precision == pytest.approx(2 / 3) and 0.1 < got.value < 0.3


def test_more_than_was_wanted_is_taken_where_it_is_free():
    positive, labels = np.array([0.1, 0.2, 0.4, 0.6, 0.9]), np.array([0, 1, 0, 1, 1])
    assert choose_threshold(positive, labels, np.ones(5), "precision:0.6").value == pytest.approx(0.15)
    assert choose_threshold(positive, labels, np.ones(5), "recall:0.6").value == pytest.approx(0.5)
    assert choose_threshold(positive, labels, np.ones(5), "recall:0.3").value == pytest.approx(0.5)


def test_a_threshold_lies_between_probabilities_that_occur():
    positive, labels = np.array([0.05, 0.1, 0.2, 0.9]), np.array([0, 0, 0, 1])
    assert choose_threshold(positive, labels, np.ones(4), "best_f1").value == pytest.approx(0.55)
    assert choose_threshold(positive, labels, np.array([1, 1, 0, 1]), "best_f1").value == pytest.approx(0.5)


@pytest.mark.parametrize("aim", ["best_f1", "precision:0.9", "recall:0.9"])
@pytest.mark.parametrize("labels", [[], [0], [1], [0, 0], [1, 1]])
def test_without_both_classes_no_aim_is_reached(aim, labels):
    labels = np.array(labels, int)
    got = choose_threshold(np.full(len(labels), 0.7), labels, np.ones(len(labels)), aim)
    assert got.value == 0.5 and not got.reached


@pytest.mark.parametrize("aim", ["best_f1", "precision:0.9", "recall:0.9"])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_probabilities_that_are_all_equal_have_a_threshold(aim, value):
    got = choose_threshold(np.full(10, value), np.arange(10) % 2, np.ones(10), aim)
    assert 0 < got.value < 1
    assert got.reached == (value > 0 and aim != "precision:0.9")
    assert got.precision == (0.5 if value > 0 else None)


def test_a_threshold_is_measured_on_another_split():
    chosen = choose_threshold(*scores(seed=0), "recall:0.9")
    positive, labels, weights = scores(seed=1)
    got = chosen.measured_on(positive, labels, weights)
    expected = sk.precision_recall_fscore_support(
        labels, positive > chosen.value, average="binary", sample_weight=weights
    )
    assert (got.precision, got.recall, got.f1) == pytest.approx(expected[:3], abs=1e-9)
    assert (got.value, got.aim, got.reached) == (chosen.value, "recall:0.9", True)


@pytest.mark.parametrize(
    ("threshold", "aim"),
    [
        (0.3, Aim("value", 0.3)),
        ("best_f1", Aim("best_f1")),
        ("precision:.95", Aim("precision", 0.95)),
        ("recall:1.0", Aim("recall", 1.0)),
    ],
)
def test_an_aim_is_a_number_or_a_text(threshold, aim):
    assert parse_aim(threshold) == aim


OTHER_FORMS = [
    *("f1", "precision", "precision:", "precision:95", "precision:0.0", "recall:.0", "recall:-1", "accuracy:0.9"),
    *(0, 1, 1.5, True, None),
]


@pytest.mark.parametrize("aim", OTHER_FORMS)
def test_an_aim_of_another_form_is_refused(aim):
    with pytest.raises(ValueError, match=r"evaluate\.threshold should be .* precision:0\.95"):
        choose_threshold(*scores(), aim)
