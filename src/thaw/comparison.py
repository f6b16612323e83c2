"""What a model is compared with: another model on the same images, the majority class, the nearest neighbours."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from thaw import metrics

NEIGHBOURS = (1, 3, 5, 10, 20, 50)  # numbers of neighbours that are tried on validation
BLOCK = 2048  # images whose features are held at a time, on either side


def mcnemar(hits_a: NDArray[np.bool_], hits_b: NDArray[np.bool_]) -> dict[str, int | float]:
    """Return McNemar's exact test of two models on the same images, each (n,) True where the model is right.

    `both`, `only_a`, `only_b`, `neither`: numbers of images. `p`: two-sided, of the images on which just one model is
    right falling as unevenly as they do, or more so, if either model were right as often (a binomial of 1/2). 1 where
    no image tells them apart. It takes the images as independent; `paired_difference` does not.
    """
    both, only_a = int((hits_a & hits_b).sum()), int((hits_a & ~hits_b).sum())
    only_b, neither = int((~hits_a & hits_b).sum()), int((~hits_a & ~hits_b).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither, "p": p}


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
    """Return a - b for every measure, plain and weighted, with its 95 % interval.

    Measure → `difference`, `low`, `high`, as in `{"accuracy": {"difference": 0.02, "low": 0.00, "high": 0.04}, …}`;
    the keys are those of `metrics.classification_metrics` without the `_low` and `_high`. Both models are measured on
    the same resamples of the groups: what makes a test split easy for both cancels out. `ece` has no interval: what
    chance adds to it differs by model and resample. Undefined is None.
    """
    a, b = (
        metrics.resampled(probabilities, labels, weights, groups, bins=bins, bootstrap=bootstrap, seed=seed)
        for probabilities in (probabilities_a, probabilities_b)
    )
    differences = {}
    for name in a:
        if name.startswith("ece"):
            errors = [np.abs(gaps[:, 0]).sum() for gaps in (a[name], b[name])]
            values = None if np.isnan(errors).any() else float(errors[0] - errors[1]), None, None
        else:
            values = metrics.interval(a[name] - b[name])
        differences[name] = dict(zip(("difference", "low", "high"), values, strict=True))
    return differences


def majority(
    train_labels: NDArray[np.integer], train_weights: NDArray[np.floating], classes: int, count: int
) -> NDArray[np.float64]:
    """Return (count, classes) probabilities that are the weighted frequencies of the training labels for each image.

    The majority class is what they predict; training weights that are all 0 give each class the same.
    """
    return np.tile(_frequencies(train_labels, train_weights, classes), (count, 1))


def nearest_training(
    train_features: NDArray[np.floating], features: NDArray[np.floating], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest training images of each image: their rows (n, k) and cosine similarities (n, k), -1 … 1.

    train_features (m, channels), features (n, channels), of any floating type. The nearest stands first, of equally
    near ones that of the lower row; there are min(k, m) columns. A feature that is all 0 is as near to everything:
    0. Both are read in blocks: beyond them and the result it holds some 100 MB, whatever their size.
    """
    kept = min(k, len(train_features))
    rows, similarities = np.empty((len(features), kept), np.int64), np.empty((len(features), kept), np.float32)
    with threadpool_limits(1):  # sums over several threads are not the same on every machine
        for start in range(0, len(features), BLOCK):
            images = _unit(features[start : start + BLOCK])
            near, at = np.empty((len(images), 0), np.float32), np.empty((len(images), 0), np.int64)
            for first in range(0, len(train_features), BLOCK):
                more = images @ _unit(train_features[first : first + BLOCK]).T
                near = np.hstack([near, more])
                at = np.hstack([at, np.tile(np.arange(first, first + more.shape[1]), (len(images), 1))])
                near, at = _nearest(near, at, kept)
            order = np.argsort(-near, axis=1, kind="stable")
            rows[start : start + BLOCK] = np.take_along_axis(at, order, axis=1)
            similarities[start : start + BLOCK] = np.take_along_axis(near, order, axis=1).clip(-1, 1)
    return rows, similarities


def _nearest(
    near: NDArray[np.float32], at: NDArray[np.int64], kept: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the `kept` highest similarities of each image and their rows, in the order in which they stand; of equal
    ones, the first."""
    if near.shape[1] <= kept:
        return near, at
    least = -np.partition(-near, kept - 1, axis=1)[:, kept - 1 : kept]
    above, level = near > least, near == least
    taken = above | (level & (level.cumsum(axis=1) <= kept - above.sum(axis=1, keepdims=True)))
    return near[taken].reshape(-1, kept), at[taken].reshape(-1, kept)


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
    near, _ = nearest_training(train_features, features, k)
    votes = train_weights[near].astype(np.float64)
    cells = np.arange(len(near))[:, None] * classes + train_labels[near]
    counts = np.bincount(cells.ravel(), votes.ravel(), minlength=len(near) * classes).reshape(len(near), classes)
    return (counts + _frequencies(train_labels, train_weights, classes)) / (votes.sum(axis=1, keepdims=True) + 1)


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
    if not weights.any():
        return min(candidates)
    near, _ = nearest_training(train_features, features, max(candidates))
    votes = train_weights[near].astype(np.float64)
    right = np.cumsum(votes * (train_labels[near] == labels[:, None]), axis=1)
    every = np.cumsum(votes, axis=1)
    chance = _frequencies(train_labels, train_weights, classes)[labels]
    losses = {}
    for k in sorted(candidates):
        last = min(k, near.shape[1]) - 1
        likelihoods = (right[:, last] + chance) / (every[:, last] + 1)
        losses[k] = np.average(-np.log(likelihoods.clip(np.finfo(np.float64).eps)), weights=weights)
    return min(losses, key=losses.__getitem__)


def _frequencies(labels: NDArray[np.integer], weights: NDArray[np.floating], classes: int) -> NDArray[np.float64]:
    """Return the share (classes,) of the weight that each class has, the same for each where there is no weight."""
    sums = np.bincount(labels, weights, minlength=classes)
    return sums / sums.sum() if sums.any() else np.full(classes, 1 / classes)


def _unit(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the features as float32 of length 1, those that are all 0 as they are."""
    features = features.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features))[:, None]
    return np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
