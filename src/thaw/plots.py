"""The curves of the test split as CSV files for `dvc plots`."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw import metrics
from thaw.files import whole_file
from thaw.metrics import Row

COLUMNS = {
    "confusion": ("actual", "predicted"),
    "roc": ("false_positive_rate", "true_positive_rate"),
    "precision_recall": ("recall", "precision"),
    "calibration": ("confidence", "accuracy", "count"),
}


def write_plots(
    directory: Path,
    models: Mapping[str, NDArray[np.float64]],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    *,
    bins: int,
) -> dict[str, dict[str, list[Row]]]:
    """Write `{kind}_{model}.csv` for each kind in COLUMNS and each model; return kind → model → rows.

    `models` maps a model's name to its probabilities (n, c); `labels` is (n,). A curve that is undefined
    leaves a file of the header alone. Each model has files of its own, since DVC's templates tell curves
    apart by file or by column, not by a value in a column.
    """
    rows: dict[str, dict[str, list[Row]]] = {kind: {} for kind in COLUMNS}
    for model, probabilities in models.items():
        rows["confusion"][model] = metrics.confusion(labels, probabilities.argmax(axis=1), classes)
        rows["roc"][model] = metrics.roc_curve(probabilities, labels)
        rows["precision_recall"][model] = metrics.precision_recall_curve(probabilities, labels)
        rows["calibration"][model] = metrics.calibration_curve(probabilities, labels, bins)
    for kind, columns in COLUMNS.items():
        for model in models:
            with (
                whole_file(directory / f"{kind}_{model}.csv") as path,
                path.open("w", encoding="utf-8", newline="") as file,
            ):
                writer = csv.DictWriter(file, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows[kind][model])
    return rows
