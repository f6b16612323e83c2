"""Logistic regression on features that are too many to hold: each step of the fit reads them again, in blocks.

The loss, the penalty and the tolerance are those of `linear_probe`, so the heads are the same but for their last
digits. Steps are dear here. So the method (L-BFGS) works on features that are whitened by the curvature of the loss,
which a sample of the images gives: of 6,296 views of the solar cells, a path of 11 fits takes 152 steps instead of
1,262.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thaw.core import arrays, prefetch
from thaw.core.machine import usable_cores

BLOCK_NUMBERS = 2**22  # of features that are read at a time: 16 MB as float32
MAX_SAMPLE = 20_000  # rows that give the curvature; it need not be exact
MAX_SLOPE = 1e-5  # of the mean loss, where a fit ends: scikit-learn's `tol` in `linear_probe`
MIN_FALL = 1e-10  # of the loss in a step, as a fraction: float32 tells no smaller one

Features = NDArray[np.floating] | arrays.Rows  # (n, channels)
Part = TypeVar("Part", bound=tuple)


class Fit(NamedTuple):
    """The logits of features as they are: features @ kernel + bias."""

    kernel: NDArray[np.float64]  # (channels, classes)
    bias: NDArray[np.float64]  # (classes,)
    C: float
    ended: bool  # False: it was stopped at the maximum of its steps


class Sums(NamedTuple):
    """Weighted sums over images, for features less their mean."""

    loss: float
    by_kernel: NDArray[np.float64]  # (channels, classes), the derivative of the loss
    by_bias: NDArray[np.float64]  # (classes,)


@dataclass(frozen=True)
class Problem:
    """What is fitted. Features are less `mean` (channels,), divided by `scale` (channels,)."""

    features: Features
    labels: NDArray[np.integer]  # (n,), each class at least once
    weights: NDArray[np.floating]  # (n,)
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def unscaled(
        self, kernel: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the kernel and the bias for features as they are."""
        kernel = kernel / self.scale[:, None]
        return kernel, bias - self.mean @ kernel

    def loss(
        self, kernel: NDArray[np.float64], bias: NDArray[np.float64], penalty: float
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean loss of a kernel (channels, classes) and a bias (classes,), and its derivatives by both."""
        total, scale = self.weights.sum(), self.scale[:, None]
        loss, by_kernel, by_bias = add(in_blocks(self.features, self._sums(kernel / scale, bias)))
        value = loss / total + penalty * (kernel**2).sum() / 2
        return value, by_kernel / (scale * total) + penalty * kernel, by_bias / total

    def _sums(self, kernel: NDArray[np.float64], bias: NDArray[np.float64]) -> Callable[[slice], Sums]:
        """Return the function from the rows of a block to its sums."""
        kernel, mean = kernel.astype(np.float32), self.mean.astype(np.float32)

        def sums(rows: slice) -> Sums:
            labels, weights = self.labels[rows], self.weights[rows]
            x = arrays.as_float32(self.features[rows])
            x -= mean
            logits = x @ kernel + bias
            logits -= logits.max(axis=1, keepdims=True)
            odds = np.exp(logits)
            every, own = odds.sum(axis=1), (np.arange(len(x)), labels)
            loss = weights @ (np.log(every) - logits[own])
            errors = odds / every[:, None]
            errors[own] -= 1
            errors *= weights[:, None]
            return Sums(float(loss), (x.T @ errors.astype(np.float32)).astype(np.float64), errors.sum(axis=0))

        return sums


def moments(features: Features, weights: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weighted mean and variance (channels,) of features (n, channels)."""

    def sums(rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = arrays.as_float32(features[rows]).astype(np.float64)
        return weights[rows] @ x, weights[rows] @ x**2

    with threadpool_limits(1):
        mean, square = (total / weights.sum() for total in add(in_blocks(features, sums)))
    return mean, (square - mean**2).clip(0)


def fit_path(problem: Problem, Cs: Sequence[float], max_steps: int) -> Iterator[Fit]:  # noqa: N803
    """Fit at each C, in ascending order. Each fit starts from the one before.

    Args:
        problem: What is fitted.
        Cs: Inverse strengths of the penalty, as in scikit-learn.
        max_steps: Of each fit.

    Yields:
        The fit at each C.
    """
    classes = int(problem.labels.max()) + 1
    rows = np.arange(0, len(problem.labels), -(-len(problem.labels) // MAX_SAMPLE))
    sample = ((problem.features[rows] - problem.mean) / problem.scale).astype(np.float32)
    sample_weights = problem.weights[rows] / problem.weights[rows].sum()
    kernel, bias = np.zeros((len(problem.mean), classes)), np.zeros(classes)
    for C in sorted(Cs):  # noqa: N806
        # For two classes scikit-learn has one kernel, the difference of these two: its penalty is twice as large.
        penalty = (2 if classes == 2 else 1) / (C * problem.weights.sum())
        with threadpool_limits(1):
            root = _curvature_root(sample, sample_weights, kernel, bias, penalty)
            kernel, bias, ended = _minimise(problem, kernel, bias, root, penalty, max_steps)
        yield Fit(*problem.unscaled(kernel, bias), C, ended)


def in_blocks(features: Features, function: Callable[[slice], Part]) -> Iterator[Part]:
    """Yield the function of the rows of each block, in order, while those of other blocks are computed."""
    size = max(1, BLOCK_NUMBERS // features.shape[1])
    threads = usable_cores()
    blocks = (slice(start, start + size) for start in range(0, len(features), size))
    return prefetch.map_in_order(function, blocks, threads, ahead=threads)


def add(parts: Iterable[Part]) -> Part:
    """Return the sums of the members of tuples, added one after the other: no sum depends on timing."""
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total = tuple(a + b for a, b in zip(total, part, strict=True))
    return total


def _curvature_root(
    x: NDArray[np.float32],
    weights: NDArray[np.floating],
    kernel: NDArray[np.float64],
    bias: NDArray[np.float64],
    penalty: float,
) -> NDArray[np.float64]:
    """Return the lower triangular root (channels, channels) of the loss' curvature, the mean over the classes.

    Args:
        x: (m, channels), scaled features of a sample.
        weights: (m,), sum 1.
        kernel: (channels, classes), where the curvature is measured.
        bias: (classes,)
        penalty: of the squared kernel.
    """
    from scipy.linalg import cholesky
    from scipy.special import softmax

    p = softmax(x @ kernel + bias, axis=1)
    weighted = x * np.sqrt((p * (1 - p)).mean(axis=1) * weights)[:, None].astype(np.float32)
    curvature = (weighted.T @ weighted).astype(np.float64)
    curvature[np.diag_indices(len(curvature))] += max(penalty, 1e-6 * np.trace(curvature) / len(curvature))
    return cholesky(curvature, lower=True)


def _minimise(
    problem: Problem,
    kernel: NDArray[np.float64],
    bias: NDArray[np.float64],
    root: NDArray[np.float64],
    penalty: float,
    max_steps: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Minimise the loss from a kernel and a bias on: return those at the end, and whether it was reached.

    `root` is that of `_curvature_root`; the other arguments are those of `Problem.loss` and `fit_path`.
    """
    from scipy.linalg import solve_triangular  # these take half a second, which loading a head does not need
    from scipy.optimize import minimize

    steepest = np.inf

    def unpacked(flat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        whitened, bias = flat[: kernel.size].reshape(kernel.shape), flat[kernel.size :]
        return solve_triangular(root, whitened, trans=1, lower=True), bias

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal steepest
        value, by_kernel, by_bias = problem.loss(*unpacked(flat), penalty)
        steepest = max(np.abs(by_kernel).max(), np.abs(by_bias).max())
        return value, np.concatenate([solve_triangular(root, by_kernel, lower=True).ravel(), by_bias])

    def end_if_level(intermediate_result: object) -> None:
        if steepest <= MAX_SLOPE:
            raise StopIteration

    start = np.concatenate([(root.T @ kernel).ravel(), bias])
    options = {"maxiter": max_steps, "gtol": 0, "ftol": MIN_FALL}
    found = minimize(loss, start, method="L-BFGS-B", jac=True, options=options, callback=end_if_level)
    return *unpacked(found.x), found.nit < max_steps
