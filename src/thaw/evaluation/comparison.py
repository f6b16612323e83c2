"""What a model is compared with: another model on the same images, the majority class, the nearest neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from thaw.core import arrays
from thaw.evaluation.resampling import Resampled, Resampling, interval, resample
from thaw.evaluation.scored import Scored

NEIGHBOURS = (1, 3, 5, 10, 20, 50)  # numbers of neighbours that are tried on validation
MAX_TRAINING = 20_000  # training images among which neighbours are looked for; drawn where there are more
BLOCK_IMAGES = 2048  # whose features are held at a time, on either side


@dataclass(frozen=True)
class LabelledFeatures:
    """Images whose labels are known, by their features."""

    features: NDArray[np.floating] | arrays.Rows  # (n, channels)
    labels: NDArray[np.integer]  # (n,)
    weights: NDArray[np.floating]  # (n,) >= 0

    def drawn(self, count: int, seed: int) -> "LabelledFeatures":
        """Return at most `count` of these images, drawn at random, in their order."""
        if len(self.labels) <= count:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self.labels), count, replace=False))
        return LabelledFeatures(read_features(self.features, rows), self.labels[rows], self.weights[rows])


def read_features(features: NDArray[np.floating] | arrays.Rows, rows: NDArray[np.integer]) -> NDArray[np.floating]:
    """Return rows of the features, read in blocks: of a memory map, no more than a block is in memory at a time.

    Of rows that lie apart, each takes up to 64 KB of the map with it.
    """
    chosen = arrays.Rows(features, rows)
    return np.concatenate([chosen[first : first + BLOCK_IMAGES] for first in range(0, max(1, len(rows)), BLOCK_IMAGES)])


def mcnemar(hits_a: NDArray[np.bool_], hits_b: NDArray[np.bool_]) -> dict[str, int | float]:
    """Return McNemar's exact test of two models on the same images, each (n,) True where the model is right.

    `both`, `only_a`, `only_b` and `neither` are numbers of images. `p` is two-sided: a binomial test of 1/2 on the
    images where just one model is right. It is 1 where there is none. The test takes the images as independent;
    `paired_difference` does not.
    """
    both, only_a = int((hits_a & hits_b).sum()), int((hits_a & ~hits_b).sum())
    only_b, neither = int((~hits_a & hits_b).sum()), int((~hits_a & ~hits_b).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither, "p": p}


def paired_difference(a: Scored, b: Scored, bins: int, resampling: Resampling) -> dict[str, dict[str, float | None]]:
    """Return a - b for every measure, plain and weighted, with its 95 % interval.

    Both models are measured on the same resamples of the groups: what makes a test split easy for both cancels out.

    Args:
        a: the images, scored by the first model.
        b: the same images, scored by the second model.
        bins: those of the calibration error.
        resampling: how the groups are resampled.

    Returns:
        Measure → `difference`, `low`, `high`, as in `{"accuracy": {"difference": 0.02, "low": 0.00, "high": 0.04}, …}`.
        The measures are those of `resampling.resample`. Undefined is None. `ece` has no interval: what chance adds to
        it differs by model and resample.
    """
    return subtract(resample(a, bins, resampling), resample(b, bins, resampling))


def subtract(values_a: Resampled, values_b: Resampled) -> dict[str, dict[str, float | None]]:
    """Return the `paired_difference` of two models from their values on the same resamples."""
    differences = {}
    for name in values_a:
        if name.startswith("ece"):
            errors = [np.abs(gaps[:, 0]).sum() for gaps in (values_a[name], values_b[name])]
            values = None if np.isnan(errors).any() else float(errors[0] - errors[1]), None, None
        else:
            values = interval(values_a[name] - values_b[name])
        differences[name] = dict(zip(("difference", "low", "high"), values, strict=True))
    return differences


def majority_probabilities(train: LabelledFeatures, classes: int, count: int) -> NDArray[np.float64]:
    """Return (count, classes) probabilities: for each image the weighted frequencies of the training labels.

    They predict the majority class. Where all training weights are 0, each class has the same probability.
    """
    return np.tile(_frequencies(train, classes), (count, 1))


def nearest_training(
    train_features: NDArray[np.floating], features: NDArray[np.floating], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest training images of each image: their rows (n, k) and cosine similarities (n, k), -1 … 1.

    train_features (m, channels) and features (n, channels) are of any floating type. The nearest stands first; of
    equally near ones, that of the lower row. There are min(k, m) columns. A feature that is all 0 has the similarity 0
    to everything. Both are read in blocks: beyond them and the result it holds some 100 MB, whatever their size.
    """
    k = min(k, len(train_features))
    rows, similarities = np.empty((len(features), k), np.int64), np.empty((len(features), k), np.float32)
    with threadpool_limits(1):  # sums over several threads are not the same on every machine
        for start in range(0, len(features), BLOCK_IMAGES):
            images = _unit(features[start : start + BLOCK_IMAGES])
            near, near_rows = np.empty((len(images), 0), np.float32), np.empty((len(images), 0), np.int64)
            for first in range(0, len(train_features), BLOCK_IMAGES):
                more = images @ _unit(train_features[first : first + BLOCK_IMAGES]).T
                more_rows = np.arange(first, first + more.shape[1])
                if near.shape[1] == k:
                    more, more_rows = _above(more, more_rows, near.min(axis=1, keepdims=True))
                else:
                    more_rows = np.tile(more_rows, (len(images), 1))
                near, near_rows = _nearest(np.hstack([near, more]), np.hstack([near_rows, more_rows]), k)
            order = np.argsort(-near, axis=1, kind="stable")
            rows[start : start + BLOCK_IMAGES] = np.take_along_axis(near_rows, order, axis=1)
            similarities[start : start + BLOCK_IMAGES] = np.take_along_axis(near, order, axis=1).clip(-1, 1)
    return rows, similarities


