"""The curves of the test split as CSV files for `dvc plots`, and the accuracies as a picture."""

import csv
import math
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


def accuracy_svg(metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> str:
    """Return a picture of the weighted accuracies and their 95 % intervals, from the content of metrics.json."""
    bars = [(model, split, values) for model, of_model in metrics.items() for split, values in of_model.items()]
    bars = [(model, split, values) for model, split, values in bars if values["accuracy_weighted"] is not None]
    lows = [values[key] for *_, values in bars for key in ("accuracy_weighted_low", "accuracy_weighted")]
    lowest = min((low for low in lows if low is not None), default=0)
    start = min(0.95, math.floor(lowest * 20) / 20)  # the axis begins at a multiple of 5 %
    left, width, height = 170, 430, 34

    def x(share: float) -> float:
        return round(left + (share - start) / (1 - start) * width, 1)

    lines = []
    for i in range(round((1 - start) * 20) + 1):
        share = start + i / 20
        lines.append(f'<path d="M{x(share)} 12V{20 + height * len(bars)}" class="grid"/>')
        lines.append(f'<text x="{x(share)}" y="{38 + height * len(bars)}" text-anchor="middle">{share:.0%}</text>')
    for i, (model, split, values) in enumerate(bars):
        y = 32 + height * i
        value = values["accuracy_weighted"]
        low, high = values["accuracy_weighted_low"], values["accuracy_weighted_high"]
        lines.append(f'<text x="{left - 14}" y="{y + 4}" text-anchor="end">{model.replace("_", "-")}, {split}</text>')
        if low is not None:
            lines.append(f'<path d="M{x(low)} {y}H{x(high)}" class="interval"/>')
        lines.append(f'<circle cx="{x(value)}" cy="{y}" r="5"/>')
        lines.append(f'<text x="{x(value)}" y="{y - 9}" text-anchor="middle" class="value">{value:.1%}</text>')
    body = "\n".join(lines)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {50 + height * len(bars)}">
<title>Weighted accuracy with its 95 % interval</title>
<style>
text {{ font: 13px system-ui, sans-serif; fill: #555 }}
.value {{ font-weight: 600 }}
.grid {{ stroke: #8883 }}
.interval {{ stroke: #4a7fb5; stroke-width: 5; stroke-linecap: round; opacity: .45 }}
circle {{ fill: #2f6ba8 }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #bbb }} circle {{ fill: #7db3e6 }} }}
</style>
{body}
</svg>
"""
