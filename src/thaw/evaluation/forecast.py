"""How many more photographs bring some points more: the learning curve, carried on.

The error of a head that is trained on n images is taken to be level * (floor + (1 - floor) * (n / all)^-exponent): a
power law that ends at an error no number of images removes (Viering & Loog 2021, arXiv 2103.10948). Five sizes cannot
tell the three numbers: the curve that fits best may lie far off. So all curves of a grid are kept, each as probable as
it makes the sizes that were measured. Everything that is said are means and quantiles over these curves. No number is
drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thaw.evaluation.scored import Row

Array = NDArray[np.float64]

POINTS = (1, 2, 3)  # percentage points of accuracy that are asked for
AHEAD = (1.0, 1.5, 2.0, 3.0, 4.0)  # times as many images, for which the accuracy is predicted
MIN_SIZES = 4  # to fit three numbers, and to see whether they fit
MIN_GROWTH = 1.5  # from one size to the next: two that hardly differ are one
MAX_RATIO = 10.0  # of the ends of an interval: a wider one says nothing
MAX_TIMES = 16.0  # as many images, where an interval may end: as far ahead as the smallest size lies behind
MAX_FLAT = 0.025  # probability that the error has not fallen, for a curve that falls
# All of these are equally probable before anything is measured. Classifiers' curves were found to fall with exponents
# of 0.1 to 1 (Hestness et al. 2017, arXiv 1712.00409); steeper ones leave room for an error that is nearly at its end.
FLOORS = np.linspace(0, 0.95, 20)
EXPONENTS = np.linspace(0.1, 1.5, 15)
NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 20) for i in range(20)])  # stand for a normal distribution
EDGE = 1e-4  # deviation of an error that shows none, as of heads that are always right


@dataclass(frozen=True)
class Part:
    """A head that was trained on a part of the images, as the test split sees it."""

    images: int  # that it was trained on
    round: int  # whose test split it is measured on
    hits: NDArray[np.bool_]  # (n,) where it is right
    groups: NDArray[np.str_]  # (n,) near-duplicates share one
    weights: NDArray[np.floating]  # (n,)


@dataclass(frozen=True)
class Needed:
    """How many times as many images bring some points more, with the 95 % interval."""

    times: float
    low: float
    high: float


@dataclass(frozen=True)
class End:
    """The accuracy of the last size, and what all others predict for it, with the 95 % interval."""

    measured: float
    predicted: float
    low: float
    high: float

    @property
    def is_met(self) -> bool:
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Forecast:
    """What a curve says of more images.

    `reason` is why it cannot be carried on: the images are too `few` for as many sizes as it takes, the classes are too
    `many` for that, its own end was `missed` by the other sizes, or it is `flat`. Then nothing is needed, and nothing
    ahead.
    """

    reason: Literal["few", "many", "missed", "flat"] | None
    end: End | None = None  # None where there are too few sizes
    needed: dict[int, Needed | None] | None = None  # points more → times as many images; None: a too wide interval
    ahead: Sequence[Row] = ()  # `images`, `accuracy`, `accuracy_low`, `accuracy_high`

    def scores(self, photographs: int) -> dict[str, dict[str, float | int | None]]:
        """Return the content of metrics.json; `photographs` are all that there are, of all splits."""
        ends = (self.end.measured, self.end.predicted, self.end.low, self.end.high) if self.end else (None,) * 4
        names = ("measured", "predicted", "predicted_low", "predicted_high")
        scores: dict = {"end": dict(zip(names, ends, strict=True))}
        for points in POINTS:
            needed = self.needed and self.needed[points]
            values = (needed.times, needed.low, needed.high) if needed else (None, None, None)
            names = ("photographs", "photographs_low", "photographs_high")
            counts = (None if value is None else in_round_numbers(value * photographs) for value in values)
            scores[f"points_{points}"] = dict(zip(names, counts, strict=True))
        return scores


def extrapolate(parts: Sequence[Sequence[Part]], available: float) -> Forecast:
    """Carry on a learning curve.

    Args:
        parts: the heads of each size, the smallest first.
        available: images to train on, of which the largest size may be a part.
    """
    images, errors, covariance = _moments(parts)
    used = _growing(images)
    if len(used) < MIN_SIZES:
        return Forecast("few")
    growth, errors, covariance = images[used] / available, errors[used], covariance[np.ix_(used, used)]
    end = _predict_end(growth, errors, covariance)
    if not end.is_met:
        return Forecast("missed", end)
    if not _falls(growth, errors, covariance):
        return Forecast("flat", end)
    curves = _Curves.fit(growth, errors, covariance)
    return Forecast(None, end, {points: curves.needed(points / 100) for points in POINTS}, curves.ahead(available))


def in_round_numbers(count: float) -> int:
    """Return a count with its first two digits: more of them nothing here can tell."""
    return int(float(f"{count:.1e}"))


@dataclass(frozen=True)
class _Curves:
    """Power laws with their probabilities. The level of each, its error at all images, is normally distributed."""

    probabilities: Array  # (k,), sum 1
    floors: Array  # (k,)
    exponents: Array  # (k,)
    levels: Array  # (k,) the means
    deviations: Array  # (k,)

    @classmethod
    def fit(cls, growth: Array, errors: Array, covariance: Array) -> "_Curves":
        """Return the curves after sizes were measured.

        Args:
            growth: (s,) sizes, as a share of all images.
            errors: (s,) measured there.
            covariance: (s, s) of their noise.
        """
        floors, exponents = (grid.ravel() for grid in np.meshgrid(FLOORS, EXPONENTS, indexing="ij"))
        shapes = _shapes(floors, exponents, growth)
        inverse = np.linalg.inv(covariance)
        precision = np.einsum("ks,st,kt->k", shapes, inverse, shapes)
        projected = shapes @ (inverse @ errors)
        logs = (projected**2 / precision - np.log(precision)) / 2  # of the likelihood, the level integrated out
        probabilities = np.exp(logs - logs.max())
        return cls(probabilities / probabilities.sum(), floors, exponents, projected / precision, precision**-0.5)

    def shapes(self, growth: Array) -> Array:
        """Return the errors (k, g) of the curves, their levels being 1, at (g,) times all images."""
        return _shapes(self.floors, self.exponents, growth)

    def quantiles(self, values: Array) -> tuple[float, float, float]:
        """Return the middle and the 95 % interval of values (k, l), those of one curve being equally probable."""
        order = np.argsort(values, axis=None, kind="stable")
        below = np.cumsum(np.repeat(self.probabilities / values.shape[1], values.shape[1])[order])
        places = np.searchsorted(below, [0.5, 0.025, 0.975]).clip(max=values.size - 1)
        middle, low, high = values.ravel()[order][places].tolist()
        return middle, low, high

    def needed(self, gain: float) -> Needed | None:
        """Return how many times as many images lower the error by `gain`; None: the interval is too wide."""
        removable = self._levels() * (1 - self.floors[:, None])  # part of the error
        left = 1 - np.divide(gain, removable, out=np.full_like(removable, np.inf), where=removable > gain)
        times = np.full_like(left, np.inf)
        np.power(left, -1 / self.exponents[:, None], out=times, where=left > 0)
        needed = Needed(*self.quantiles(times))
        return needed if needed.high <= min(MAX_TIMES, MAX_RATIO * needed.low) else None

    def ahead(self, available: float) -> list[Row]:
        """Return the accuracy of more and more images."""
        rows: list[Row] = []
        for times, shape in zip(AHEAD, self.shapes(np.array(AHEAD)).T, strict=True):
            accuracy, low, high = self.quantiles((1 - self._levels() * shape[:, None]).clip(0, 1))
            images = round(times * available)
            rows.append({"images": images, "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high})
        return rows

    def _levels(self) -> Array:
        return (self.levels[:, None] + self.deviations[:, None] * NORMAL).clip(0)


def _shapes(floors: Array, exponents: Array, growth: Array) -> Array:
    return floors[:, None] + (1 - floors[:, None]) * growth ** -exponents[:, None]


def _growing(images: Array) -> list[int]:
    """Return the sizes that can be told apart, of those in `images` (s,), from the largest down."""
    used = [len(images) - 1]
    for size in reversed(range(len(images) - 1)):
        if images[used[0]] >= MIN_GROWTH * images[size]:
            used.insert(0, size)
    return used


def _moments(parts: Sequence[Sequence[Part]]) -> tuple[Array, Array, Array]:
    """Return of each size the mean number of images (s,), the error (s,), and the covariance (s, s) of their noise.

    Noise has two sources. The test images are the same for all sizes: groups of them are independent. The parts that
    were drawn differ from one another; the variance of that falls with the number of images. What rounds have in
    common in all sizes is a matter of their test images.
    """
    images = np.array([np.mean([part.images for part in size]) for size in parts])
    wrong = [np.concatenate([~part.hits for part in size]).astype(np.float64) for size in parts]
    errors = np.array([values.mean() for values in wrong])
    tested = np.unique(np.concatenate([part.groups for size in parts for part in size]))
    scatter = np.empty((len(tested), len(parts)))
    for i, size in enumerate(parts):
        group = np.searchsorted(tested, np.concatenate([part.groups for part in size]))
        scatter[:, i] = np.bincount(group, wrong[i] - errors[i], minlength=len(tested)) / len(group)
    own = [(i, part.round, np.mean(~part.hits) - errors[i]) for i, size in enumerate(parts) for part in size]
    size, round_, deviation = (np.array(column) for column in zip(*own, strict=True))
    deviation = deviation - (np.bincount(round_, deviation) / np.bincount(round_))[round_]
    freedom = len(own) - len(parts) - round_.max()
    variance = (deviation**2 * images[size]).sum() / max(1, freedom) / images
    covariance = scatter.T @ scatter + np.diag(variance / [len(size) for size in parts])
    return images, errors, covariance + EDGE**2 * np.eye(len(parts))


def _predict_end(growth: Array, errors: Array, covariance: Array) -> End:
    """Predict the last size from the others."""
    curves = _Curves.fit(growth[:-1], errors[:-1], covariance[:-1, :-1])
    shapes = curves.shapes(growth)
    # What the noise of the others says of that of the last: they are measured on the same test images.
    shared = np.linalg.solve(covariance[:-1, :-1], covariance[:-1, -1])
    slope = shapes[:, -1] - shapes[:, :-1] @ shared
    mean = curves.levels * slope + errors[:-1] @ shared
    own = max(0.0, covariance[-1, -1] - covariance[:-1, -1] @ shared)
    deviation = np.sqrt((curves.deviations * slope) ** 2 + own)
    accuracy = 1 - (mean[:, None] + deviation[:, None] * NORMAL)
    return End(float(1 - errors[-1]), *curves.quantiles(accuracy))


def _falls(growth: Array, errors: Array, covariance: Array) -> bool:
    """Return whether the errors fall by more than chance: their slope over the logarithm of the size is below 0."""
    inverse = np.linalg.inv(covariance)
    design = np.stack([np.ones_like(growth), np.log(growth)])
    spread = np.linalg.inv(design @ inverse @ design.T)
    slope = (spread @ design @ inverse @ errors)[1]
    return bool(NormalDist().cdf(slope / spread[1, 1] ** 0.5) < MAX_FLAT)
