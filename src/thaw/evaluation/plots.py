"""The curves and tables of the test split as CSV files for `dvc plots`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from thaw.core.csv_rows import row_writer
from thaw.core.files import atomic_files
from thaw.evaluation.curves import (
    calibration_curve,
    confusion,
    coverage_curve,
    precision_recall_curve,
    roc_curve,
)
from thaw.evaluation.scored import Row, Scored

Rows = Sequence[Row]
Curves = dict[str, dict[str, list[Row]]]  # kind → model → rows

COLUMNS = {  # at least; slices and classes have more
    "confusion": ("actual", "predicted"),
    "roc": ("false_positive_rate", "true_positive_rate"),
    "precision_recall": ("recall", "precision"),
    "coverage": ("coverage", "accuracy", "confidence"),
    "calibration": ("confidence", "accuracy", "count"),
    "calibrated": ("confidence", "accuracy", "count"),
    "slices": ("slice", "column", "value", "count", "share", "accuracy", "accuracy_low", "accuracy_high", "p_value"),
    "per_class": ("class", "support", "predicted", "precision", "recall", "f1"),
    "comparisons": ("pair", "mcnemar_p", "accuracy", "accuracy_low", "accuracy_high"),
    "learning_curve": ("images", "draws", "accuracy", "accuracy_low", "accuracy_high"),
    "learning_curve_ahead": ("images", "accuracy", "accuracy_low", "accuracy_high"),
}
COUNTS = ("both_right", "first_right", "second_right", "both_wrong")  # of a comparison
MAX_CONFUSION_ROWS = 20_000  # in a file: DVC's template reads a row for each image
DIGITS = 6  # of the numbers in the files: with more, two runs would differ where nothing does


def compute_curves(
    scored: Mapping[str, Scored], calibrated: Mapping[str, Scored], classes: Sequence[str], bins: int
) -> Curves:
    """Compute the curves of one split.

    Args:
        scored: model → the images, as the model scores them.
        calibrated: model → the same with calibrated probabilities.
        classes: their names.
        bins: of the calibration curves.

    Returns:
        kind → model → rows.
    """
    return {
        "confusion": {model: confusion(images, classes) for model, images in scored.items()},
        "roc": {model: roc_curve(images) for model, images in scored.items()},
        "precision_recall": {model: precision_recall_curve(images) for model, images in scored.items()},
        "coverage": {model: coverage_curve(images) for model, images in scored.items()},
        "calibration": {model: calibration_curve(images, bins) for model, images in scored.items()},
        "calibrated": {model: calibration_curve(images, bins) for model, images in calibrated.items()},
    }


def write(directory: Path, by_model: Mapping[str, Mapping[str, Rows]], tables: Mapping[str, Rows]) -> None:
    """Write `{kind}_{model}.csv` for each kind and model of `by_model`, and `{kind}.csv` for each kind of `tables`.

    What is undefined leaves a file of the header alone. Confusions of many images are thinned, see `thin_confusion`.
    Each model has files of its own, since DVC's templates tell curves apart by file or by column, not by a value in a
    column.
    """
    with atomic_files(directory) as temporary:
        for kind, models in by_model.items():
            for model, rows in models.items():
                shown = thin_confusion(rows) if kind == "confusion" else rows
                _write_rows(temporary / f"{kind}_{model}.csv", shown, COLUMNS[kind])
        for kind, rows in tables.items():
            _write_rows(temporary / f"{kind}.csv", rows, COLUMNS[kind])


def thin_confusion(rows: Rows) -> Rows:
    """Return at most MAX_CONFUSION_ROWS of the rows of `curves.confusion`: of each pair of classes the same share."""
    if len(rows) <= MAX_CONFUSION_ROWS:
        return rows
    by_pair = sorted(rows, key=lambda row: (row["actual"], row["predicted"]))
    return [by_pair[place * len(rows) // MAX_CONFUSION_ROWS] for place in range(MAX_CONFUSION_ROWS)]


def thinned_text(curves: Curves) -> str:
    """Say for the terminal what the files show only a part of; empty where they show all."""
    count = max((len(rows) for rows in curves["confusion"].values()), default=0)
    if count <= MAX_CONFUSION_ROWS:
        return ""
    return f"; plots/confusion_… shows {MAX_CONFUSION_ROWS:,} of the {count:,} photographs, the report all"


def name_slices(slices: Mapping[str, Rows]) -> dict[str, list[Row]]:
    """Return model → slices with a first column `slice` that names each in one text, as a plot's axis needs it."""
    return {m: [{"slice": f"{row['column']}: {row['value']}", **row} for row in rows] for m, rows in slices.items()}


def comparison_rows(comparisons: Mapping[str, Mapping]) -> list[Row]:
    """Return the comparisons of `Measured`, a row for each pair of models."""
    rows = []
    for pair, compared in comparisons.items():
        counts = dict(zip(COUNTS, compared["counts"].values(), strict=True))
        row: Row = {"pair": pair.replace("_", " "), **counts, "mcnemar_p": compared["mcnemar_p"]}
        for measure, values in compared["differences"].items():
            row |= {measure: values["difference"]} | {f"{measure}_{end}": values[end] for end in ("low", "high")}
        rows.append(row)
    return rows


def _write_rows(path: Path, rows: Rows, columns: Sequence[str]) -> None:
    columns = list(rows[0]) if rows else columns
    with path.open("w", encoding="utf-8", newline="") as file:
        write_row = row_writer(file)
        write_row(columns)
        for row in rows:
            write_row([_rounded(row[column]) for column in columns])


def _rounded(value: str | float | int | None) -> str | float | int | None:
    return round(value, DIGITS) if isinstance(value, float) else value
