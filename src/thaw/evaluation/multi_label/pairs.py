"""Pairs of an image and a class that a model has scored: what every measure of a multi-label model is computed from.

A pair is known where somebody verified that the class is present, or that it is absent. Nothing is known of all other
pairs, and they count nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.evaluation.scored import Scored

JOIN = " + "  # between the names of several classes of one image


@dataclass(frozen=True)
class Pairs:
    """The pairs of n images and k classes, with the probabilities that one model gives them."""

    probabilities: NDArray[np.float64]  # (n, k) in 0 … 1, of the class being present; the model's own
    called: NDArray[np.bool_]  # (n, k), whether the calibrated probability lies above the threshold of the class
    values: NDArray[np.int8]  # (n, k): 1 present, 0 verified absent, below 0 unknown
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
        return self.values >= 0

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n, k) True where the pair is known and called rightly."""
        return self.known & (self.called == (self.values == 1))

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


def joined(classes: Sequence[str], present: NDArray[np.bool_]) -> list[str]:
    """Return for each image the names of its classes, sorted and joined; an empty text where it has none.

    present: (n, k), in the order of the classes.
    """
    order = sorted(range(len(classes)), key=lambda number: classes[number])
    return [JOIN.join(classes[number] for number in order if row[number]) for row in present.tolist()]
