"""What new classes did to the predictions of a model that was extended."""

from typing import TYPE_CHECKING

import numpy as np

from thaw.core.tables import EVALUATED
from thaw.evaluation.metrics import effective_images, wilson
from thaw.evaluation.scored import Scored
from thaw.heads.protocol import is_negative

if TYPE_CHECKING:
    from thaw.evaluation.models import TrainedModels
    from thaw.heads.protocol import Head

Scores = dict[str, float | int | None]


def measure_extension(models: "TrainedModels", probabilities: np.ndarray) -> dict[str, Scores]:
    """Return split → `extension_scores`, on validation and test.

    probabilities (n, all classes) are those of the extended model for all images that are asked about.
    """
    examples, _ = models.examples.asked()
    before = models.mean_of_features(models.head.before, examples.rows)
    parts = {split: examples.positions(split) for split in EVALUATED}
    return {
        split: extension_scores(
            models.head, probabilities[rows], before[rows], examples.labels[rows], examples.groups[rows]
        )
        for split, rows in parts.items()
    }


def extension_scores(
    head: "Head", probabilities: np.ndarray, before: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> Scores:
    """Compare the predictions of an extended model with those of the model that it extends.

    Args:
        head: the head of the extended model.
        probabilities: (n, all classes), of the extended model.
        before: (n, old classes), of the model before.
        labels: (n,) int, positions in `head.classes`.
        groups: (n,) str, near-duplicates share one: in the intervals, they count as one image.

    Returns:
        `agreement`: of images without a new class, the share whose likeliest class is the one before.
        `accuracy_before` and `accuracy_after`: of images with one, the share that is right. Each has Wilson's
        interval as `_low` and `_high`. `without_new` and `with_new` count the images.
    """
    right = head.outputs_for_labels(labels, probabilities)
    without = np.array([is_negative(name) for name in head.classes])[labels]
    predicted, predicted_before = probabilities.argmax(axis=1), before.argmax(axis=1)
    scores: Scores = {"without_new": int(without.sum()), "with_new": int((~without).sum())}
    scored = Scored(probabilities, labels, np.ones(len(labels)), groups)
    for name, hits, asked in (
        ("agreement", predicted == predicted_before, without),
        ("accuracy_before", predicted_before == right, ~without),
        ("accuracy_after", predicted == right, ~without),
    ):
        share = low = high = None
        if asked.any():
            share, effective = float(hits[asked].mean()), effective_images(scored.take(asked))
            low, high = wilson(share * effective, effective)
        scores |= {name: share, f"{name}_low": low, f"{name}_high": high}
    return scores
