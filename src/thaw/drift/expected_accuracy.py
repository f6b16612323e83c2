"""What accuracy to expect on photographs without labels, from how sure the model is of its predictions.

Two estimates, both of which suppose that the model's confidence still tells right from wrong. `mean`: calibrated
probabilities promise it themselves. `threshold`: the share of new predictions that are surer than a limit, which is set
where that share is the accuracy on photographs with labels (average thresholded confidence, Garg et al. 2022, arXiv
2201.04234). How wrong they are where photographs changed is measured in benchmarks/drift.py: see docs/guides/drift.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.evaluation.metrics import wilson
from thaw.prediction.deployed_model import Decision


@dataclass(frozen=True)
class ExpectedAccuracy:
    """The accuracy to expect on new photographs.

    Attributes:
        measured: on the held-out ones, which have labels.
        measured_low, measured_high: its 95 % interval.
        mean: of the new ones, by the mean of the probabilities.
        threshold: of the new ones, by average thresholded confidence.
    """

    measured: float
    measured_low: float
    measured_high: float
    mean: float
    threshold: float


def estimate(
    held_out: NDArray[np.float64], labels: NDArray[np.integer], new: NDArray[np.float64], decision: Decision
) -> ExpectedAccuracy:
    """Return the accuracy to expect.

    Args:
        held_out: (n, classes) calibrated probabilities.
        labels: (n,) int, of the same images.
        new: (m, classes) calibrated probabilities of the new images.
        decision: how probabilities become a label.
    """
    confidence = prediction_confidence(held_out, decision)
    new_confidence = prediction_confidence(new, decision)
    hits = int((decision.predict(held_out) == labels).sum())
    limit = np.sort(confidence)[::-1][hits - 1] if hits else np.inf
    low, high = wilson(hits, len(labels))
    return ExpectedAccuracy(
        hits / len(labels), low, high, float(new_confidence.mean()), float(np.mean(new_confidence >= limit))
    )


def prediction_confidence(calibrated: NDArray[np.float64], decision: Decision) -> NDArray[np.float64]:
    """Return the probability (n,) of the class that is predicted, from the probabilities (n, classes)."""
    return np.take_along_axis(calibrated, decision.predict(calibrated)[:, None], axis=1)[:, 0]
