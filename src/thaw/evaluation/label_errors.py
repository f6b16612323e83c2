"""Labels that are likely to be wrong: those that a head which has not seen them finds least probable."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from thaw.core import arrays
from thaw.features.discriminant import ClassSums, describe, solve
from thaw.features.examples import Examples

BLOCK_IMAGES = 4096  # whose features are held at a time
BLOCK_LOGITS = 2**22  # held at a time


def self_confidence(
    features: NDArray[np.floating] | arrays.Rows,
    examples: Examples,
    classes: int,
    *,
    folds: int = 5,
    shrinkage: float = 1.0,
    seed: int,
) -> NDArray[np.float64]:
    """Return the probability of each image's own label by a head that was trained without the image's group.

    The images with the lowest confidence are the likeliest to be labelled wrongly: benchmarks/label_errors.py measures
    how many wrong labels that finds.

    The head is a linear discriminant in which all classes are equally likely. It finds as many wrong labels as logistic
    regression does, but is solved in one step, from sums that are read in blocks. Beyond the features it holds
    folds * channels * (channels + classes) numbers.

    Args:
        features: (n, channels), of any floating type, a row for each of the examples; an array or `arrays.Rows`.
        examples: all images: train, validation and test.
        classes: the number of classes.
        folds: parts of whole groups, each predicted by a head that is trained on the others.
        shrinkage: is added to the variance of the features within the classes, as a multiple of its mean.
        seed: of the folds.

    Returns:
        (n,) float64 in 0 … 1. It is 1 where no other group has the image's class.
    """
    labels, weights = examples.labels, examples.weights
    confidence = np.ones(len(labels))
    if not weights.any():
        return confidence
    fold = _folds(labels, examples.groups, folds, seed)
    with threadpool_limits(1):  # sums over several threads are not the same on every machine
        training = _TrainingSet(features, labels, weights, classes, *_standard(features, weights))
        sums = [training.sums(np.flatnonzero(fold == i)) for i in range(folds)]
        for i in range(folds):
            other_folds = ClassSums(*(sum(parts[:i] + parts[i + 1 :]) for parts in zip(*sums, strict=True)))
            if not other_folds.weight.any():
                continue
            classes_of_fold = describe(other_folds)
            present = classes_of_fold.present
            kernel, bias = (part.astype(np.float32) for part in solve(classes_of_fold, shrinkage))
            own = np.searchsorted(present, labels)
            judged = np.flatnonzero((fold == i) & np.isin(labels, present))
            step = max(1, min(BLOCK_IMAGES, BLOCK_LOGITS // len(present)))
            for start in range(0, len(judged), step):
                block = judged[start : start + step]
                logits = training.standardised(block) @ kernel + bias
                logits -= logits.max(axis=1, keepdims=True)
                odds = np.exp(logits.astype(np.float64))
                confidence[block] = odds[np.arange(len(block)), own[block]] / odds.sum(axis=1)
    return confidence


def suspicious(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the positions of the images, the likeliest wrong label first, by their `self_confidence` (n,).

    Others compare the confidence with what is usual for the class: that found fewer wrong labels.
    """
    return np.argsort(confidence, kind="stable")


def _folds(
    labels: NDArray[np.integer], groups: NDArray[np.str_] | NDArray[np.integer], folds: int, seed: int
) -> NDArray[np.integer]:
    """Return the fold (n,) of each image: groups whole, each class (of a group's first image) spread over the folds."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(labels[first][order], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % folds
    return fold[group]


def _standard(
    features: NDArray[np.floating], weights: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weighted mean and standard deviation (channels,), 1 for a channel that never changes."""
    total, squares = np.zeros((2, features.shape[1]))
    for start in range(0, len(features), BLOCK_IMAGES):
        block = features[start : start + BLOCK_IMAGES].astype(np.float64)
        total += weights[start : start + BLOCK_IMAGES] @ block
        squares += weights[start : start + BLOCK_IMAGES] @ block**2
    mean = total / weights.sum()
    scale = np.sqrt(np.maximum(squares / weights.sum() - mean**2, 0))
    scale[scale < 1e-6] = 1
    return mean.astype(np.float32), scale.astype(np.float32)


@dataclass(frozen=True)
class _TrainingSet:
    """Labelled images whose features are standardised when they are read."""

    features: NDArray[np.floating]  # (n, channels)
    labels: NDArray[np.integer]  # (n,)
    weights: NDArray[np.floating]  # (n,)
    classes: int
    mean: NDArray[np.float32]  # (channels,)
    scale: NDArray[np.float32]  # (channels,)

    def standardised(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the features of these rows, each channel with mean 0 and variance 1 over all images."""
        return (arrays.as_float32(self.features[rows]) - self.mean) / self.scale

    def sums(self, rows: NDArray[np.integer]) -> ClassSums:
        channels = self.features.shape[1]
        weight = np.bincount(self.labels[rows], self.weights[rows], minlength=self.classes)
        total, products = np.zeros((self.classes, channels)), np.zeros((channels, channels))
        for start in range(0, len(rows), BLOCK_IMAGES):
            block = rows[start : start + BLOCK_IMAGES]
            x, weights = self.standardised(block), self.weights[block]
            cells = (self.labels[block], np.arange(len(block)))
            total += csr_array((weights, cells), shape=(self.classes, len(block))) @ x
            products += x.T @ (x * weights[:, None].astype(np.float32))
        return ClassSums(weight, total, products)
