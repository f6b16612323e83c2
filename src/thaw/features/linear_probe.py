"""The linear probe: multinomial logistic regression on frozen features, as scikit-learn fits it."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from thaw.core import arrays
from thaw.features import streamed_probe
from thaw.features.examples import Examples, weighted_scores

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

# Enough for convergence at every C that was tried; a fit that starts from the one before needs far fewer.
MAX_ITERATIONS = 2000
MAX_RISES = 2  # of the validation loss in a row; then a path ends
MIN_DEVIATION = 1e-6  # of a channel that changes
SHRINKAGE = 0.5  # of the channels' variances towards their mean
MAX_HELD_BYTES = 2**29  # of features as float32, with which a fit holds them; it needs about three times as much
BLOCK_CHANNELS = 64  # of which sums are computed at a time: those of each are the same in any block
BLOCK_ROWS = 2**14  # whose probabilities are computed at a time


@dataclass(frozen=True)
class Samples:
    """What a probe is fitted to."""

    features: np.ndarray | arrays.Rows  # (n, channels) float32; or rows of an array that are too many to hold
    labels: np.ndarray  # (n,) int, each class at least once
    weights: np.ndarray  # (n,) float


@dataclass(frozen=True)
class Probe:
    """Softmax(features @ kernel + bias): kernel (channels, classes) and bias (classes,) float32."""

    kernel: np.ndarray
    bias: np.ndarray
    C: float  # inverse strength of the penalty, as in scikit-learn

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, classes) float64 probabilities for (n, channels) features."""
        return softmax(features, self.kernel, self.bias)


