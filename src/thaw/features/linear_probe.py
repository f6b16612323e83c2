"""The linear probe: multinomial logistic regression on frozen features, as scikit-learn fits it."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from thaw.features.examples import Examples, weighted_scores

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

# Enough for convergence at every C that was tried; a fit that starts from the one before needs far fewer.
MAX_ITERATIONS = 2000
MAX_RISES = 2  # of the validation loss in a row; then a path ends
MIN_DEVIATION = 1e-6  # of a channel that changes
SHRINKAGE = 0.5  # of the channels' variances towards their mean


@dataclass(frozen=True)
class Samples:
    """What a probe is fitted to."""

    features: np.ndarray  # (n, channels) float32
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
    logits = features.astype(np.float64) @ kernel + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def fit_path(samples: Samples, Cs: Sequence[float]) -> Iterator[Probe]:  # noqa: N803
    """Fit a probe at each C, in ascending order. Each fit starts from the one before.

    Features are scaled for the fit, as `standardised` does. The scale is then folded into the kernel. All is computed
    on one thread: sums over several are not the same on every machine.
    """
    from sklearn.linear_model import LogisticRegression  # takes 0.7 s, which loading a head does not need

    x, mean, scale = standardised(samples.features, samples.weights)
    x = x.astype(np.float32)  # half the memory, so half the time; losses are the same to 1e-4
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
        why = "features of very different sizes may be the cause"
        print(f"thaw: warning: the fit at C {model.C:g} stopped at {MAX_ITERATIONS:,} steps, before its end: {why}",
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
    features: np.ndarray, weights: np.ndarray, shrinkage: float = SHRINKAGE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (n, channels) features less their weighted mean, divided by their scale; the mean; the scale.

    The scale (channels,) is the deviation, whose square is shrunk towards the mean over all channels that change: with
    a `shrinkage` of 0 not at all, with 1 all the way. Divided by its own deviation, each channel counts the same. But
    many channels of a backbone hardly change, and how much a few images change them is chance. What shrinking gains is
    measured by benchmarks/probes.py. The scale is 1 for a channel that never changes.
    """
    mean = np.average(features, axis=0, weights=weights)
    variance = np.average((features - mean) ** 2, axis=0, weights=weights)
    changes = variance > MIN_DEVIATION**2
    scale = np.ones_like(variance)
    if changes.any():
        scale[changes] = np.sqrt((1 - shrinkage) * variance[changes] + shrinkage * variance[changes].mean())
    return (features - mean) / scale, mean, scale
