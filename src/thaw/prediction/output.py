"""Predictions as rows, and rows as text: JSON lines, a CSV table, or lines for a person."""

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TextIO

import numpy as np

from thaw.core.csv_rows import row_writer
from thaw.core.encodings import shown
from thaw.core.errors import ThawError
from thaw.core.files import atomic_file
from thaw.prediction.deployed_model import Decision
from thaw.prediction.stream import Prediction

Row = dict[str, object]  # what a JSON line holds
Write = Callable[[Row], None]
FIRST_COLUMNS = ("path", "label", "probability")
SEVERAL_COLUMNS = ("path", "labels")  # the first ones of a model with several labels for each image
OTHER_COLUMNS = ("distance", "unsure", "set", "error")
CLASS_COLUMNS = ("label_", "probability_")  # of a class or a rank: what their names begin with
MAX_SET_NAMED = 8  # classes of a set that a line names
ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}  # a path may hold any bytes


class AnyTable(Protocol):
    """How predictions become rows, and rows text: of one label for each image, or of several."""

    def row(self, prediction: Prediction) -> Row: ...

    def csv_writer(self, file: TextIO) -> Write: ...

    def line(self, row: Row) -> str: ...

    def title(self, row: Row) -> str: ...


@dataclass(frozen=True)
class Table:
    """How predictions become rows."""

    classes: tuple[str, ...]
    decision: Decision
    top: int | None = None  # rows have only the most probable classes, this many
    min_probability: float | None = None  # predictions below it are unsure
    max_distance: float | None = None  # images beyond it are unsure; rows have their distance then
    set_level: float | None = None  # rows have the set of this level; one of `decision.sets`

    @property
    def marks_unsure(self) -> bool:
        return self.min_probability is not None or self.max_distance is not None

    @cached_property
    def width(self) -> int:
        """Characters of the longest class."""
        return max(len(shown(name)) for name in self.classes)

    def row(self, prediction: Prediction) -> Row:
        """Return a prediction as a row.

        It has `path`, `label`, `probability` and `probabilities` (in the order of the classes; with `top`, the most
        probable first). With `max_distance` it has `distance`, and with either limit `unsure`. With `set_level` it has
        `set`, its classes, the most probable first. For an image that cannot be read, it has only `path` and `error`.
        """
        if prediction.probabilities is None:
            return {"path": prediction.image.path, "error": prediction.image.error}
        (probabilities,) = calibrated = self.decision.calibrate(prediction.probabilities[None])
        best = int(self.decision.predict(calibrated)[0])
        listed = np.argsort(-probabilities, kind="stable")[: self.top] if self.top else range(len(self.classes))
        row = {
            "path": prediction.image.path,
            "label": self.classes[best],
            "probability": round(float(probabilities[best]), 6),
            "probabilities": {self.classes[i]: round(float(probabilities[i]), 6) for i in listed},
        }
        is_far = False
        if self.max_distance is not None:
            row["distance"] = round(float(prediction.distance), 6)
            is_far = prediction.distance > self.max_distance
        if self.marks_unsure:
            is_improbable = self.min_probability is not None and probabilities[best] < self.min_probability
            row["unsure"] = bool(is_improbable or is_far)
        if self.set_level is not None:
            row["set"] = [self.classes[i] for i in self.decision.set_of(probabilities, best, self.set_level)]
        return row

    def csv_writer(self, file: TextIO) -> Write:
        """Return a function that writes a row as one of a table."""
        return _csv_writer(file, self)

    def line(self, row: Row) -> str:
        """Return a row for a person."""
        return _line(row, self)

    def title(self, row: Row) -> str:
        """Return the label and probability of a row, as short as a contact sheet needs them."""
        return title(row)


def check_replaceable(file: Path | None, is_own: Callable[[Path], bool]) -> None:
    """Raise ThawError if a file is there that `is_own` does not recognise as one of an earlier prediction.

    Makes its folder, and raises if nothing can be written there: before the work, not after it.
    """
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and not is_own(file):
        raise ThawError(f"{file} is not from an earlier prediction and would be overwritten: give another name")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise ThawError(f"{file} cannot be written: Permission denied")


