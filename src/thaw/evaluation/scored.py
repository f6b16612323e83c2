"""Images that a model has scored: what every measure of the model is computed from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Row = dict[str, str | float | int | None]  # of a table or a curve, by column


@dataclass(frozen=True)
class Scored:
    """Labelled images with the probabilities that one model gives them.

    n is the number of images, c >= 2 that of the classes. With two classes, class 1 is the positive one.
    """

    probabilities: NDArray[np.float64]  # (n, c), in rows that sum to 1
    labels: NDArray[np.integer]  # (n,) in 0 … c - 1
    weights: NDArray[np.floating]  # (n,) >= 0
    groups: NDArray[np.str_] | NDArray[np.integer]  # (n,); near-duplicates share one

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_count(self) -> int:
        return self.probabilities.shape[1]

    @property
    def predictions(self) -> NDArray[np.integer]:
        """The (n,) most probable classes."""
        return self.probabilities.argmax(axis=1)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """(n,) True where the most probable class is the label."""
        return self.predictions == self.labels

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The (n,) probabilities of the most probable classes."""
        return self.probabilities.max(axis=1)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Scored":
        """Return the images at these rows, or where a mask (n,) is True."""
        return Scored(self.probabilities[rows], self.labels[rows], self.weights[rows], self.groups[rows])


def confidence_bins(confidence: NDArray[np.float64], bins: int) -> NDArray[np.integer]:
    """Return the bin (n,) of each confidence, of `bins` of equal width in 0 … 1.

    A bin is open below and closed above, as in Guo et al. 2017 (arXiv 1706.04599).
    """
    return np.searchsorted(np.arange(1, bins) / bins, confidence)
