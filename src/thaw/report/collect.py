"""What the report and the model card are written from, collected from the files of a run and what was measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from thaw.core import tables
from thaw.core.files import read_json
from thaw.evaluation.measure import Measured
from thaw.evaluation.models import TrainedModels
from thaw.evaluation.review import ReviewCard
from thaw.parameters.evaluate import Evaluate
from thaw.report import health
from thaw.report.results import Results


def collect(
    models: TrainedModels,
    measured: Measured,
    sheets: Mapping[str, Sequence[ReviewCard]],
    settings: Evaluate,
    *,
    hashes: Mapping[str, str],
    augmentations: Path,
) -> Results:
    """Collect the results of a run.

    Args:
        models: of the run.
        measured: of these models.
        sheets: the contact sheets, by name.
        settings: the section `evaluate`.
        hashes: path of each artifact that was read → its MD5.
        augmentations: a JPEG of training photographs, plain and as augmented.

    Returns:
        All that the page and the card show.

    Raises:
        ThawError: a table of the run or `source.json` is missing.
    """
    dataset, metadata, classes = models.files.dataset, models.metadata, models.head.classes
    split = tables.read(dataset.split, tables.SPLIT)
    missing = tables.read(dataset.raw / "missing.csv", tables.MISSING)
    return Results(
        source=read_json(dataset.raw / "source.json"),
        classes=classes,
        weighted=len(set(models.examples.weights)) > 1,
        measured=measured,
        sheets=sheets,
        health=health.describe(models.images, split, missing, classes),
        parameters={
            "model": {
                "backbone": models.full_model.name,
                "cut": metadata["cut"],
                "best_epoch": metadata["best_epoch"],
            },
            "image": metadata["image"],
            "head": models.head.description,
            "fine_tune": metadata["fine_tune"],
            "evaluate": settings.model_dump(),
        },
        inputs=hashes,
        augmentations=augmentations.read_bytes(),
    )
