"""Photographs of a FiftyOne dataset, as curated in the App or fetched by FiftyOne's own zoo.

FiftyOne is not part of the default installation; `fiftyone_setup` imports it when this source is used.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated

from pydantic import Field

from thaw.core.errors import ThawError, did_you_mean
from thaw.core.section import Section
from thaw.sources import class_names, fiftyone_setup
from thaw.sources.base import DatasetInfo, Listing, Source, SourceImage
from thaw.sources.own_files import PLAIN_SUBSETS, SUBSETS, image_id, unique_ends

NO_LABEL = "no label in the dataset"
TWO_SUBSETS = "tagged with two subsets"


class FiftyOne(Section):
    dataset: str | None
    label_field: Annotated[str, Field(min_length=1)]


def find(params: FiftyOne) -> Listing:
    """List the samples of the dataset `params.dataset`, labelled by its Classification field `params.label_field`.

    Samples without a label are left out with that reason. If samples have one of the tags `train`, `validation` or
    `test`, or a plain other name of these (`PLAIN_SUBSETS`), the column `meta_subset` has it.

    Raises ThawError if FiftyOne or its database is missing; if the dataset or field does not exist (the message names
    similar ones) or is of another kind; or if there are fewer than two classes, or two that look the same.
    """
    fiftyone = fiftyone_setup.connect("download.source: fiftyone")
    datasets = fiftyone.list_datasets()
    if params.dataset not in datasets:
        hint = did_you_mean(params.dataset, datasets) if datasets else ": it has none yet"
        raise ThawError(f"FiftyOne has no dataset {params.dataset!r}{hint}")
    dataset = fiftyone.load_dataset(params.dataset)
    if dataset.media_type not in ("image", None):
        raise ThawError(f"the FiftyOne dataset {params.dataset!r} holds {dataset.media_type}s, not images")
    _check_field(dataset, params, fiftyone)
    label = f"{params.label_field}.label"
    samples = list(zip(*dataset.values(["filepath", label, "tags"]), strict=True))
    images = list(_source_images(samples))
    classes = tuple(sorted({image.label for image in images if not image.left_out}))
    if len(classes) < 2:
        content = f"one class, {classes[0]!r}" if classes else "no labelled image"
        raise ThawError(
            f"{params.label_field} of the FiftyOne dataset {params.dataset!r} holds {content}: two classes are needed"
        )
    for name in classes:
        if fault := class_names.fault(name):
            raise ThawError(f"the label {name!r} {fault}: it cannot name a class")
    warnings = class_names.check(classes, f"{params.label_field} of the FiftyOne dataset {params.dataset!r}")
    notes = class_names.composition_notes(label for _, label, _ in samples if label)
    info = DatasetInfo("fiftyone", license="", citation="", classes=classes)
    return Listing(info, images, notes=tuple(notes), warnings=tuple(warnings))


def _check_field(dataset, params: FiftyOne, fiftyone: ModuleType) -> None:
    """Raise ThawError unless the label field has one label per sample."""
    fields = dataset.get_field_schema(embedded_doc_type=fiftyone.Classification)
    if params.label_field in fields:
        return
    of_dataset = f"of the FiftyOne dataset {params.dataset!r}"
    if not fields:
        raise ThawError(f"no field {of_dataset} is a Classification: one label per sample is needed")
    hint = did_you_mean(params.label_field, fields)
    if params.label_field in dataset.get_field_schema():
        raise ThawError(f"the field {params.label_field!r} {of_dataset} is not a Classification{hint}")
    raise ThawError(f"the samples {of_dataset} have no field {params.label_field!r}{hint}")


def _source_images(samples: Iterable[tuple[str, str | None, list[str] | None]]) -> Iterator[SourceImage]:
    """Yield the images of samples (file path, label, tags), sorted by path."""
    samples = sorted(samples, key=lambda sample: sample[0])
    ends = unique_ends(path for path, _, _ in samples)  # FiftyOne's own ids differ for the same files elsewhere
    for path, label, tags in samples:
        subsets = sorted({SUBSETS[tag.lower()] for tag in tags or [] if tag.lower() in PLAIN_SUBSETS})
        yield SourceImage(
            image_id=image_id(ends[path], 16),
            path=Path(path),
            label=class_names.composed(label or ""),
            file=ends[path],
            left_out=NO_LABEL if not label else TWO_SUBSETS if len(subsets) > 1 else "",
            meta={"subset": subsets[0] if subsets else ""},
        )


SOURCE = Source("fiftyone", FiftyOne, find, required={"dataset": "a dataset"}, is_own=True)
