"""Predictions of a model with several labels for each image: its decision rule, and its predictions as rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from thaw.core import hashes
from thaw.core.csv_rows import row_writer
from thaw.core.encodings import shown
from thaw.core.errors import ThawError
from thaw.core.task import MULTI
from thaw.engines.flips import AXES
from thaw.prediction.output import SEVERAL_COLUMNS, Row, Write
from thaw.prediction.stream import Prediction
from thaw.training import temperatures

NO_LABEL = "none"  # where no class is above its threshold
THRESHOLD = 0.5  # of each class, where nothing was decided


@dataclass(frozen=True)
class Decision:
    """How the probabilities of a model become labels."""

    temperatures: tuple[float, ...]  # of each class
    thresholds: tuple[float, ...]  # on the calibrated probability of each class
    test_time_flips: str | None = None  # the predictions for these mirror images are averaged, see `flips`

    def calibrate(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return calibrated probabilities (n, k) for the model's own (n, k)."""
        return temperatures.apply(probabilities.astype(np.float64), np.array(self.temperatures))

    def predict(self, calibrated: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which classes each image shows, (n, k): those whose calibrated probability is above the threshold."""
        return calibrated > np.array(self.thresholds)

    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which classes each image shows, (n, k), by the model's own probabilities (n, k)."""
        return self.predict(self.calibrate(probabilities))


def undecided(classes: Sequence[str]) -> Decision:
    """Return the rule of a model of which nothing was decided: its own probabilities, above one half."""
    return Decision((1.0,) * len(classes), (THRESHOLD,) * len(classes))


def read_decision(model: Path, classes: Sequence[str]) -> Decision | None:
    """Read what `evaluate` decided for a model file with several labels, from `decision.json` beside it.

    Returns None if there is no such file, or if it was written for a model file of other bytes, such as that of an
    earlier run. Raises ThawError if it is for other classes or for one label each, or if `evaluate` did not write it.
    """
    path = model.with_name("decision.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("task") != MULTI:
            raise ThawError(f"{path} was chosen for a model of one label for each photograph: run `dvc repro`")
        if content["classes"] != list(classes):
            raise ThawError(f"{path} was chosen for another model, of {', '.join(content['classes'])}: `dvc repro`")
        flips = content.get("test_time_flips")
        if flips not in list(AXES):  # a list: the value may be of a type without a hash
            raise ThawError(f"{path} asks for the test-time flips {flips!r}, which do not exist: `dvc repro`")
        if content["model_md5"] != hashes.md5(model):
            return None
        of_classes = (tuple(float(content[key][name]) for name in classes) for key in ("temperatures", "thresholds"))
        return Decision(*of_classes, flips)
    except FileNotFoundError:
        return None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ThawError(f"{path} is no decision of Thaw's ({error!r}): `dvc repro` writes it") from None


def check_options(options: Mapping[str, object]) -> None:
    """Raise ThawError for an option that needs one label for each photograph; `options`: its name and value."""
    for name, value in options.items():
        if value is not None:
            raise ThawError(
                f"{name} needs a model of one label for each photograph, and this one gives several: it prints those "
                "above their thresholds, and with --json or --csv the probability of each class"
            )


@dataclass(frozen=True)
class Table:
    """How predictions become rows, and rows text: see `thaw.prediction.output.Table`."""

    classes: tuple[str, ...]
    decision: Decision
    max_distance: float | None = None  # images beyond it are unsure; rows have their distance then

    def row(self, prediction: Prediction) -> Row:
        """Return a prediction as a row.

        It has `path`, `labels` (those above their thresholds, the most probable first) and `probabilities` (of all
        classes, in their order). With `max_distance` it has `distance` and `unsure`. For an image that cannot be read,
        it has only `path` and `error`.
        """
        if prediction.probabilities is None:
            return {"path": prediction.image.path, "error": prediction.image.error}
        (probabilities,) = calibrated = self.decision.calibrate(prediction.probabilities[None])
        (is_shown,) = self.decision.predict(calibrated)
        in_order = [int(i) for i in np.argsort(-probabilities, kind="stable") if is_shown[i]]
        row = {
            "path": prediction.image.path,
            "labels": [self.classes[i] for i in in_order],
            "probabilities": {n: round(float(p), 6) for n, p in zip(self.classes, probabilities, strict=True)},
        }
        if self.max_distance is not None:
            row["distance"] = round(float(prediction.distance), 6)
            row["unsure"] = bool(prediction.distance > self.max_distance)
        return row

    def csv_writer(self, file: TextIO) -> Write:
        """Return a function that writes a row as one of a table: `labels` is a JSON list, as a name may have any sign.

        Behind the other columns is the probability of each class.
        """
        optional = ["distance", "unsure"] * (self.max_distance is not None)
        columns = [*SEVERAL_COLUMNS, *optional, "error"]
        write_row = row_writer(file)
        write_row([*columns, *(f"probability_{name}" for name in self.classes)])

        def write(row: Row) -> None:
            labels = {"labels": json.dumps(row["labels"], ensure_ascii=False)} if "labels" in row else {}
            probabilities = row.get("probabilities", {}).values() or [""] * len(self.classes)
            write_row([*((row | labels).get(column, "") for column in columns), *probabilities])

        return write

    def line(self, row: Row) -> str:
        """Return a row for a person. The path comes first: there may be any number of labels."""
        path = shown(str(row["path"]))
        if "error" in row:
            return f"{path}: {shown(str(row['error']))}"
        labels = ", ".join(f"{shown(name)} {row['probabilities'][name]:.1%}" for name in row["labels"])
        return f"{path}{'  unsure' if row.get('unsure') else ''}  {labels or NO_LABEL}"

    def title(self, row: Row) -> str:
        """Return the labels of a row, as short as a contact sheet needs them."""
        if "error" in row:
            return "cannot be read"
        return f"{', '.join(row['labels']) or NO_LABEL}{' ?' if row.get('unsure') else ''}"
