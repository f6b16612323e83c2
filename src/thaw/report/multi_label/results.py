"""What the report and the model card of a run of several labels are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN
from thaw.evaluation.models import TrainedModels
from thaw.evaluation.multi_label.measure import Measured
from thaw.evaluation.multi_label.review import PairCard
from thaw.features.examples import Examples
from thaw.parameters.evaluate import Evaluate
from thaw.report.collect import ReportFiles, collect_facts
from thaw.report.results import RunFacts


@dataclass(frozen=True)
class MultiResults(RunFacts):
    measured: Measured
    saved: str  # the model that the run has saved
    sheets: Mapping[str, Sequence[PairCard]]  # key of sheets.SHEETS → its cards, in their order
    disputed_pairs: Sequence[tuple[str, tuple[str, ...]]]  # class → near-duplicates of which one shows it and one not

    @property
    def test(self) -> Mapping[str, object]:
        """The metrics of the saved model on test."""
        return self.measured.metrics[self.saved]["test"]


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
    return MultiResults(
        **vars(facts),
        measured=measured,
        saved=models.kept,
        sheets=sheets,
        disputed_pairs=disputed_pairs(models.examples, models.head.classes),
    )


def disputed_pairs(examples: Examples, classes: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the class and the images of each group in which one image is known to show it, and another not to."""
    found = []
    _, group = np.unique(examples.groups, return_inverse=True)
    for number, name in enumerate(classes):
        values = examples.values[:, number]
        both = np.intersect1d(group[values == PRESENT], group[values == ABSENT])
        for one in both:
            members = np.flatnonzero((group == one) & (values != UNKNOWN))
            found.append((name, tuple(examples.image_ids[members].tolist())))
    return found
