"""What the report and the model card of a run of several labels are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thaw.core import label_values, tables
from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN
from thaw.evaluation.models import TrainedModels
from thaw.evaluation.multi_label.measure import Measured
from thaw.evaluation.multi_label.review import PairCard
from thaw.features.examples import Examples
from thaw.parameters.evaluate import Evaluate
from thaw.report.collect import DUPLICATES, ReportFiles, collect_facts
from thaw.report.results import RunFacts


@dataclass(frozen=True)
class MultiResults(RunFacts):
    measured: Measured
    saved: str  # the model that the run has saved
    sheets: Mapping[str, Sequence[PairCard]]  # key of sheets.SHEETS → its cards, in their order
    disputed_pairs: Sequence[tuple[str, tuple[str, ...]]]  # class → images of a group, of which one shows it, one not

    @property
    def test(self) -> Mapping[str, object]:
        """The metrics of the saved model on test."""
        return self.measured.metrics[self.saved]["test"]


class Groups(NamedTuple):
    """The groups of (n,) images, with what is known of k classes."""

    image_ids: NDArray
    names: NDArray
    values: NDArray[np.int8]  # (n, k), as in `core.label_values`


def collect(
    models: TrainedModels,
    measured: Measured,
    sheets: Mapping[str, Sequence[PairCard]],
    settings: Evaluate,
    *,
    hashes: Mapping[str, str],
    files: ReportFiles,
) -> MultiResults:
    """Collect the results of a run of several labels.

    Args:
        models: of the run.
        measured: of these models.
        sheets: the pairs that are shown.
        settings: the section `evaluate`.
        hashes: path of each artifact that was read → its MD5.
        files: what else the report shows.

    Raises:
        ThawError: a table of the run or `source.json` is missing.
    """
    facts = collect_facts(models, settings.model_dump(exclude={"threshold"}), hashes=hashes, files=files)
    facts = replace(facts, health=replace(facts.health, disputed=()))  # it takes what is unknown for another label
    classes = models.head.classes
    groups = read_groups(models.examples, classes, models.files.dataset.raw / "labels.csv", files.duplicates)
    return MultiResults(
        **vars(facts),
        measured=measured,
        saved=models.kept,
        sheets=sheets,
        disputed_pairs=disputed_pairs(groups, classes),
    )


def read_groups(run: Examples, classes: Sequence[str], labels: Path, duplicates: Path) -> Groups:
    """Return the near-duplicates among the images of a run, and among those that were left out of training.

    Args:
        run: the images.
        classes: (k,) names, in the order of the values.
        labels: path of labels.csv.
        duplicates: path of duplicates.csv.

    Raises:
        ThawError: a table is missing or damaged.
    """
    listed = tables.read(duplicates, DUPLICATES)
    left_out, alike = listed.filter(action="left out"), dict(listed.select("image_id", "alike").iter_rows())
    known = label_values.read(labels, left_out["image_id"].to_list(), classes)
    ids = np.concatenate([run.image_ids, left_out["image_id"].to_numpy()])
    return Groups(ids, np.array([alike.get(name, name) for name in ids]), np.concatenate([run.values, known.values]))


def disputed_pairs(groups: Groups, classes: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the class and the images of each group in which one image is known to show it, and another not to."""
    found = []
    _, group = np.unique(groups.names, return_inverse=True)
    for number, name in enumerate(classes):
        values = groups.values[:, number]
        both = np.intersect1d(group[values == PRESENT], group[values == ABSENT])
        for one in both:
            members = np.flatnonzero((group == one) & (values != UNKNOWN))
            found.append((name, tuple(sorted(groups.image_ids[members].tolist()))))
    return found
