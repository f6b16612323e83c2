"""What both models of several labels predict for every image of a run, as arrays and as a table to open."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thaw.core import arrays, tables
from thaw.core.errors import ThawError
from thaw.core.files import atomic_files
from thaw.core.label_values import PRESENT, UNKNOWN
from thaw.evaluation.models import TrainedModels
from thaw.evaluation.multi_label.label_errors import self_confidence
from thaw.evaluation.multi_label.pairs import names_of
from thaw.evaluation.predictions import Predictions


def predict(models: TrainedModels, outputs: Mapping[str, np.ndarray], seed: int) -> Predictions:
    """Return what the models predict; `self_confidence` is (n, k), see `label_errors.self_confidence`.

    Args:
        models: of the run.
        outputs: `TrainedModels.output_probabilities`.
        seed: of the folds of `self_confidence`.

    Raises:
        ThawError: the images are in folds.
    """
    images = models.examples
    if images.folds is not None:
        raise ThawError("split.folds does not work with task: multi: set it to null")
    return Predictions(
        examples=images,
        classes=models.head.classes,
        probabilities=outputs,
        self_confidence=self_confidence(models.features[images.rows], images, seed=seed),
        rounds=np.zeros(len(images), int),
        saved=models.kept,
    )


def write(folder: Path, predictions: Predictions, called: Mapping[str, NDArray[np.bool_]]) -> None:
    """Write `{model}.npy` and `predictions.csv`, rows in the order of the images.

    `{model}.npy` has the (n, k) probabilities as float32. The table has the columns of a run of single labels: `label`,
    the classes that are known to be present; the classes that each model calls; the highest probability that it gives
    a class; and the lowest `self_confidence` of the known pairs. Beside them `doubted_class` and `doubted_value` (1
    present, 0 absent) say which pair that is.

    Args:
        folder: is made if it is missing.
        predictions: of both models, not calibrated.
        called: model → (n, k), whether above the threshold.
    """
    examples, classes = predictions.examples, predictions.classes
    columns = {
        "image_id": examples.image_ids,
        "split": examples.splits,
        "label": names_of(classes, examples.values == PRESENT),
    }
    with atomic_files(folder) as temporary:
        for model, p in predictions.probabilities.items():
            arrays.write_rows(temporary / f"{model}.npy", [p.astype(np.float32)], len(p))
            columns[f"{model}_label"] = names_of(classes, called[model])
            columns[f"{model}_probability"] = p.max(axis=1).round(6)
        doubted = np.where(examples.values == UNKNOWN, np.inf, predictions.self_confidence).argmin(axis=1)
        rows = np.arange(len(doubted))
        columns["self_confidence"] = predictions.self_confidence[rows, doubted].round(6)
        columns["doubted_class"] = np.array(classes)[doubted]
        columns["doubted_value"] = examples.values[rows, doubted]
        tables.write(pl.DataFrame(columns), temporary / "predictions.csv")
