"""The linear discriminant on frozen features: classes that differ in their means and share one covariance.

It is solved in one step. The covariance of few images is mostly chance, so it is shrunk towards that of channels which
are independent and vary alike. Shrunk without limit, it leaves the nearest class mean.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from thaw.core import arrays
from thaw.features import streamed_probe
from thaw.features.examples import Examples
from thaw.features.linear_probe import Samples, channel_scale, standardised

MIN_VARIANCE = 1e-3  # added, of 1 that a channel has: copies of one picture have none, which float32 rounds below 0
STRENGTHS = (
    0.001,
    0.01,
    0.1,
    0.3,
    1.0,
    3.0,
    10.0,
    30.0,
    100.0,
)  # of the nearest class mean; of few images; of thousands
MAX_SPREAD = 100.0  # of the logits of an image, on average, that `calibrate` gives
MIN_SPREAD = 0.01  # so that even features which seem to tell nothing order the classes


class ClassSums(NamedTuple):
    """Sums over the images of a training set: sums of parts add up to those of the whole."""

    weight: NDArray[np.float64]  # (classes,), that each class has
    total: NDArray[np.float64]  # (classes, channels), weighted sum of the features
    products: NDArray[np.floating]  # (channels, channels), weighted sum of the products of the features


class Classes(NamedTuple):
    """What the images of a training set say of the classes that have a weight."""

    present: NDArray[np.integer]  # (k,) positions of these classes
    means: NDArray[np.float64]  # (k, channels)
    within: NDArray[np.float64]  # (channels, channels), the covariance within the classes


class Discriminant(NamedTuple):
    """Logits features @ kernel + bias, before `calibrate`. They spread over 1 where the class means are, on average."""

    kernel: NDArray[np.float64]  # (channels, classes)
    bias: NDArray[np.float64]  # (classes,)
    strength: float  # the inverse of the shrinkage


def describe(sums: ClassSums) -> Classes:
    """Return the means of the classes and the covariance within them."""
    present = np.flatnonzero(sums.weight)
    weight = sums.weight[present, None]
    means = sums.total[present] / weight
    return Classes(present, means, (sums.products - (means * weight).T @ means) / sums.weight.sum())


def solve(classes: Classes, shrinkage: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the kernel (channels, k) and the bias (k,) of the classes' logits, where all are equally likely.

    `shrinkage` is added to the variance of the features within the classes, as a multiple of its mean.
    """
    within = classes.within.copy()
    channels = len(within)
    within[np.diag_indices(channels)] += max(shrinkage * np.trace(within) / channels, MIN_VARIANCE)
    kernel = cho_solve(cho_factor(within, lower=True, overwrite_a=True), classes.means.T)
    return kernel, -np.einsum("kc,ck->k", classes.means, kernel) / 2


def fit_path(samples: Samples, strengths: Sequence[float]) -> Iterator[Discriminant]:
    """Fit a discriminant at each strength, in ascending order: the first is nearest to the nearest class mean.

    All is computed on one thread: sums over several are not the same on every machine.
    """
    with threadpool_limits(1):
        sums, mean, scale = _sums_in_blocks(samples) if isinstance(samples.features, arrays.Rows) else _sums(samples)
        classes, weight = describe(sums), sums.weight
        for strength in sorted(strengths):
            # The variance keeps its mean in spite of what is added: so the classes' shares outweigh no features.
            kernel, bias = (part * (1 + 1 / strength) for part in solve(classes, 1 / strength))
            bias += np.log(weight / weight.sum())
            spread = np.average(np.ptp(classes.means @ kernel + bias, axis=1), weights=weight) or 1.0
            kernel, bias = kernel / spread, bias / spread
            kernel = kernel / scale[:, None]
            yield Discriminant(kernel, bias - mean @ kernel, strength)


def _sums(samples: Samples) -> tuple[ClassSums, NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums over scaled features, their mean, and their scale."""
    labels, weights = samples.labels, samples.weights
    x, mean, scale = standardised(samples.features, weights, dtype=np.float32)  # half the time of float64
    weight = np.bincount(labels, weights)
    total = np.stack([weights[labels == label] @ x[labels == label] for label in range(len(weight))])
    products = x.T @ (x * weights[:, None].astype(np.float32))
    return ClassSums(weight, total, products.astype(np.float64)), mean, scale


def _sums_in_blocks(samples: Samples) -> tuple[ClassSums, NDArray[np.float64], NDArray[np.float64]]:
    """Return the same of features that are too many to hold."""
    mean, variance = streamed_probe.moments(samples.features, samples.weights)
    scale, weight = channel_scale(variance), np.bincount(samples.labels, samples.weights)

    def sums(rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = ((arrays.as_float32(samples.features[rows]) - mean) / scale).astype(np.float32)
        labels, weights = samples.labels[rows], samples.weights[rows]
        total = csr_array((weights, (labels, np.arange(len(x)))), shape=(len(weight), len(x))) @ x
        return total, (x.T @ (x * weights[:, None].astype(np.float32))).astype(np.float64)

    total, products = streamed_probe.add(streamed_probe.in_blocks(samples.features, sums))
    return ClassSums(weight, total, products), mean, scale


def calibrate(discriminant: Discriminant, features: NDArray[np.floating], validation: Examples) -> float:
    """Return the factor for the logits with which their log loss on (n, channels) features of validation is lowest.

    A discriminant of few images is far too sure of itself. Beside the images of validation, half an image is counted as
    right and half an image as wrong (Krichevsky and Trofimov 1981). So where all of a few are right, the model is not
    made sure without limit. Near-duplicates count as one image.
    """
    with threadpool_limits(1):
        blocks = arrays.blocks(features, np.arange(len(features)))
        logits = np.concatenate([x.astype(np.float64) @ discriminant.kernel + discriminant.bias for x in blocks])
    weights = validation.weights
    if not weights.any() or logits.shape[1] < 2:
        return 1.0
    logits -= logits.mean(axis=1, keepdims=True)
    spread = float(np.average(np.ptp(logits, axis=1), weights=weights))
    if spread == 0:
        return 1.0
    wrong = 0.5 / (len(np.unique(validation.groups[weights > 0])) + 1)
    own = logits[np.arange(len(logits)), validation.labels]
    target = (1 - wrong) * own - wrong * own / (logits.shape[1] - 1)  # the others sum to the negative of its own

    def slope(factor: float) -> float:
        """Return the derivative of the loss by the factor, in which the loss is convex."""
        probabilities = softmax(factor * logits, axis=1)
        return float(weights @ ((probabilities * logits).sum(axis=1) - target))

    low, high = MIN_SPREAD / spread, MAX_SPREAD / spread
    if slope(low) >= 0:
        return low
    if slope(high) <= 0:
        return high
    return float(brentq(slope, low, high))
