"""What a model is compared with: another model on the same images, the majority class, the nearest neighbours."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = (1, 3, 5, 10, 20, 50)  # numbers of neighbours that are tried on validation


def mcnemar(hits_a: NDArray[np.bool_], hits_b: NDArray[np.bool_]) -> dict[str, int | float]:
    """Return McNemar's exact test of two models on the same images, each (n,) True where the model is right.

    `both`, `only_a`, `only_b`, `neither`: numbers of images. `p`: two-sided, of the images on which just one model is
    right falling as unevenly as they do, or more so, if either model were right as often (a binomial of 1/2). 1 where
    no image tells them apart. It takes the images as independent; `paired_difference` does not.
    """
    raise NotImplementedError


def paired_difference(
    probabilities_a: NDArray[np.float64],
    probabilities_b: NDArray[np.float64],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    groups: NDArray[np.str_] | NDArray[np.integer],
    *,
    bins: int,
    bootstrap: int,
    seed: int,
) -> dict[str, dict[str, float | None]]:
    """Return a - b for every measure of `metrics.measures`, plain and weighted, with its 95 % interval.

    Measure → `difference`, `low`, `high`, as in `{"accuracy": {"difference": 0.02, "low": 0.00, "high": 0.04}, …}`;
    the keys are those of `metrics.classification_metrics` without the `_low` and `_high`. Both models are measured on
    the same resamples of the groups: what makes a test split easy for both cancels out. Undefined is None.
    """
    raise NotImplementedError


def majority(
    train_labels: NDArray[np.integer], train_weights: NDArray[np.floating], classes: int, count: int
) -> NDArray[np.float64]:
    """Return (count, classes) probabilities that are the weighted frequencies of the training labels for each image.

    The majority class is what they predict; training weights that are all 0 give each class the same.
    """
    raise NotImplementedError


def nearest_training(
    train_features: NDArray[np.floating], features: NDArray[np.floating], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest training images of each image: their rows (n, k) and cosine similarities (n, k), -1 … 1.

    train_features (m, channels), features (n, channels), of any floating type. The nearest stands first, of equally
    near ones that of the lower row; there are min(k, m) columns. A feature that is all 0 is as near to everything:
    0. Both are read in blocks: beyond them and the result it holds some 100 MB, whatever their size.
    """
    raise NotImplementedError


def neighbours(
    train_features: NDArray[np.floating],
    train_labels: NDArray[np.integer],
    train_weights: NDArray[np.floating],
    features: NDArray[np.floating],
    classes: int,
    k: int,
) -> NDArray[np.float64]:
    """Return (n, classes) probabilities by the vote of the k nearest training images, after `nearest_training`.

    A neighbour's vote weighs as its label does. One vote more is given out by the frequencies of the training labels:
    it settles ties, and no class has the probability 0 only because k is small.
    """
    raise NotImplementedError


def choose_neighbours(
    train_features: NDArray[np.floating],
    train_labels: NDArray[np.integer],
    train_weights: NDArray[np.floating],
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    classes: int,
    candidates: Sequence[int] = NEIGHBOURS,
) -> int:
    """Return the k of `candidates` whose `neighbours` have the lowest weighted log loss on the validation split.

    features (n, channels), labels (n,), weights (n,): of validation. Of equally good ones the smallest.
    """
    raise NotImplementedError
