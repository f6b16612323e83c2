"""Pairs of an image and a class that a model has scored: what every measure of a multi-label model is computed from.

A pair is known where somebody verified that the class is present, or that it is absent. Nothing is known of all other
pairs, and they count nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN, as_text
from thaw.evaluation.scored import Scored


@dataclass(frozen=True)
class Pairs:
    """The pairs of n images and k classes, with the probabilities that one model gives them."""

    probabilities: NDArray[np.float64]  # (n, k) in 0 … 1, of the class being present; the model's own
    called: NDArray[np.bool_]  # (n, k), whether the calibrated probability lies above the threshold of the class
    values: NDArray[np.int8]  # (n, k): PRESENT, ABSENT (verified) or UNKNOWN
    weights: NDArray[np.float64]  # (n, k) >= 0
    groups: NDArray[np.str_] | NDArray[np.integer]  # (n,); near-duplicates share one

    def __len__(self) -> int:
        return len(self.values)

    @property
    def class_count(self) -> int:
        return self.values.shape[1]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n, k) True where the pair is known."""
        return self.values != UNKNOWN

    @property
    def present(self) -> NDArray[np.bool_]:
        """(n, k) True where the class is known to be present."""
        return self.values == PRESENT

    @property
    def absent(self) -> NDArray[np.bool_]:
        """(n, k) True where the class is known to be absent."""
        return self.values == ABSENT

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n, k) True where the pair is known and called rightly."""
        return self.known & (self.called == self.present)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Pairs":
        """Return the images at these rows, or where a mask (n,) is True."""
        columns = (self.probabilities, self.called, self.values, self.weights, self.groups)
        return Pairs(*(column[rows] for column in columns))

    def pooled(self) -> Scored:
        """Return all known pairs as images of two classes, class by class: class 1 is "present"."""
        column, row = np.nonzero(self.known.T)
        present = self.probabilities[row, column]
        return Scored(
            probabilities=np.stack([1 - present, present], axis=1),
            labels=self.values[row, column].astype(int),
            weights=self.weights[row, column],
            groups=self.groups[row],
        )


def names_of(classes: Sequence[str], chosen: NDArray[np.bool_]) -> list[str]:
    """Return for each image the classes that are chosen (n, k) as one text, see `label_values.as_text`."""
    return [as_text(name for name, is_chosen in zip(classes, row, strict=True) if is_chosen) for row in chosen.tolist()]
