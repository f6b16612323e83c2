"""What both models predict for every image of a run, as arrays and as a table to open.

With folds, every image is there twice, see `Examples.asked`: as one of test, and as one of validation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from thaw.core import arrays, tables
from thaw.core.files import atomic_files
from thaw.core.metrics_file import FINE_TUNED
from thaw.evaluation.scored import Scored
from thaw.features.examples import Examples


@dataclass(frozen=True)
class Predictions:
    """Images of a run with what each model predicts for them."""

    examples: Examples  # (n,) images
    classes: tuple[str, ...]  # (c,) names, in the order of the probabilities
    probabilities: Mapping[str, np.ndarray]  # model → (n, c) float64
    self_confidence: np.ndarray  # (n,) float64, with several labels (n, c): see `label_errors.self_confidence`
    rounds: np.ndarray  # (n,) int, in which round the models that predict were trained; 0 without folds
    saved: str = FINE_TUNED  # the model that the run has saved

    def take(self, positions: np.ndarray) -> "Predictions":
        """Return the images at these positions alone."""
        return Predictions(
            examples=self.examples.take(positions),
            classes=self.classes,
            probabilities={model: p[positions] for model, p in self.probabilities.items()},
            self_confidence=self.self_confidence[positions],
            rounds=self.rounds[positions],
            saved=self.saved,
        )

    def once(self) -> "Predictions":
        """Return every image once. With folds, these are the predictions of models that have not seen it at all."""
        return self if self.examples.folds is None else self.split("test")

    def split(self, name: str) -> "Predictions":
        """Return the images of one split."""
        return self.take(self.examples.positions(name))

    def with_probabilities(self, probabilities: Mapping[str, np.ndarray]) -> "Predictions":
        """Return the same images with other probabilities, model → (n, c)."""
        return replace(self, probabilities=probabilities)

    def scored(self) -> dict[str, Scored]:
        """Return model → the images with the model's probabilities."""
        labels, weights, groups = self.examples.labels, self.examples.weights, self.examples.groups
        return {model: Scored(p, labels, weights, groups) for model, p in self.probabilities.items()}


def write(folder: Path, predictions: Predictions) -> None:
    """Write `{model}.npy` and `predictions.csv`, rows in the order of the images.

    `{model}.npy` has the (n, c) probabilities as float32. The table has the predicted class of each model and its
    probability.
    """
    predictions = predictions.once()
    names, examples = np.array(predictions.classes), predictions.examples
    columns = {"image_id": examples.image_ids, "split": examples.splits, "label": names[examples.labels]}
    if examples.folds is not None:
        columns["fold"] = predictions.rounds
    with atomic_files(folder) as temporary:
        for model, p in predictions.probabilities.items():
            arrays.write_rows(temporary / f"{model}.npy", [p.astype(np.float32)], len(p))
            columns[f"{model}_label"] = names[p.argmax(axis=1)]
            columns[f"{model}_probability"] = p.max(axis=1).round(6)
        columns["self_confidence"] = predictions.self_confidence.round(6)
        tables.write(pl.DataFrame(columns), temporary / "predictions.csv")
