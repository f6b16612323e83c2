"""The threshold above which the positive class is predicted, chosen on validation.

It is chosen on calibrated probabilities: first the temperature, then the threshold.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thaw.parameters.evaluate import parse_aim


@dataclass(frozen=True)
class Threshold:
    """Class 1 is predicted where its probability lies above `value`. The measures are those on one split."""

    value: float
    aim: float | str  # as in params.yaml
    reached: bool  # whether the precision or recall of the aim was reached on validation
    precision: float | None  # weighted; None where nothing is predicted
    recall: float | None  # like F1, None where no image is of class 1
    f1: float | None

    @threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
    def measured_on(
        self, positive: NDArray[np.float64], labels: NDArray[np.integer], weights: NDArray[np.floating]
    ) -> "Threshold":
        """Return the same threshold with its precision, recall and F1 on another split.

        positive (n,) are the probabilities of class 1, labels (n,) are 0 or 1, weights (n,) >= 0.
        """
        positive, truth, weights = _weighing(positive, labels, weights)
        precision, recall, f1 = _measure(positive, truth, weights, self.value)
        return replace(self, precision=precision, recall=recall, f1=f1)


@threadpool_limits.wrap(limits=1)
def choose_threshold(
    positive: NDArray[np.float64], labels: NDArray[np.integer], weights: NDArray[np.floating], aim: float | str
) -> Threshold:
    """Choose the threshold on the probability of class 1 (of two) that fits the aim best on the validation split.

    Thresholds lie midway between probabilities that occur. One that predicts nothing is never chosen. It is no error
    when no threshold reaches the aim, for a pipeline should not end at its last stage: `reached` is then False, and the
    threshold is the one that comes nearest. Without images of both classes, `value` is 0.5 and `reached` is False.

    Args:
        positive: (n,) probabilities of class 1.
        labels: (n,) 0 or 1.
        weights: (n,) >= 0.
        aim: as in `evaluate.threshold`.

            - a number: itself. 0.5 predicts the most probable class.
            - `best_f1`: the highest F1; of equal ones, that of the higher recall.
            - `precision:0.95`: the highest recall among the thresholds of at least that precision; of equal ones, the
              most precise.
            - `recall:0.95`: likewise, the highest precision.

    Returns:
        The threshold, measured on these images.

    Raises:
        ValueError: the aim has another form.
    """
    kind, wanted = parse_aim(aim)
    positive, truth, weights = _weighing(positive, labels, weights)
    if kind == "value":
        return Threshold(wanted, aim, True, *_measure(positive, truth, weights, wanted))
    levels = np.unique(np.append(positive, 0.0))
    # Below the highest: at least one is predicted. Of neighbouring numbers the middle may round to the upper one.
    between = np.minimum((levels[1:] + levels[:-1]) / 2, np.nextafter(levels[1:], 0))
    if truth.all() or not truth.any() or not len(between):
        return Threshold(0.5, aim, False, *_measure(positive, truth, weights, 0.5))
    rising = np.argsort(positive, kind="stable")
    above = np.searchsorted(positive[rising], between, side="right")
    true_positives = np.cumsum((weights * truth)[rising][::-1])[::-1][above]
    predicted = np.cumsum(weights[rising][::-1])[::-1][above]
    positives = weights @ truth
    # Rounded, so that sums in another order do not decide between equally good thresholds.
    precision, recall = (true_positives / predicted).round(12), (true_positives / positives).round(12)
    orders = {
        "best_f1": ((2 * true_positives / (predicted + positives)).round(12), recall),
        "precision": (np.minimum(precision, wanted), recall, precision),
        "recall": (np.minimum(recall, wanted), precision, recall),
    }
    order = orders[kind]
    best = np.lexsort(order[::-1])[-1]
    reached = bool(order[0][best] >= wanted)
    value = float(between[best])
    return Threshold(value, aim, reached, *_measure(positive, truth, weights, value))


def _weighing(
    positive: NDArray[np.float64], labels: NDArray[np.integer], weights: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Return probabilities, truth and weights of the images that have a weight."""
    counted = weights > 0
    return positive[counted], labels[counted] == 1, weights[counted].astype(np.float64)


def _measure(
    positive: NDArray[np.float64], truth: NDArray[np.bool_], weights: NDArray[np.float64], threshold: float
) -> tuple[float | None, float | None, float | None]:
    """Return the weighted precision, recall and F1 at a threshold, None where undefined."""
    taken = positive > threshold
    true_positives, predicted, positives = weights @ (taken & truth), weights @ taken, weights @ truth
    return (
        float(true_positives / predicted) if predicted else None,
        float(true_positives / positives) if positives else None,
        float(2 * true_positives / (predicted + positives)) if positives else None,
    )
