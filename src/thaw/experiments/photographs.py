"""Which photographs runs were measured on. Their accuracies are compared only if these are the same.

Photographs are the same if their bytes, labels and weights are, and what the runs measure on them is. The tables of a
run are in DVC's cache, under the hashes that its `dvc.lock` has.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl
import polars.selectors as cs

from thaw.core import metrics_file, tables
from thaw.core.errors import ThawError
from thaw.core.files import read_json
from thaw.experiments.runs import Data, Experiment

TRAINING = "training photographs"  # column of `compare`
IMAGES = {"image_id": pl.String, "sha256": pl.String}  # also in tables of earlier code
SPLIT = {"image_id": pl.String, "label": pl.String, "weight": pl.Float64, "split": pl.String}
UNKNOWN = "and DVC's cache here does not have its tables"


class Apart(NamedTuple):
    """Experiments that were measured on the same photographs, but not on those of the reference."""

    reason: str
    experiments: list[Experiment]


class Catalogue:
    """The photographs of runs, as far as the cache has their tables.

    path_of: returns where the cache of DVC has the content with a hash, whether it is there or not.
    """

    def __init__(self, path_of: Callable[[str], Path]):
        self._path_of = path_of
        self._tables: dict[Data, pl.DataFrame | None] = {}

    def partition(
        self, experiments: Sequence[Experiment], reference: Experiment
    ) -> tuple[list[Experiment], list[Apart]]:
        """Separate the experiments that were measured on the test photographs of a reference from all others.

        Args:
            experiments: runs, and means of runs. A mean over several splits is comparable with one over the same.
            reference: one of the runs. If it only stands in a mean over splits, that mean is the reference.

        Returns:
            Those on the same test photographs, and the others. Of the former, those with other validation photographs
            have `other_validation`.
        """
        containing = [e for e in experiments if reference in _runs(e)]
        containing = containing or [e for e in experiments if reference.data in {run.data for run in _runs(e)}]
        reference = min(containing, key=lambda e: len(self._key(e, "test")), default=reference)
        groups: dict[frozenset[str], list[Experiment]] = {}
        for experiment in experiments:
            groups.setdefault(self._key(experiment, "test"), []).append(experiment)
        comparable = [
            replace(experiment, other_validation=not self.are_same("validation", experiment, reference))
            for experiment in groups.pop(self._key(reference, "test"), [])
        ]
        return comparable, [Apart(self._reason(group[0], reference), group) for group in groups.values()]

    def with_training_counts(self, experiments: Sequence[Experiment]) -> list[Experiment]:
        """Add the number of training photographs to the parameters, if experiments differ in it."""
        known = [self._table(experiment.data) for experiment in experiments]
        counts = [None if table is None else _training_count(table) for table in known]
        if len(set(counts)) < 2:
            return list(experiments)
        return [
            replace(experiment, parameters={**experiment.parameters, TRAINING: count})
            for experiment, count in zip(experiments, counts, strict=True)
        ]

    def are_same(self, split: str, experiment: Experiment, other: Experiment) -> bool:
        """Return whether two experiments have the same photographs in a split."""
        return self._key(experiment, split) == self._key(other, split)

    def _key(self, experiment: Experiment, split: str) -> frozenset[str]:
        """Return a value that is equal for experiments on the same photographs of a split."""
        return frozenset(run.measure + self._digest(run.data, split) for run in _runs(experiment))

    def _digest(self, data: Data, split: str) -> str:
        table = self._table(data)
        if table is None:
            return repr(data)
        return hashlib.sha256(_images_of(table, split).write_csv().encode()).hexdigest()

    def _table(self, data: Data) -> pl.DataFrame | None:
        """Return the sha256, label, values, weight, split and, with folds, fold of each photograph, sorted.

        The values are what is known of several labels as one text, empty where there is one label.

        None if the cache lacks a table.
        """
        if data not in self._tables:
            self._tables[data] = self._read(data)
        return self._tables[data]

    def _read(self, data: Data) -> pl.DataFrame | None:
        if data.raw is None or data.split is None:
            return None
        try:
            table = data.raw
            if table.endswith(".dir"):  # of an earlier version: the list of the folder that holds the table
                table = {entry["relpath"]: entry["md5"] for entry in read_json(self._path_of(table))}["images.csv"]
            images = tables.read(self._path_of(table), IMAGES)
            split = tables.read(self._path_of(data.split), SPLIT)
            values = self._read_values(data.labels)
        except (ThawError, KeyError):
            return None
        joined = split.join(images.select("image_id", "sha256"), on="image_id")
        joined = joined.join(values, on="image_id", how="left").with_columns(pl.col("values").fill_null(""))
        return joined.select("sha256", "label", "values", "weight", "split", cs.matches("^fold$")).sort(pl.all())

    def _read_values(self, labels: str | None) -> pl.DataFrame:
        """Return what is known of several labels of each `image_id`, as one text; no row where there is one label."""
        if labels is None:  # of code before there could be several
            return pl.DataFrame(schema={"image_id": pl.String, "values": pl.String})
        table = tables.read(self._path_of(labels), tables.LABELS, key=("image_id", "label"))
        pair = pl.concat_str("label", "value", "weight", separator=" ")
        table = table.sort("image_id", "label").select("image_id", pair.alias("values"))
        return table.group_by("image_id", maintain_order=True).agg(pl.col("values").str.join("\n"))

    def _reason(self, experiment: Experiment, reference: Experiment) -> str:
        """Return why an experiment is not comparable with the reference."""
        if experiment.measure != reference.measure:
            names = (metrics_file.MEASURE_NAMES[run.measure] for run in (experiment, reference))
            return "another task, measured by {} and not by {}".format(*names)
        theirs, ours = (len(self._key(e, "test")) for e in (experiment, reference))
        is_same_data = experiment.data.raw == reference.data.raw
        if theirs > 1 or ours > 1:
            return f"{'other splits of the same data' if is_same_data else 'other data'}, {theirs} where it has {ours}"
        kind = "another split of the same data" if is_same_data else "other data"
        tables_ = self._table(experiment.data), self._table(reference.data)
        if any(table is None for table in tables_):
            return f"{kind}, {UNKNOWN}"
        theirs, ours = (_images_of(table, "test") for table in tables_)
        if theirs["sha256"].to_list() == ours["sha256"].to_list():
            unchanged = len(theirs.join(ours, on=theirs.columns, how="semi"))
            return f"the same test photographs, {len(ours) - unchanged} of {len(ours)} with another label or weight"
        shared = len(theirs.join(ours, on="sha256", how="semi"))
        return f"{kind}, {shared} of {len(theirs)} test photographs are among its {len(ours)}"


def _images_of(table: pl.DataFrame, split: str) -> pl.DataFrame:
    """Return the images that are measured in a split: with folds, all of them, whatever the folds are."""
    rows = table if "fold" in table.columns else table.filter(split=split)
    return rows.select("sha256", "label", "values", "weight")


def _training_count(table: pl.DataFrame) -> float:
    """Return how many images the models that are measured were trained on: with folds, the mean of the rounds."""
    if "fold" not in table.columns:
        return len(table.filter(split="train"))
    folds = table["fold"].max() + 1
    return round(len(table) * (folds - 2) / folds, 1)


def _runs(experiment: Experiment) -> Sequence[Experiment]:
    return experiment.repeats or (experiment,)


def in_repository() -> Catalogue:
    """Return the catalogue of DVC's repository around this folder."""
    from dvc.repo import Repo  # takes a second

    with Repo() as repo:
        cache = repo.cache.local
    return Catalogue(lambda oid: Path(cache.oid_to_path(oid)))
