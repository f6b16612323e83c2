"""The temperature that calibrates a trained model's probabilities: temperature scaling, chosen on validation."""

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 10.0


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def fit_temperature(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    min_temperature: float = MIN_TEMPERATURE,
) -> float:
    """Return the temperature that gives `apply_temperature` the lowest weighted log loss (Guo et al. 2017).

    The loss is never above that at 1. A temperature above 1 means that the model is too sure of itself.

    Args:
        probabilities: (n, c), of the validation split alone.
        labels: (n,) int.
        weights: (n,) >= 0.
        min_temperature: the lowest temperature to return.

    Returns:
        A temperature of at most MAX_TEMPERATURE. It is 1 where the images cannot tell: no image has a weight, the loss
        is the same at all temperatures, or it falls for ever as the temperature does, since every label is the most
        probable class.
    """
    from scipy.optimize import brentq  # takes half a second, which applying a temperature does not need

    counted = weights > 0
    if not counted.all():
        probabilities, labels, weights = probabilities[counted], labels[counted], weights[counted]
    weights = weights.astype(np.float64)
    if (probabilities.argmax(axis=1) == labels).all():  # also where no image counts
        return 1.0
    logits = _logits(probabilities)
    label_logits = weights @ logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        """Return the derivative of the loss by the inverse of the temperature, in which the loss is convex."""
        odds = np.exp(inverse * logits)
        return float(weights @ (np.einsum("ij,ij->i", odds, logits) / odds.sum(axis=1)) - label_logits)

    if abs(slope(1)) < 1e-12 * weights.sum():
        return 1.0
    if slope(1 / min_temperature) <= 0:
        return min_temperature
    if slope(1 / MAX_TEMPERATURE) >= 0:
        return MAX_TEMPERATURE
    return 1 / float(brentq(slope, 1 / MAX_TEMPERATURE, 1 / min_temperature))


def apply_temperature(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return softmax(log(probabilities) / temperature), (n, c) float64. The most probable class stays the same.

    Probabilities are clipped at the machine's epsilon, as they are for the log loss. A temperature of 1 changes no bit.
    """
    if temperature == 1:
        return probabilities.astype(np.float64)
    scaled = np.exp(_logits(probabilities) / temperature)
    scaled /= scaled.sum(axis=1, keepdims=True)
    best = probabilities.argmax(axis=1)
    level = np.flatnonzero(scaled.argmax(axis=1) != best)  # rounding made another class as probable as the best
    scaled[level, best[level]] = np.nextafter(scaled[level].max(axis=1), 2)
    return scaled


def _logits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms (n, c), less the highest logarithm of each image."""
    logs = np.log(probabilities.clip(np.finfo(np.float64).eps))
    return logs - logs.max(axis=1, keepdims=True)