def _above(
    near: NDArray[np.float32], rows: NDArray[np.int64], lowest: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the similarities (n, m) of each image above its `lowest` (n, 1), and their rows, in their order.

    `rows` (m,) are those of the columns. Each image has as many columns as the one with most; -inf fills them. Of many
    training images, most are below, and need no further comparison.
    """
    image, column = np.nonzero(near > lowest)
    counts = np.bincount(image, minlength=len(near))
    place = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
    above = np.full((len(near), counts.max(initial=0)), -np.inf, np.float32)
    above_rows = np.zeros(above.shape, np.int64)
    above[image, place], above_rows[image, place] = near[image, column], rows[column]
    return above, above_rows


def _nearest(
    near: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k highest similarities of each image and their rows, in their order. Of equal ones, the first."""
    if near.shape[1] <= k:
        return near, rows
    lowest = -np.partition(-near, k - 1, axis=1)[:, k - 1 : k]
    taken = near >= lowest
    if np.count_nonzero(taken) > k * len(taken):  # several are the last of some image: rare
        above, level = near > lowest, near == lowest
        taken = above | (level & (level.cumsum(axis=1) <= k - above.sum(axis=1, keepdims=True)))
    return near[taken].reshape(-1, k), rows[taken].reshape(-1, k)


def neighbour_probabilities(
    train: LabelledFeatures, features: NDArray[np.floating], classes: int, k: int
) -> NDArray[np.float64]:
    """Return probabilities by the vote of the k nearest training images, after `nearest_training`.

    A neighbour's vote weighs as its label does. One vote more is given out by the frequencies of the training labels:
    it settles ties, and no class has the probability 0 only because k is small. Votes are counted in blocks of images.

    Args:
        train: the training images.
        features: (n, channels), of the images to be predicted.
        classes: their number.
        k: how many neighbours vote.

    Returns:
        (n, classes) float64.
    """
    frequencies, probabilities = _frequencies(train, classes), np.empty((len(features), classes))
    for start in range(0, len(features), BLOCK_IMAGES):
        near, _ = nearest_training(train.features, features[start : start + BLOCK_IMAGES], k)
        votes = train.weights[near].astype(np.float64)
        cells = np.arange(len(near))[:, None] * classes + train.labels[near]
        counts = np.bincount(cells.ravel(), votes.ravel(), minlength=len(near) * classes).reshape(len(near), classes)
        block = (counts + frequencies) / (votes.sum(axis=1, keepdims=True) + 1)
        probabilities[start : start + BLOCK_IMAGES] = block
    return probabilities


def choose_neighbours(
    train: LabelledFeatures, validation: LabelledFeatures, classes: int, candidates: Sequence[int] = NEIGHBOURS
) -> int:
    """Choose how many neighbours vote: those with the lowest weighted log loss on the validation split.

    Args:
        train: the training images.
        validation: the images that decide.
        classes: the number of classes.
        candidates: the numbers of neighbours to choose from.

    Returns:
        One of `candidates`; of equally good ones, the smallest. It is the smallest, too, where no validation image has
        a weight.
    """
    if not validation.weights.any():
        return min(candidates)
    near, _ = nearest_training(train.features, validation.features, max(candidates))
    votes = train.weights[near].astype(np.float64)
    right = np.cumsum(votes * (train.labels[near] == validation.labels[:, None]), axis=1)
    every = np.cumsum(votes, axis=1)
    chance = _frequencies(train, classes)[validation.labels]
    losses = {}
    for k in sorted(candidates):
        last = min(k, near.shape[1]) - 1
        likelihoods = (right[:, last] + chance) / (every[:, last] + 1)
        losses[k] = np.average(-np.log(likelihoods.clip(np.finfo(np.float64).eps)), weights=validation.weights)
    return min(losses, key=losses.__getitem__)


def _frequencies(train: LabelledFeatures, classes: int) -> NDArray[np.float64]:
    """Return the share (classes,) of the weight that each class has, the same for each where there is no weight."""
    sums = np.bincount(train.labels, train.weights, minlength=classes)
    return sums / sums.sum() if sums.any() else np.full(classes, 1 / classes)


def _unit(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the features as float32 of length 1, those that are all 0 as they are."""
    features = arrays.as_float32(features)
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features))[:, None]
    return np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
