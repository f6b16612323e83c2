"""The temperature of each class, which calibrates its probabilities."""

import numpy as np
from numpy.typing import NDArray

from thaw.core.label_values import ABSENT, PRESENT
from thaw.training import temperatures


def fit_temperatures(
    probabilities: NDArray[np.float64], values: NDArray[np.int8], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the temperature (k,) of each class that gives its known pairs the lowest weighted log loss.

    All arguments are (n, k), of validation alone. A temperature is 1 where the known pairs cannot tell, see
    `fit_temperature`, and where none of them is present, or none absent, see `cannot_calibrate`.
    """
    fitted = temperatures.fit(probabilities, values, weights)
    return np.where(cannot_calibrate(values, weights), 1.0, fitted)


def cannot_calibrate(values: NDArray[np.int8], weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (k,) True for each class of which no known pair with a weight is present, or none is absent."""
    present, absent = (((values == value) & (weights > 0)).any(axis=0) for value in (PRESENT, ABSENT))
    return ~(present & absent)
