"""The threshold of each class above which it is called present, chosen on validation.

Thresholds are chosen on calibrated probabilities: first the temperatures, then the thresholds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN
from thaw.evaluation.thresholds import Threshold, choose_threshold
from thaw.parameters.evaluate import parse_aim


def choose_thresholds(
    calibrated: NDArray[np.float64], values: NDArray[np.int8], weights: NDArray[np.float64], aim: float | str
) -> list[Threshold]:
    """Choose the threshold of each class that fits the aim best on its known pairs.

    It is no error when no threshold of a class reaches the aim: a pipeline should not end at its last stage, and other
    classes have reached it. `reached` is then False, and the threshold is the one that comes nearest. `missed` says so
    in a line. A class of which no known pair is present, or none absent, has the threshold 0.5.

    Args:
        calibrated: (n, k) probabilities of validation.
        values: (n, k), as in `core.label_values`.
        weights: (n, k) >= 0.
        aim: as in `evaluate.multi_aim`, with the meaning that `choose_threshold` gives it.

    Returns:
        A threshold for each class, in their order, measured on these images.
    """
    return [choose_threshold(*pairs, aim) for pairs in _by_class(calibrated, values, weights)]


def measure_thresholds(
    thresholds: Sequence[Threshold],
    calibrated: NDArray[np.float64],
    values: NDArray[np.int8],
    weights: NDArray[np.float64],
) -> list[Threshold]:
    """Return the same thresholds with their precision, recall and F1 on another split.

    Args:
        thresholds: one for each class.
        calibrated: (n, k) probabilities of the other split.
        values: (n, k), as in `core.label_values`.
        weights: (n, k) >= 0.
    """
    by_class = _by_class(calibrated, values, weights)
    return [threshold.measured_on(*pairs) for threshold, pairs in zip(thresholds, by_class, strict=True)]


def above(calibrated: NDArray[np.float64], thresholds: Sequence[Threshold]) -> NDArray[np.bool_]:
    """Return (n, k) whether each calibrated probability lies above the threshold of its class."""
    return calibrated > np.array([threshold.value for threshold in thresholds])


def missed(thresholds: Sequence[Threshold], classes: Sequence[str], untold: Sequence[bool], model: str) -> str:
    """Return a line that names each class that does not reach the aim, and what was taken; empty if all reach it.

    Args:
        thresholds: one for each class, as chosen on validation.
        classes: their names.
        untold: whether no known pair of the class is present there, or none is absent.
        model: its name in the line.
    """
    names = [
        f"{name} ({_taken(threshold, no_pairs)})"
        for name, threshold, no_pairs in zip(classes, thresholds, untold, strict=True)
        if not threshold.reached
    ]
    if not names:
        return ""
    return f"evaluate.multi_aim {thresholds[0].aim} is not reached by the {model} on validation for {', '.join(names)}"


def _taken(threshold: Threshold, no_pairs: bool) -> str:
    """Say what was taken for a threshold that does not reach its aim."""
    if no_pairs:
        return f"{threshold.value:g} is taken: no pair is known to be present, or none to be absent"
    kind = parse_aim(threshold.aim).kind
    measure = "f1" if kind == "best_f1" else kind
    reached = getattr(threshold, measure)
    said = "" if reached is None else f", with a {measure} of {reached:.1%}"
    return f"the nearest is taken: {threshold.value:.3g}{said}"


def counts(values: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many known pairs of each class are present, and how many are absent, (k,) each."""
    return (values == PRESENT).sum(axis=0), (values == ABSENT).sum(axis=0)


def _by_class(
    probabilities: NDArray[np.float64], values: NDArray[np.int8], weights: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]]:
    """Return the probabilities, labels and weights of the known pairs of each class."""
    known = values != UNKNOWN
    return [
        (probabilities[rows, number], values[rows, number].astype(int), weights[rows, number])
        for number, rows in enumerate(known.T)
    ]