def is_table(file: Path) -> bool:
    """Return whether a file has the columns of the tables that `open_writer` writes, and no other."""
    if not file.is_file():
        return False
    with file.open(newline="", **ENCODING) as opened:
        try:
            columns = next(csv.reader(opened), [])
        except csv.Error:  # no table, whatever its name
            return False
    for first in (FIRST_COLUMNS, SEVERAL_COLUMNS):
        rest = [name for name in columns[len(first) :] if name not in OTHER_COLUMNS]
        is_like = tuple(columns[: len(first)]) == first and "error" in columns  # a person's labels may begin so, too
        if is_like and all(name.startswith(CLASS_COLUMNS) for name in rest):
            return True
    return False


@contextlib.contextmanager
def open_writer(style: str, file: Path | None, table: AnyTable) -> Iterator[Write]:
    """Yield a function that writes a row.

    Args:
        style: `json`, `csv` or `line`.
        file: Where a CSV table goes; None is stdout. The file is there only once it is complete.
        table: How the rows were made.

    Yields:
        The function. On stdout, each row appears as soon as it is written.
    """
    if file is not None:
        with atomic_file(file) as temporary, temporary.open("w", newline="", **ENCODING) as text:
            yield table.csv_writer(text)
        return
    sys.stdout.reconfigure(line_buffering=True, **ENCODING)
    if style == "csv":
        yield table.csv_writer(sys.stdout)
    elif style == "json":
        yield lambda row: print(json.dumps(row))
    else:
        yield lambda row: print(table.line(row))


def _csv_writer(file: TextIO, table: Table) -> Write:
    """Write the columns of a row, then a probability for each class; with `top`, pairs, the most probable first."""
    top = min(table.top or 0, len(table.classes))
    optional = [*["distance"] * (table.max_distance is not None), *["unsure"] * table.marks_unsure]
    optional += ["set"] * (table.set_level is not None)
    columns = [*FIRST_COLUMNS, *optional, "error"]
    pairs = [f"{part}_{rank}" for rank in range(1, top + 1) for part in ("label", "probability")]
    class_columns = pairs or [f"probability_{name}" for name in table.classes]
    write_row = row_writer(file)
    write_row([*columns, *class_columns])

    def write(row: Row) -> None:
        probabilities = row.get("probabilities", {})
        if "set" in row:
            row = row | {"set": json.dumps(row["set"], ensure_ascii=False)}  # a name may have any separator in it
        values = [value for pair in probabilities.items() for value in pair] if top else probabilities.values()
        write_row([*(row.get(column, "") for column in columns), *(values or [""] * len(class_columns))])

    return write


def _line(row: Row, table: Table) -> str:
    """Return a row for a person. The path comes last, since it may have any length."""
    path = shown(str(row["path"]))
    if "error" in row:
        return f"{'-':{table.width}} {'':7}  {path}: {shown(str(row['error']))}"
    mark = f"{'unsure' if row['unsure'] else '':6}  " if table.marks_unsure else ""
    top = [f"{shown(name)} {p:.1%}" for name, p in row["probabilities"].items()] if table.top else []
    members = f"  {_set(row['set'], table)}" if table.set_level is not None else ""
    label = f"{shown(row['label']):{table.width}} {row['probability']:7.1%}"
    return f"{label}  {mark}{path}{members}{'  ' * bool(top)}{', '.join(top)}"


def _set(members: list[str], table: Table) -> str:
    """Return a set as text: `{dark, bright}`."""
    if len(members) == len(table.classes) > 2:
        return f"{{all {len(members):,} classes}}"
    others = f", {len(members) - MAX_SET_NAMED:,} more" if len(members) > MAX_SET_NAMED else ""
    return f"{{{', '.join(map(shown, members[:MAX_SET_NAMED]))}{others}}}"


def title(row: Row) -> str:
    """Return the label and probability of a row, as short as a contact sheet needs them."""
    if "error" in row:
        return "cannot be read"
    return f"{row['label']} {row['probability']:.0%}{' ?' if row.get('unsure') else ''}"


def left_out(reasons: dict[Path, str]) -> str:
    """Count what folders hold that is no picture, by reason, each with the first of its names."""
    names: dict[str, list[str]] = {}
    for path in sorted(reasons):
        names.setdefault(reasons[path], []).append(shown(path.name))
    parts = [
        f"{len(same):,} {reason} ({same[0]}{', …' if same[1:] else ''})"
        for reason, same in sorted(names.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return f"{len(reasons):,} left out of folders: {'; '.join(parts)}"
