"""The curves and tables of the test split as CSV files for `dvc plots`, and the accuracies as a picture."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw import metrics
from thaw.files import whole_folder
from thaw.metrics import Row

Rows = Sequence[Row]
Curves = dict[str, dict[str, list[Row]]]  # kind → model → rows

COLUMNS = {  # at least; slices and classes have more
    "confusion": ("actual", "predicted"),
    "roc": ("false_positive_rate", "true_positive_rate"),
    "precision_recall": ("recall", "precision"),
    "calibration": ("confidence", "accuracy", "count"),
    "calibrated": ("confidence", "accuracy", "count"),
    "slices": ("slice", "column", "value", "count", "share", "accuracy", "accuracy_low", "accuracy_high", "p_value"),
    "per_class": ("class", "support", "predicted", "precision", "recall", "f1"),
    "comparisons": ("pair", "mcnemar_p", "accuracy", "accuracy_low", "accuracy_high"),
    "learning_curve": ("images", "draws", "accuracy", "accuracy_low", "accuracy_high"),
}
COUNTS = ("both_right", "first_right", "second_right", "both_wrong")  # of a comparison
DIGITS = 6  # of the numbers in the files: finer ones would make a difference of two runs of what is none


def curves(
    probabilities: Mapping[str, NDArray[np.float64]],
    calibrated: Mapping[str, NDArray[np.float64]],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    bins: int,
) -> Curves:
    """Return what can be drawn of each model's probabilities (n, c) of one split, and of its calibrated ones."""
    return {
        "confusion": {m: metrics.confusion(labels, p.argmax(axis=1), classes) for m, p in probabilities.items()},
        "roc": {m: metrics.roc_curve(p, labels) for m, p in probabilities.items()},
        "precision_recall": {m: metrics.precision_recall_curve(p, labels) for m, p in probabilities.items()},
        "calibration": {m: metrics.calibration_curve(p, labels, bins) for m, p in probabilities.items()},
        "calibrated": {m: metrics.calibration_curve(p, labels, bins) for m, p in calibrated.items()},
    }


def write(directory: Path, of_models: Mapping[str, Mapping[str, Rows]], further: Mapping[str, Rows]) -> None:
    """Write `{kind}_{model}.csv` for each kind of `of_models` and each model, `{kind}.csv` for each of `further`.

    What is undefined leaves a file of the header alone. Each model has files of its own, since DVC's templates tell
    curves apart by file or by column, not by a value in a column.
    """
    with whole_folder(directory) as temporary:
        for kind, of_kind in of_models.items():
            for model, rows in of_kind.items():
                _write_rows(temporary / f"{kind}_{model}.csv", rows, COLUMNS[kind])
        for kind, rows in further.items():
            _write_rows(temporary / f"{kind}.csv", rows, COLUMNS[kind])


def named(slices: Mapping[str, Rows]) -> dict[str, list[Row]]:
    """Return model → slices with a first column `slice` that names each in one text, as a plot's axis wants it."""
    return {m: [{"slice": f"{row['column']}: {row['value']}", **row} for row in rows] for m, rows in slices.items()}


def flat(comparisons: Mapping[str, Mapping]) -> list[Row]:
    """Return the differences of `evaluation.comparisons`, a row for each pair."""
    rows = []
    for pair, known in comparisons.items():
        counts = dict(zip(COUNTS, known["counts"].values(), strict=True))
        row: Row = {"pair": pair.replace("_", " "), **counts, "mcnemar_p": known["mcnemar_p"]}
        for measure, of_measure in known["differences"].items():
            row |= {measure: of_measure["difference"]} | {
                f"{measure}_{end}": of_measure[end] for end in ("low", "high")
            }
        rows.append(row)
    return rows


def _write_rows(path: Path, rows: Rows, columns: Sequence[str]) -> None:
    columns = list(rows[0]) if rows else columns
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_rounded(row[column]) for column in columns] for row in rows)


def _rounded(value: str | float | int | None) -> str | float | int | None:
    return round(value, DIGITS) if isinstance(value, float) else value


def accuracy_svg(metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> str:
    """Return a picture of the weighted accuracies and their 95 % intervals, from the content of metrics.json."""
    bars = [(model, split, values) for model in ("head", "fine_tuned") for split, values in metrics[model].items()]
    bars = [(model, split, values) for model, split, values in bars if values["accuracy_weighted"] is not None]
    lows = [values[key] for *_, values in bars for key in ("accuracy_weighted_low", "accuracy_weighted")]
    lowest = min((low for low in lows if low is not None), default=0)
    start = min(0.95, math.floor(lowest * 20) / 20)  # the axis begins at a multiple of 5 %
    left, width, height = 170, 430, 34

    def x(share: float) -> float:
        return round(left + (share - start) / (1 - start) * width, 1)

    lines = []
    ticks = round((1 - start) * 20)
    step = 1 if ticks <= 12 else 2  # more labels would overlap
    for i in range(ticks % step, ticks + 1, step):
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
