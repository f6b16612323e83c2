"""A temperature lowers the log loss on validation and changes no prediction."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics as sk
from threadpoolctl import threadpool_limits

from thaw.training.temperature import MAX_TEMPERATURE, MIN_TEMPERATURE, apply_temperature, fit_temperature

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
    images = sure_of_itself(2.0, 2, count=30_000)

    def fitted(threads):
        with threadpool_limits(threads):
            return fit_temperature(*images)

    assert fitted(1) == fitted(2) == fitted(4)


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
    assert MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE
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
    assert fit_temperature(softmax(2.0 * np.eye(3)[labels]), (labels + 1) % 3, np.ones(30)) == MAX_TEMPERATURE


@pytest.mark.parametrize("labels", [[], [0], [1], [0, 1, 1], [1, 1, 1]])
def test_probabilities_that_are_all_equal_keep_their_temperature(labels):
    labels = np.array(labels, int)
    assert fit_temperature(np.full((len(labels), 2), 0.5), labels, np.ones(len(labels))) == 1


def test_without_weights_the_temperature_stays():
    probabilities, labels, _ = sure_of_itself(3.0)
    assert fit_temperature(probabilities, labels, np.zeros(len(labels))) == 1


@pytest.mark.parametrize("lowest", [1.0, 0.5])
def test_a_model_that_is_too_unsure_has_the_lowest_temperature_that_is_allowed(lowest):
    assert fit_temperature(*sure_of_itself(0.2), min_temperature=lowest) == lowest
