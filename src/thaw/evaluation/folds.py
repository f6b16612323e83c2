"""What folds have decided, and how far the result depends on how they were drawn."""

from collections.abc import Mapping

import numpy as np

from thaw.core.metrics_file import MODELS
from thaw.evaluation.models import TrainedModels
from thaw.features.examples import weighted_scores


def measure(models: TrainedModels, outputs: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Return the number of folds, the saved model, and why; with repeats, the weighted accuracies of each draw.

    outputs: `TrainedModels.output_probabilities` of the first draw.
    """
    images = models.examples
    repeats, result = images.folds.shape[1], {"count": len(images.rounds())} | models.decided
    if repeats == 1:
        return result
    accuracies = {model: [] for model in MODELS}
    for repeat in range(repeats):
        predicted = models.output_probabilities(repeat) if repeat else outputs
        for model in MODELS:
            labels = models.head.label_probabilities(predicted[model][: len(images)])  # the first rows are of test
            accuracies[model].append(weighted_scores(labels, images)[1])
    spreads = {model: {"accuracy_weighted": values, "deviation": float(np.std(values, ddof=1))}
               for model, values in accuracies.items()}  # fmt: skip
    return result | {"repeats": spreads}