class Classifier(Protocol):
    """What a path of fits consists of."""

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, classes) float64 probabilities for (n, channels) features."""
        ...


Fitted = TypeVar("Fitted", bound=Classifier)


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def softmax(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return softmax(features @ kernel + bias), (n, classes) float64, for (n, channels) features."""
    probabilities = np.empty((len(features), len(bias)))
    for start in range(0, len(features), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        logits = features[block].astype(np.float64) @ kernel + bias
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities[block] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def read_samples(features: np.ndarray, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Samples:
    """Return rows of (…, channels) features as samples: in memory, or read in blocks where they are too many to hold.

    rows, labels and weights are (n,).
    """
    chosen = arrays.Rows(features, rows)
    is_held = 4 * len(rows) * features.shape[1] <= MAX_HELD_BYTES
    return Samples(arrays.as_float32(chosen[:]) if is_held else chosen, labels, weights)


def fit_path(samples: Samples, Cs: Sequence[float]) -> Iterator[Probe]:  # noqa: N803
    """Fit a probe at each C, in ascending order. Each fit starts from the one before.

    Features are scaled for the fit, as `standardised` does. The scale is then folded into the kernel. All is computed
    on one thread: sums over several are not the same on every machine. Features that are too many to hold,
    `streamed_probe` reads in blocks.
    """
    if isinstance(samples.features, arrays.Rows):
        yield from _fit_streamed(samples, Cs)
        return
    from sklearn.linear_model import LogisticRegression  # takes 0.7 s, which loading a head does not need

    # Half the memory, so half the time; losses are the same to 1e-4.
    x, mean, scale = standardised(samples.features, samples.weights, dtype=np.float32)
    model = LogisticRegression(max_iter=MAX_ITERATIONS, tol=1e-5, warm_start=True)
    with threadpool_limits(1):
        for C in sorted(Cs):  # noqa: N806
            _fit(model.set_params(C=C), x, samples)
            kernel, bias = model.coef_.T, model.intercept_
            if len(model.classes_) == 2:  # scikit-learn keeps one logit, of the second class
                kernel, bias = np.hstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
            kernel = kernel / scale[:, None]
            bias = bias - mean @ kernel
            yield Probe(kernel.astype(np.float32), bias.astype(np.float32), C)


def _fit(model: "LogisticRegression", x: np.ndarray, samples: Samples) -> None:
    """Fit a model to features (n, channels) float32; again in float64 where float32 is too coarse for it to converge.

    So it is where a fit of few images begins so close to its end that no step changes the loss in float32.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes")  # of few images, many are usual
        warnings.filterwarnings("error", category=ConvergenceWarning)
        try:
            model.fit(x, samples.labels, sample_weight=samples.weights)
            return
        except ConvergenceWarning:
            warnings.filterwarnings("ignore", category=ConvergenceWarning)
            model.fit(x.astype(np.float64), samples.labels, sample_weight=samples.weights)
    if model.n_iter_.max() >= MAX_ITERATIONS:
        _warn_of_no_end(model.C)


def _fit_streamed(samples: Samples, Cs: Sequence[float]) -> Iterator[Probe]:  # noqa: N803
    """Fit a probe at each C to features that are read in blocks."""
    mean, variance = streamed_probe.moments(samples.features, samples.weights)
    problem = streamed_probe.Problem(samples.features, samples.labels, samples.weights, mean, channel_scale(variance))
    for kernel, bias, C, ended in streamed_probe.fit_path(problem, Cs, MAX_ITERATIONS):  # noqa: N806
        if not ended:
            _warn_of_no_end(C)
        yield Probe(kernel.astype(np.float32), bias.astype(np.float32), C)


def _warn_of_no_end(C: float) -> None:  # noqa: N803
    why = "features of very different sizes may be the cause"
    print(f"thaw: warning: the fit at C {C:g} stopped at {MAX_ITERATIONS:,} steps, before its end: {why}",
          file=sys.stderr)  # fmt: skip


def until_worse(
    path: Iterable[Fitted], features: np.ndarray, validation: Examples
) -> Iterator[tuple[Fitted, float, float]]:
    """Yield each fit of a path with its weighted loss and accuracy on the (n, channels) features of validation.

    The path ends when the loss has risen MAX_RISES times in a row. The weaker penalties that follow take longest, and
    only fit the training images more closely.
    """
    rises, last = 0, np.inf
    for fitted in path:
        loss, accuracy = weighted_scores(fitted.probabilities(features), validation)
        yield fitted, loss, accuracy
        rises, last = rises + 1 if loss > last else 0, loss
        if rises == MAX_RISES:
            return


def standardised(
    features: np.ndarray,
    weights: np.ndarray,
    shrinkage: float = SHRINKAGE,
    dtype: type[np.floating] = np.float64,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features less their weighted mean, divided by their scale; the mean; the scale.

    Args:
        features: (n, channels).
        weights: (n,).
        shrinkage: Of the channels' variances, see `channel_scale`.
        dtype: Of the features that are returned.

    Returns:
        (n, channels) of `dtype`, (channels,) float64 and (channels,) float64.
    """
    channels = features.shape[1]
    edges = np.linspace(0, channels, 1 + max(1, channels // BLOCK_CHANNELS)).astype(int)
    blocks = [slice(*ends) for ends in pairwise(edges)]
    mean, variance = np.empty((2, channels))
    for block in blocks:
        values = features[:, block]
        mean[block] = np.average(values, axis=0, weights=weights)
        variance[block] = np.average((values - mean[block]) ** 2, axis=0, weights=weights)
    scale, x = channel_scale(variance, shrinkage), np.empty(features.shape, dtype)
    for block in blocks:
        x[:, block] = (features[:, block] - mean[block]) / scale[block]
    return x, mean, scale


def channel_scale(variance: np.ndarray, shrinkage: float = SHRINKAGE) -> np.ndarray:
    """Return by what each channel is divided, (channels,), from its variance.

    It is the deviation, whose square is shrunk towards the mean over all channels that change: with a `shrinkage` of 0
    not at all, with 1 all the way. Divided by its own deviation, each channel counts the same. But many channels of a
    backbone hardly change, and how much a few images change them is chance. What shrinking gains is measured by
    benchmarks/probes.py. The scale is 1 for a channel that never changes.
    """
    changes = variance > MIN_DEVIATION**2
    scale = np.ones_like(variance)
    if changes.any():
        scale[changes] = np.sqrt((1 - shrinkage) * variance[changes] + shrinkage * variance[changes].mean())
    return scale
