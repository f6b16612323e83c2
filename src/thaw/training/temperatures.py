"""A temperature for each class that calibrates a model with several labels: each class is a choice of its own."""

import numpy as np
from numpy.typing import NDArray

from thaw.core.label_values import UNKNOWN
from thaw.training.temperature import MIN_TEMPERATURE, apply_temperature, fit_temperature


def fit(
    probabilities: NDArray[np.float64],
    values: NDArray[np.integer],
    weights: NDArray[np.floating],
    min_temperature: float = MIN_TEMPERATURE,
) -> NDArray[np.float64]:
    """Return for each class the temperature that gives its known images the lowest weighted log loss.

    Args:
        probabilities: (n, k), of the validation split alone.
        values: (n, k), as in `label_values`.
        weights: (n, k), 0 where unknown.
        min_temperature: the lowest temperature to return.

    Returns:
        (k,), each as of `temperature.fit_temperature`: 1 where the images of a class cannot tell.
    """
    fitted = np.ones(values.shape[1])
    for number in range(len(fitted)):
        known = values[:, number] != UNKNOWN
        fitted[number] = fit_temperature(
            _both(probabilities[known, number]), values[known, number], weights[known, number], min_temperature
        )
    return fitted


def apply(probabilities: NDArray[np.float64], temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sigmoid(logit(probabilities) / temperatures), (n, k) float64. A temperature of 1 changes no bit."""
    calibrated = probabilities.astype(np.float64)
    for number, temperature in enumerate(temperatures):
        if temperature != 1:
            calibrated[:, number] = apply_temperature(_both(calibrated[:, number]), temperature)[:, 1]
    return calibrated


def _both(present: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities (n, 2) that a class is absent, and that it is present (n,)."""
    return np.stack([1 - present, present], axis=1)
