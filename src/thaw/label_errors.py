"""Labels that are likely to be wrong: those that a head which has not seen them finds least probable."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

BLOCK = 4096  # images whose features are held at a time
LOGITS = 2**22  # logits held at a time
LEAST = 1e-3  # variance added, of 1 that a channel has: copies of one picture have none, which float32 rounds below 0


def self_confidence(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    groups: NDArray[np.str_] | NDArray[np.integer],
    classes: int,
    *,
    folds: int = 5,
    shrinkage: float = 1.0,
    seed: int,
) -> NDArray[np.float64]:
    """Return the probability (n,) of each image's own label by a head that was trained without the image's group.

    features (n, channels) of any floating type, of all photographs (train, validation and test), labels (n,),
    weights (n,), groups (n,). `folds`: parts of whole groups, each predicted by what the others teach. Those with
    the lowest confidence are the likeliest wrong: benchmarks/label_errors.py says how many that finds. 1 for an image
    of which nothing can be said, since no other group is of its class.

    The head is a linear discriminant in which all classes are as likely: it finds as many wrong labels as logistic
    regression does, but is solved in one step, from sums that are read in blocks. `shrinkage` is added to the
    variance of the features within the classes, as a multiple of its mean. Beyond the features it holds
    folds * channels * (channels + classes) numbers.
    """
    confidence = np.ones(len(labels))
    if not weights.any():
        return confidence
    fold = _folds(labels, groups, folds, seed)
    with threadpool_limits(1):  # sums over several threads are not the same on every machine
        mean, scale = _standard(features, weights)
        rows = [np.flatnonzero(fold == i) for i in range(folds)]
        sums = [_sums(features, of_fold, labels, weights, classes, mean, scale) for of_fold in rows]
        for i in range(folds):
            weight, total, products = (sum(parts[:i] + parts[i + 1 :]) for parts in zip(*sums, strict=True))
            if not weight.any():
                continue
            known, kernel, bias = _discriminant(weight, total, products, shrinkage)
            own = np.searchsorted(known, labels)
            asked = np.flatnonzero((fold == i) & np.isin(labels, known))
            step = max(1, min(BLOCK, LOGITS // len(known)))
            for start in range(0, len(asked), step):
                block = asked[start : start + step]
                logits = (features[block].astype(np.float32) - mean) / scale @ kernel + bias
                logits -= logits.max(axis=1, keepdims=True)
                odds = np.exp(logits.astype(np.float64))
                confidence[block] = odds[np.arange(len(block)), own[block]] / odds.sum(axis=1)
    return confidence


def suspicious(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the images in the order in which their labels are worth a second look, the likeliest wrong first.

    By `self_confidence` as it is: to measure it by what is usual for the class, as others do, found fewer wrong labels.
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
    for start in range(0, len(features), BLOCK):
        block = features[start : start + BLOCK].astype(np.float64)
        total += weights[start : start + BLOCK] @ block
        squares += weights[start : start + BLOCK] @ block**2
    mean = total / weights.sum()
    scale = np.sqrt(np.maximum(squares / weights.sum() - mean**2, 0))
    scale[scale < 1e-6] = 1
    return mean.astype(np.float32), scale.astype(np.float32)


def _sums(
    features: NDArray[np.floating],
    rows: NDArray[np.integer],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    classes: int,
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return weight (classes,), sum (classes, channels) and products (channels, channels) of standardised features."""
    channels = features.shape[1]
    weight = np.bincount(labels[rows], weights[rows], minlength=classes)
    total, products = np.zeros((classes, channels)), np.zeros((channels, channels))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        x = (features[block].astype(np.float32) - mean) / scale
        of_class = csr_array((weights[block], (labels[block], np.arange(len(block)))), shape=(classes, len(block)))
        total += of_class @ x
        products += x.T @ (x * weights[block, None].astype(np.float32))
    return weight, total, products


def _discriminant(
    weight: NDArray[np.float64], total: NDArray[np.float64], products: NDArray[np.float64], shrinkage: float
) -> tuple[NDArray[np.integer], NDArray[np.float32], NDArray[np.float32]]:
    """Return the classes that have a weight (k,), and the kernel (channels, k) and bias (k,) of their logits."""
    known = np.flatnonzero(weight)
    means = total[known] / weight[known, None]
    within = (products - (means * weight[known, None]).T @ means) / weight.sum()
    channels = len(within)
    within[np.diag_indices(channels)] += max(shrinkage * np.trace(within) / channels, LEAST)
    kernel = cho_solve(cho_factor(within, lower=True), means.T)
    bias = -np.einsum("kc,ck->k", means, kernel) / 2
    return known, kernel.astype(np.float32), bias.astype(np.float32)
