"""Known pairs that are likely to be wrong: a class that is said to be present, or absent, against all appearances.

A class that is verified to be absent can be wrong as well: a person overlooked it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from thaw.core import progress
from thaw.core.label_values import UNKNOWN
from thaw.evaluation import label_errors
from thaw.features.examples import Examples


def self_confidence(features: NDArray[np.floating], examples: Examples, *, seed: int) -> NDArray[np.float64]:
    """Return the probability of what is known of each pair, by heads that were trained without the image's group.

    Each class has a head of its own on the images whose pair is known: see `label_errors.self_confidence`.

    Args:
        features: (n, channels), a row for each of the examples.
        examples: the images, of all splits, with `values`.
        seed: of the folds.

    Returns:
        (n, k) float64 in 0 … 1. It is 1 where nothing is known, and where no other group has the same value.
    """
    values = examples.values
    confidence = np.ones(values.shape)
    classes = values.shape[1]
    for number in progress.track(range(classes), "likeliest wrong labels", "class", classes):
        rows = np.flatnonzero(values[:, number] != UNKNOWN)
        if not len(rows):
            continue
        labels, weights = values[rows, number].astype(int), examples.value_weights[rows, number]
        known = replace(examples.take(rows), labels=labels, weights=weights)
        confidence[rows, number] = label_errors.self_confidence(features[rows], known, 2, seed=seed)
    return confidence


def suspicious(
    confidence: NDArray[np.float64], values: NDArray[np.int8], value: int, count: int
) -> list[tuple[int, int]]:
    """Return the pairs (image, class) of a value that are likeliest to be wrong, the likeliest first.

    Args:
        confidence: (n, k), see `self_confidence`.
        values: (n, k).
        value: PRESENT or ABSENT.
        count: of pairs, at most.
    """
    images, classes = np.nonzero((values == value) & (confidence < 1))
    order = np.lexsort((classes, images, confidence[images, classes]))[:count]
    return list(zip(images[order].tolist(), classes[order].tolist(), strict=True))
