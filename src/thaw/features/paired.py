"""Whether one classifier is better than another beyond noise, on the same images."""

from typing import NamedTuple

import numpy as np

from thaw.features.examples import Examples


class Change(NamedTuple):
    """The mean loss of one classifier (nats, by weight) less that of another; below 0, the one is better."""

    loss: float
    standard_error: float | None  # None if all images are one group: then nothing is known of the noise

    @property
    def is_gain(self) -> bool:
        """Whether the loss falls by more than one standard error."""
        return self.standard_error is not None and self.loss < -self.standard_error

    @property
    def text(self) -> str:
        """For the terminal."""
        error = "unknown" if self.standard_error is None else f"{self.standard_error:.3f}"
        return f"validation loss {self.loss:+.3f}, standard error {error}"


def paired_change(losses: np.ndarray, reference: np.ndarray, validation: Examples) -> Change:
    """Return the weighted mean of `losses` (n,) less `reference` (n,), and its standard error.

    Near-duplicates are not independent, so the error is that of a mean over groups.
    """
    changes = losses - reference
    mean = np.average(changes, weights=validation.weights)
    _, group = np.unique(validation.groups, return_inverse=True)
    deviations = np.bincount(group, validation.weights * (changes - mean))
    count = int((np.bincount(group, validation.weights) > 0).sum())  # a group without weight tells nothing
    if count == 1:
        return Change(float(mean), None)
    variance = (deviations**2).sum() * count / (count - 1)
    return Change(float(mean), float(np.sqrt(variance) / validation.weights.sum()))
