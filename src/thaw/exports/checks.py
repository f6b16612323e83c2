"""How an export is checked: its predictions are compared with those of the Keras model."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.core.errors import ThawError
from thaw.exports.base import Engine, Format
from thaw.exports.check_images import CheckImages

RESAMPLES = 2000  # behind an interval
SEED = 1  # of the resamples
BINS = 15  # of a calibration error, which is not used here
MIN_ACCURACY_DIFFERENCE = -0.02  # an 8-bit model that is surely worse is broken
MIN_AGREEMENT = 0.7  # without labels, an 8-bit model that surely agrees with Keras less often is broken


@dataclass(frozen=True)
class Result:
    """What the check of an export measured."""

    difference: float  # the largest one of a probability from Keras'
    rate: float  # images per second, one at a time
    note: str | None = None  # of a format in 8 bits: how its predictions compare with those of Keras


Decide = Callable[[NDArray[np.float32]], NDArray]  # probabilities (n, classes) → predictions (n,), or (n, classes)


def most_probable(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the most probable class (n,) of each image."""
    return probabilities.argmax(axis=1)


@dataclass(frozen=True)
class Reference:
    """The predictions of the Keras model, with which exports are compared."""

    images: CheckImages
    probabilities: NDArray[np.float32]  # (n, classes)
    rate: float  # images per second, one at a time
    decide: Decide = most_probable

    def compare(self, export_format: Format, engine: Engine) -> Result:
        """Check the engine that runs an export; raises ThawError if it differs too much from the Keras model."""
        count = self.images.count(export_format)
        exported, rate = predict(engine, self.images.views[:count])
        difference = largest_difference(exported, self.probabilities[:count], export_format.tolerance)
        if not export_format.is_quantised:
            return Result(difference, rate)
        return Result(difference, rate, compare_predictions(exported, self.probabilities, self.images, self.decide))


def predict(engine: Engine, views: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Return the probabilities (n, classes) that an engine gives images, and its rate in images per second.

    Images are given one at a time, as an application would. The rate is that of the median image.
    """
    engine(views[:1].astype(np.float32))  # the first call also allocates memory
    probabilities, seconds = [], []
    for view in views:
        pixels = view[None].astype(np.float32)
        start = time.perf_counter()
        probabilities.append(engine(pixels))
        seconds.append(time.perf_counter() - start)
    return np.concatenate(probabilities), 1 / float(np.median(seconds))


def largest_difference(
    exported: NDArray[np.float32], keras: NDArray[np.float32], tolerance: float | None = None
) -> float:
    """Return the largest difference of probabilities (n, classes) from Keras'.

    Raises ThawError if it is above `tolerance`, or if a probability is not a finite number: then nothing is compared.
    """
    for owner, probabilities in (("its", exported), ("Keras' own", keras)):
        if broken := int((~np.isfinite(probabilities)).sum()):
            raise ThawError(
                f"{broken:,} of {owner} {probabilities.size:,} probabilities are not finite numbers, so it cannot be "
                "compared with Keras"
            )
    difference = float(np.abs(exported - keras).max())
    if tolerance is not None and difference > tolerance:
        raise ThawError(f"its probabilities differ from Keras' by up to {difference:.1e}, over {tolerance:.0e}")
    return difference


def compare_predictions(
    exported: NDArray[np.float32], keras: NDArray[np.float32], images: CheckImages, decide: Decide = most_probable
) -> str:
    """Return a sentence that compares the predictions of an 8-bit model with those of Keras.

    Args:
        exported: its probabilities, (n, classes).
        keras: those of Keras.
        images: what both were given.
        decide: makes predictions of probabilities.

    Raises:
        ThawError: The model is broken: its accuracy is surely lower by more than 2 points; or, without labels, it
            surely agrees with Keras on less than 70 % of the images.
    """
    from thaw.evaluation.comparison import paired_difference
    from thaw.evaluation.metrics import wilson
    from thaw.evaluation.resampling import Resampling
    from thaw.evaluation.scored import Scored

    agrees = (decide(exported) == decide(keras)).reshape(len(keras), -1).all(axis=1)
    low, high = wilson(int(agrees.sum()), len(agrees))
    text = (
        f"the same prediction as Keras for {agrees.mean():.1%} of {len(agrees):,} photographs ({low:.1%} to {high:.1%})"
    )
    if images.labels is None:
        is_broken = high < MIN_AGREEMENT
    else:
        scored = [Scored(p.astype(np.float64), images.labels, images.weights, images.groups) for p in (exported, keras)]
        accuracy = paired_difference(*scored, BINS, Resampling(RESAMPLES, SEED))["accuracy_weighted"]
        difference, low, high = (accuracy[key] for key in ("difference", "low", "high"))
        interval = "" if low is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
        text += f"; weighted accuracy {100 * (difference or 0):+.1f} points{interval}"
        is_broken = (difference or 0 if high is None else high) < MIN_ACCURACY_DIFFERENCE
    if is_broken:
        raise ThawError(f"8 bits are not enough for this network: {text}")
    return text
