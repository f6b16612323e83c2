"""The temperature of each class, and the probabilities that it calibrates.

Calibrated, p is sigmoid(logit(p) / temperature of the class).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN
from thaw.training.temperature import apply_temperature, fit_temperature


def fit_temperatures(
    probabilities: NDArray[np.float64], values: NDArray[np.int8], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the temperature (k,) of each class that gives its known pairs the lowest weighted log loss.

    All arguments are (n, k), of validation alone. A temperature is 1 where the known pairs cannot tell: see
    `fit_temperature`. It is 1, too, where none of them is present, or none absent: see `cannot_calibrate`.
    """
    temperatures = np.ones(values.shape[1])
    for number in np.flatnonzero(~cannot_calibrate(values, weights)):
        rows = values[:, number] != UNKNOWN
        two = _two_classes(probabilities[rows, number])
        temperatures[number] = fit_temperature(two, values[rows, number].astype(int), weights[rows, number])
    return temperatures


def cannot_calibrate(values: NDArray[np.int8], weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (k,) True for each class of which no known pair with a weight is present, or none is absent."""
    present, absent = (((values == value) & (weights > 0)).any(axis=0) for value in (PRESENT, ABSENT))
    return ~(present & absent)


def calibrate(probabilities: NDArray[np.float64], temperatures: Sequence[float]) -> NDArray[np.float64]:
    """Return the calibrated (n, k) probabilities. A temperature of 1 changes no bit of its class."""
    calibrated = np.empty(probabilities.shape)
    for number, temperature in enumerate(temperatures):
        column = probabilities[:, number]
        calibrated[:, number] = (
            column if temperature == 1 else apply_temperature(_two_classes(column), temperature)[:, 1]
        )
    return calibrated


def _two_classes(present: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, 2) probabilities: of absent, and of present."""
    return np.stack([1 - present, present], axis=1)
