"""Images with several labels as pairs of an image and a class: what a model is trained on, and its loss.

A pair of which nothing is known counts nowhere.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from thaw.core.errors import ThawError
from thaw.core.label_values import PRESENT, UNKNOWN
from thaw.features.examples import MIN_PROBABILITY, Examples


def of_class(images: Examples, number: int) -> Examples:
    """Return the images of which the class `number` is known, with one label each: 1 if they show it, else 0."""
    known = images.take(np.flatnonzero(images.values[:, number] != UNKNOWN))
    labels, weights = known.values[:, number].astype(int), known.value_weights[:, number]
    return replace(known, labels=labels, weights=weights, values=None, value_weights=None)


def training_weights(images: Examples, class_weight: str | None, classes: Sequence[str] | None = None) -> np.ndarray:
    """Return the (n, k) weights, 0 where unknown, scaled to a sum of n: so that losses are means over images.

    With `balanced`, of each class the images that show it and those that do not have the same sum; what the class has
    together stays. Raises ThawError if all weights of the images that show a class, or do not, are 0; it calls the
    class by its name in `classes`.
    """
    weights = images.value_weights
    is_present = images.values == PRESENT
    sums = np.stack([np.where(is_present == sign, weights, 0).sum(axis=0) for sign in (False, True)])  # (2, k)
    if not sums.all():
        sign, number = np.argwhere(sums == 0)[0]
        name, shown = repr(classes[number]) if classes else number, "to show" if sign else "not to show"
        raise ThawError(f"no training photograph with a weight is known {shown} the class {name}: it cannot be learnt")
    if class_weight == "balanced":
        factors = sums.sum(axis=0) / (2 * sums)
        weights = weights * np.where(is_present, factors[1], factors[0])
    return weights * (len(weights) / weights.sum())


def losses(probabilities: np.ndarray, images: Examples) -> np.ndarray:
    """Return the cross-entropy (nats) of each pair, (n, k) float64, for (n, k) probabilities; 0 where unknown."""
    p = probabilities.astype(np.float64)
    likelihoods = np.where(images.values == PRESENT, p, 1 - p).clip(MIN_PROBABILITY)
    return np.where(images.values == UNKNOWN, 0, -np.log(likelihoods))


def weighted_scores(probabilities: np.ndarray, images: Examples) -> tuple[float, float]:
    """Return the weighted cross-entropy (nats) and accuracy of all known pairs, for (n, k) probabilities.

    A class is predicted where its probability is above one half. Raises ThawError if all weights are 0.
    """
    weights = images.value_weights
    if not weights.any():
        raise ThawError("all labels of validation have the weight 0: they cannot choose between models")
    right = (probabilities > 0.5) == (images.values == PRESENT)
    loss = np.average(losses(probabilities, images), weights=weights)
    return float(loss), float(np.average(right, weights=weights))
