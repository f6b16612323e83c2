"""What the report and the model card are written from, collected from the files of a run and what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from PIL import Image

from thaw.core import tables
from thaw.core.files import read_json
from thaw.core.label_values import UNKNOWN
from thaw.evaluation.measure import Measured
from thaw.evaluation.models import TrainedModels
from thaw.evaluation.review import Review
from thaw.features import extraction
from thaw.parameters.evaluate import Evaluate
from thaw.report import health, provenance
from thaw.report.results import Duplicates, PresetChoice, Results, RunFacts

# The columns of duplicates.csv
DUPLICATES = dict.fromkeys(("group", "image_id", "path", "split", "action", "alike"), pl.String)


@dataclass(frozen=True)
class ReportFiles:
    """What the report shows beside the measurements, from the outputs of earlier stages."""

    augmentations: Path  # a JPEG of training photographs, plain and as augmented
    preset: Path  # a JSON file with the chosen preset
    head_metrics: Path  # a JSON file in which `augmentation` says what the preset was compared with
    duplicates: Path  # a table with a row for each photograph that shares a group with another
    duplicates_sheet: Path  # a JPEG of the largest groups
    looked_for_duplicates: bool = True  # whether near-duplicates were looked for: `split.group_duplicates`


def collect(
    models: TrainedModels,
    measured: Measured,
    review: Review,
    settings: Evaluate,
    *,
    hashes: Mapping[str, str],
    files: ReportFiles,
) -> Results:
    """Collect the results of a run.

    Args:
        models: of the run.
        measured: of these models.
        review: the images that are shown.
        settings: the section `evaluate`.
        hashes: path of each artifact that was read → its MD5.
        files: what else the report shows.

    Returns:
        All that the page and the card show.

    Raises:
        ThawError: a table of the run or `source.json` is missing.
    """
    return Results(
        **vars(collect_facts(models, settings.model_dump(exclude={"multi_aim"}), hashes=hashes, files=files)),
        measured=measured,
        sheets=review.sheets,
        confused=review.confused,
    )


def collect_facts(
    models: TrainedModels, settings: Mapping[str, object], *, hashes: Mapping[str, str], files: ReportFiles
) -> RunFacts:
    """Collect what is to be said of any run.

    Args:
        models: of the run. Of images with several labels, the classes that an image shows count as its label.
        settings: the parameters of the section `evaluate` that are shown.
        hashes: path of each artifact that was read → its MD5.
        files: what else the report shows.

    Raises:
        ThawError: a table of the run or `source.json` is missing.
    """
    dataset, metadata, examples = models.files.dataset, models.metadata, models.examples
    split = tables.read(dataset.split, tables.SPLIT)
    augmentation = read_json(files.head_metrics).get("augmentation")
    missing = tables.read(dataset.raw / "missing.csv", tables.MISSING)
    duplicates = tables.read(files.duplicates, DUPLICATES)
    if examples.values is None:
        labels, weights = models.head.classes, examples.weights
    else:
        labels, weights = split["label"].unique().sort().to_list(), examples.value_weights[examples.values != UNKNOWN]
    return RunFacts(
        source=read_json(dataset.raw / "source.json"),
        classes=models.head.classes,
        weighted=len(set(weights)) > 1,
        duplicates=_duplicates(duplicates, files),
        health=health.describe(models.images, split, duplicates, missing, labels),
        parameters={
            "model": {
                "backbone": models.full_model.name,
                "licence": read_json(models.files.backbone / "backbone.json")["licence"],
                "cut": metadata["cut"],
                "best_epoch": metadata["best_epoch"],
            },
            "image": metadata["image"],
            "head": models.head.description,
            "fine_tune": metadata["fine_tune"],
            "evaluate": dict(settings),
        },
        inputs=hashes,
        computed_with=provenance.computed_with(),
        preset=PresetChoice(read_json(files.preset)["preset"], augmentation and augmentation["compared"]),
        resize=read_json(models.files.features / extraction.RESIZE),
        augmentations=files.augmentations.read_bytes(),
    )


def _duplicates(table: pl.DataFrame, files: ReportFiles) -> Duplicates:
    left_out = int((table["action"] == "left out").sum())
    with Image.open(files.duplicates_sheet) as sheet:
        is_blank = sheet.convert("L").getextrema() == (255, 255)  # as where all groups are those that the source names
    shown = None if is_blank else files.duplicates_sheet.read_bytes()
    return Duplicates(left_out, shown, files.looked_for_duplicates)
