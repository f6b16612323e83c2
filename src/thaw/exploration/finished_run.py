"""A finished run as one table: each photograph with its label, split, predictions and features."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from thaw.core import arrays, label_values, store, tables
from thaw.core.errors import ThawError
from thaw.core.metrics_file import MODELS
from thaw.core.store import Photographs
from thaw.features import examples

PREDICTIONS = {
    "image_id": pl.String,
    "split": pl.String,
    "label": pl.String,
    "head_label": pl.String,
    "head_probability": pl.Float64,
    "fine_tuned_label": pl.String,
    "fine_tuned_probability": pl.Float64,
    "self_confidence": pl.Float64,
}
BLOCK_IMAGES = 1_000  # images whose features are hashed at a time


@dataclass(frozen=True)
class Run:
    """A finished run, one row for each image, sorted by id."""

    table: pl.DataFrame  # images.csv, split.csv and predictions.csv, joined; the column `filepath` is absolute
    classes: tuple[str, ...]
    probabilities: dict[str, np.ndarray]  # model → (n, classes) float32
    features: np.ndarray  # (rows, channels); the rows of augmented images are among them
    rows: np.ndarray  # (n,) int, the row of `features` of each plain image
    values: np.ndarray | None = None  # (n, classes) int8, as in `label_values`; None: each image has one label

    @cached_property
    def features_hash(self) -> str:
        """A hash of the image ids and their features."""
        digest = hashlib.sha256("\n".join(self.table["image_id"]).encode())
        for start in range(0, len(self.rows), BLOCK_IMAGES):
            digest.update(np.ascontiguousarray(self.features[self.rows[start : start + BLOCK_IMAGES]]))
        return digest.hexdigest()

    @cached_property
    def predictions_hash(self) -> str:
        """A hash of the labels, splits and predictions."""
        predictions = self.table.select(*PREDICTIONS).drop("self_confidence")
        return hashlib.sha256(predictions.write_csv().encode()).hexdigest()


def read(raw: Path, split: Path, features: Path, predictions: Path, files: Path | None = None) -> Run:
    """Read a finished run.

    Args:
        raw: The folder of the photographs, with `images.csv` and `labels.csv`.
        split: The table `split.csv`.
        features: The folder that `extract_features` writes. Feature maps are pooled.
        predictions: The folder of predictions that `evaluate` writes.
        files: A folder with the photographs as files. It is needed where `raw` has them in shards.

    Returns:
        The run.

    Raises:
        ThawError: A file is missing, or the files do not belong to the same run; or `raw` has the photographs in
            shards, and `files` names no folder.
    """
    if files is None and Photographs(raw).shards:
        raise ThawError(
            "the photographs are in shards, and FiftyOne shows files: run `python src/bring_out.py FOLDER`, then this "
            "with `--photographs FOLDER`"
        )
    predicted = tables.read(predictions / "predictions.csv", PREDICTIONS).with_row_index("row").sort("image_id")
    table = tables.read(split, tables.SPLIT).sort("image_id")
    if "fold" in table.columns:
        table = table.with_columns(split=pl.lit("test"))  # the predictions are of models that had not seen the image
    common = ["image_id", "label", "split"]
    if not table.select(common).equals(predicted.select(common)):
        raise ThawError(f"{predictions} and {split} are not of the same run: run `dvc repro`")
    rows = tables.read(features / "rows.csv", tables.ROWS).with_row_index("feature")
    plain = rows.filter(copy=0).select("image_id", "feature")
    images = tables.read_images(raw).drop("label", "weight")
    for other in (predicted.drop("label", "split"), plain, images):
        table = table.join(other, on="image_id", how="left", maintain_order="left")
    for column, path in (("feature", features / "rows.csv"), ("path", raw / "images.csv")):
        if table[column].null_count():
            missing = table.filter(pl.col(column).is_null())["image_id"][0]
            raise ThawError(f"{path} does not list the photograph {missing} of {split}: run `dvc repro`")
    classes = examples.read_classes(features)
    probabilities = {}
    for model in MODELS:
        array = arrays.open_rows(predictions / f"{model}.npy")
        if array.shape != (len(table), len(classes)):
            raise ThawError(f"{predictions}/{model}.npy does not fit the other files of the run: run `dvc repro`")
        probabilities[model] = array[table["row"].to_numpy()]
    known = label_values.read(raw / "labels.csv", table["image_id"], classes)
    # Of the folder alone: the file itself may be a link into DVC's cache, where it has no name.
    folder = (files or raw).resolve()
    paths = [str(folder / (store.name(path) if files else path)) for path in table["path"]]
    return Run(
        table=table.with_columns(filepath=pl.Series(paths, dtype=pl.String)),
        classes=classes,
        probabilities=probabilities,
        features=arrays.pooled(arrays.open_rows(features / "features.npy")),
        rows=table["feature"].to_numpy().astype(np.int64),
        values=known.values if known else None,
    )
