"""A temperature lowers the log loss of validation and changes no answer; a threshold is the best there is."""

from functools import cache

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics as sk
from threadpoolctl import threadpool_limits

from thaw import calibration
from thaw.calibration import apply_temperature, choose_threshold, fit_temperature
from thaw.errors import ThawError

pytestmark = pytest.mark.filterwarnings("error")


def sure_of_itself(sharpness, classes=3, count=400, seed=0):
    """Return probabilities whose logits are `sharpness` times too large, labels and weights."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(count, classes))
    odds = np.exp(logits)
    labels = (odds.cumsum(axis=1) / odds.sum(axis=1, keepdims=True) < generator.random((count, 1))).sum(axis=1)
    return softmax(sharpness * logits), labels, generator.choice([1, 0.3, 0], count)


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def loss(probabilities, labels, weights):
    return sk.log_loss(labels, probabilities, sample_weight=weights, labels=range(probabilities.shape[1]))


def test_the_number_of_threads_changes_no_bit():
    """OpenBLAS divides the sum of more than 10,000 products among its threads."""
    probabilities, labels, weights = sure_of_itself(2.0, 2, count=30_000)

    def chosen(threads):
        with threadpool_limits(threads):
            aims = (0.5, "best_f1", "recall:0.9")
            return [fit_temperature(probabilities, labels, weights)] + [
                choose_threshold(probabilities[:, 1], labels, weights, aim) for aim in aims
            ]

    assert chosen(1) == chosen(2) == chosen(4)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_minimum_that_scipy_finds(classes, sharpness):
    probabilities, labels, weights = sure_of_itself(sharpness, classes)
    logs = np.log(probabilities)
    expected = minimize_scalar(lambda t: loss(softmax(logs / t), labels, weights), bounds=(0.1, 10), method="bounded")
    got = fit_temperature(probabilities, labels, weights)
    assert got == pytest.approx(expected.x, rel=1e-3)
    assert got == pytest.approx(sharpness, rel=0.35)
    assert loss(apply_temperature(probabilities, got), labels, weights) <= expected.fun + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_the_log_loss_on_validation_never_rises(seed):
    generator = np.random.default_rng(seed)
    count, classes = int(generator.integers(1, 30)), int(generator.integers(2, 6))
    probabilities = softmax(generator.normal(size=(count, classes)) * generator.choice([0, 0.1, 5, 100]))
    labels, weights = generator.integers(0, classes, count), generator.choice([0, 1, 0.5], count)
    temperature = fit_temperature(probabilities, labels, weights)
    assert calibration.COOLEST <= temperature <= calibration.HOTTEST
    if weights.any():
        before, after = (
            np.average(-np.log(p[np.arange(count), labels].clip(np.finfo(float).eps)), weights=weights)
            for p in (probabilities, apply_temperature(probabilities, temperature))
        )
        assert after <= before + 1e-12


def test_a_temperature_of_1_changes_no_bit():
    probabilities = softmax(np.random.default_rng(0).normal(size=(2000, 3)) * 10)
    assert (apply_temperature(probabilities, 1.0) == probabilities).all()


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 2.0, 10.0])
def test_the_most_probable_class_stays_the_same(temperature):
    generator = np.random.default_rng(0)
    probabilities = softmax(generator.normal(size=(2000, 4)) * 10)
    close = np.full((200, 4), 0.25)  # nearest numbers: the logarithms round to the same
    close[np.arange(200), generator.integers(0, 4, 200)] = np.nextafter(0.25, 1)
    saturated = np.eye(4)[generator.integers(0, 4, 50)]
    probabilities = np.concatenate([probabilities, close, saturated, np.full((3, 4), 0.25)])
    scaled = apply_temperature(probabilities, temperature)
    assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert scaled.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert np.isfinite(scaled).all() and (scaled >= 0).all()


def test_the_temperature_1_changes_nothing():
    probabilities, _, _ = sure_of_itself(1.0)
    assert apply_temperature(probabilities, 1.0) == pytest.approx(probabilities, abs=1e-12)


def test_a_model_that_makes_no_mistake_keeps_its_temperature():
    labels = np.arange(30) % 3
    assert fit_temperature(softmax(2.0 * np.eye(3)[labels]), labels, np.ones(30)) == 1


def test_mistakes_that_weigh_nothing_do_not_count():
    labels = np.arange(30) % 3
    probabilities = softmax(2.0 * np.eye(3)[labels])
    assert fit_temperature(probabilities, (labels + (labels == 1)) % 3, (labels != 1) * 1.0) == 1


def test_a_model_that_is_always_wrong_is_as_unsure_as_can_be():
    labels = np.arange(30) % 3
    assert fit_temperature(softmax(2.0 * np.eye(3)[labels]), (labels + 1) % 3, np.ones(30)) == calibration.HOTTEST


@pytest.mark.parametrize("labels", [[], [0], [1], [0, 1, 1], [1, 1, 1]])
def test_probabilities_that_are_all_equal_keep_their_temperature(labels):
    labels = np.array(labels, int)
    assert fit_temperature(np.full((len(labels), 2), 0.5), labels, np.ones(len(labels))) == 1


def test_without_weights_the_temperature_stays():
    probabilities, labels, _ = sure_of_itself(3.0)
    assert fit_temperature(probabilities, labels, np.zeros(len(labels))) == 1


def scores(count=300, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    positive = 1 / (1 + np.exp(-generator.normal(size=count) - 1.5 * (labels - 0.5)))
    return positive.round(2), labels, generator.choice([1, 0.5, 0], count)


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


@pytest.mark.parametrize("aim", ["f1", "precision", "precision:", "precision:95", "recall:-1", "accuracy:0.9"])
def test_an_aim_of_another_form_is_refused(aim):
    with pytest.raises(ThawError, match=r"evaluate\.threshold: .* precision:0\.95"):
        choose_threshold(*scores(), aim)
