"""What is chosen on validation once a model is trained: a temperature for its probabilities, a threshold for yes.

First the temperature, then the threshold on the probabilities that it gives.

The parameter `evaluate.threshold` takes a number above 0 and below 1, `best_f1`, `precision:0.95` or `recall:0.95`:
a text, since `dvc exp run -S evaluate.threshold=precision:0.95` needs no quotes then and replaces what stood there,
where a mapping would be merged into the one before.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thaw.errors import ThawError

COOLEST, HOTTEST = 0.1, 10.0  # bounds of the temperature


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def fit_temperature(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    coolest: float = COOLEST,
) -> float:
    """Return the temperature T that gives `apply_temperature` the lowest weighted log loss (Guo et al. 2017).

    probabilities (n, c), labels (n,), weights (n,), of the validation split alone. Above 1 where the model is too sure
    of itself. The loss is never above that at 1. 1 where the images cannot say: there are none, none has a weight, or
    the loss falls for ever as T does (every label has the highest probability) or stays the same. coolest … HOTTEST.
    """
    from scipy.optimize import brentq  # half a second that those who only apply a temperature need not wait

    counted = weights > 0
    if not counted.all():
        probabilities, labels, weights = probabilities[counted], labels[counted], weights[counted]
    weights = weights.astype(np.float64)
    if (probabilities.argmax(axis=1) == labels).all():  # also where no image counts
        return 1.0
    logits = _logits(probabilities)
    wanted = weights @ logits[np.arange(len(labels)), labels]

    def slope(coldness: float) -> float:
        """Return the derivative of the loss by 1 / T, in which it is convex."""
        odds = np.exp(coldness * logits)
        return float(weights @ (np.einsum("ij,ij->i", odds, logits) / odds.sum(axis=1)) - wanted)

    if abs(slope(1)) < 1e-12 * weights.sum():
        return 1.0
    if slope(1 / coolest) <= 0:
        return coolest
    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    return 1 / float(brentq(slope, 1 / HOTTEST, 1 / coolest))


def apply_temperature(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return softmax(log(probabilities) / temperature), (n, c) float64; the most probable class stays the same.

    Probabilities are clipped at the machine's epsilon, as they are for the log loss. A temperature of 1 changes none,
    not even by rounding.
    """
    if temperature == 1:
        return probabilities.astype(np.float64)
    scaled = np.exp(_logits(probabilities) / temperature)
    scaled /= scaled.sum(axis=1, keepdims=True)
    best = probabilities.argmax(axis=1)
    level = np.flatnonzero(scaled.argmax(axis=1) != best)  # rounding has made a class as probable as the best
    scaled[level, best[level]] = np.nextafter(scaled[level].max(axis=1), 2)
    return scaled


@dataclass(frozen=True)
class Threshold:
    """Class 1 is predicted where its probability lies above `value`; the rest was measured where it was chosen."""

    value: float
    aim: float | str  # as in params.yaml
    reached: bool  # whether a wanted precision or recall was
    precision: float | None  # weighted; None where nothing is predicted
    recall: float | None  # like F1, None where no image is of class 1
    f1: float | None


@threadpool_limits.wrap(limits=1)
def choose_threshold(
    positive: NDArray[np.float64], labels: NDArray[np.integer], weights: NDArray[np.floating], aim: float | str
) -> Threshold:
    """Return the threshold on the probability of class 1 (of two) that fits the aim best on the validation split.

    positive (n,), labels (n,) of 0 and 1, weights (n,). Thresholds lie midway between probabilities that occur.

    - a number: itself. 0.5 predicts what is most probable.
    - `best_f1`: the highest F1, of equal ones that of the higher recall.
    - `precision:0.95`: the highest recall among the thresholds of at least that precision, of equal ones the most
      precise.
    - `recall:0.95`: likewise, the highest precision.

    One that predicts nothing is never chosen. An aim that no threshold
    reaches is not an error, for a pipeline should not end at its last stage: `reached` is False, and the threshold is
    the one that comes nearest to it. Without images of both classes, `value` is 0.5 and `reached` is False. Raises
    ThawError for an aim of another form.
    """
    kind, wanted = _parse(aim)
    counted = weights > 0
    positive, truth, weights = positive[counted], labels[counted] == 1, weights[counted].astype(np.float64)
    if kind == "value":
        return Threshold(wanted, aim, True, *_measure(positive, truth, weights, wanted))
    levels = np.unique(np.append(positive, 0.0))
    # Below the highest: nothing predicted is no answer. Of neighbouring numbers the middle may round to the upper one.
    between = np.minimum((levels[1:] + levels[:-1]) / 2, np.nextafter(levels[1:], 0))
    if truth.all() or not truth.any() or not len(between):
        return Threshold(0.5, aim, False, *_measure(positive, truth, weights, 0.5))
    rising = np.argsort(positive, kind="stable")
    above = np.searchsorted(positive[rising], between, side="right")
    found = np.cumsum((weights * truth)[rising][::-1])[::-1][above]
    taken = np.cumsum(weights[rising][::-1])[::-1][above]
    every = weights @ truth
    # Rounded, so that sums in another order do not decide between equally good thresholds.
    precision, recall = (found / taken).round(12), (found / every).round(12)
    orders = {
        "best_f1": ((2 * found / (taken + every)).round(12), recall),
        "precision": (np.minimum(precision, wanted), recall, precision),
        "recall": (np.minimum(recall, wanted), precision, recall),
    }
    order = orders[kind]
    best = np.lexsort(order[::-1])[-1]
    reached = bool(order[0][best] >= wanted)
    value = float(between[best])
    return Threshold(value, aim, reached, *_measure(positive, truth, weights, value))


def _parse(aim: float | str) -> tuple[str, float]:
    """Return the kind of an aim (`value`, `best_f1`, `precision` or `recall`) and its number, 0 where it has none."""
    if isinstance(aim, float | int):
        return "value", float(aim)
    kind, _, number = aim.partition(":")
    if kind in ("precision", "recall") and re.fullmatch(r"0?\.\d+|1(\.0*)?", number):
        return kind, float(number)
    if aim == "best_f1":
        return aim, 0.0
    raise ThawError(
        f"evaluate.threshold: {aim!r} is no aim; it may be a number, best_f1, precision:0.95 or recall:0.95"
    )


def _measure(
    positive: NDArray[np.float64], truth: NDArray[np.bool_], weights: NDArray[np.float64], threshold: float
) -> tuple[float | None, float | None, float | None]:
    """Return the weighted precision, recall and F1 at a threshold, None where undefined."""
    taken = positive > threshold
    found, predicted, every = weights @ (taken & truth), weights @ taken, weights @ truth
    return (
        float(found / predicted) if predicted else None,
        float(found / every) if every else None,
        float(2 * found / (predicted + every)) if every else None,
    )


def _logits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms (n, c), less the highest of each image."""
    logs = np.log(probabilities.clip(np.finfo(np.float64).eps))
    return logs - logs.max(axis=1, keepdims=True)
