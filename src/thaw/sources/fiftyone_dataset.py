"""Photographs of a FiftyOne dataset, as curated in the App or fetched by FiftyOne's own zoo.

FiftyOne is not part of the default installation; `fiftyone_setup` imports it when this source is used.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import Field

from thaw.core.errors import ThawError, did_you_mean
from thaw.core.section import Section
from thaw.sources import class_names, fiftyone_setup, table_reading
from thaw.sources.base import DatasetInfo, Listing, Source, SourceImage
from thaw.sources.own_files import (
    PLAIN_SUBSETS,
    SUBSETS,
    check_meta,
    given_subset,
    given_weight,
    image_id,
    unique_ends,
)

NO_LABEL = "no label in the dataset"
TWO_SUBSETS = "in two subsets"
OWN_FIELDS = ("split", "group", "weight")  # mean what the columns of a table with these names mean


class FiftyOne(Section):
    dataset: str | None
    label_field: Annotated[str, Field(min_length=1)]
    absent_field: Annotated[str, Field(min_length=1)] | None  # with several labels: what was verified to be absent
    unlisted: Literal["absent", "unknown", None]  # with several labels, the classes that a sample does not list


def find(params: FiftyOne) -> Listing:
    """List the samples of the dataset `params.dataset`, labelled by its Classification field `params.label_field`.

    Samples without a label are left out with that reason. If samples have one of the tags `train`, `validation` or
    `test`, or a plain other name of these (`PLAIN_SUBSETS`), the column `meta_subset` has it. The fields `split`,
    `group`, `weight` and `meta_…` are read as columns of a table are, see `table.find`.

    Raises ThawError if FiftyOne or its database is missing; if the dataset or field does not exist (the message names
    similar ones) or is of another kind; if a value is not what its field may hold; or if there are fewer than two
    classes, or two that look the same.
    """
    dataset, fiftyone, name = open_dataset(params)
    _check_field(dataset, params, fiftyone)
    samples, own = read_samples(dataset, [params.label_field], [f"{params.label_field}.label"], name)
    samples = [(path, label, tags, given) for path, (label,), tags, given in samples]
    images = list(source_images(samples, name))
    classes = tuple(sorted({image.label for image in images if not image.left_out}))
    if len(classes) < 2:
        content = f"one class, {classes[0]!r}" if classes else "no labelled image"
        raise ThawError(f"{params.label_field} of {name} holds {content}: two classes are needed")
    for label in classes:
        if fault := class_names.fault(label):
            raise ThawError(f"the label {label!r} {fault}: it cannot name a class")
    warnings = class_names.check(classes, f"{params.label_field} of {name}")
    notes = [f"fields that are read: {', '.join(own.values())}"] if own else []
    notes += class_names.composition_notes(label for _, label, *_ in samples if label)
    info = DatasetInfo("fiftyone", license="", citation="", classes=classes)
    return Listing(info, images, notes=tuple(notes), warnings=tuple(warnings))


def open_dataset(params: FiftyOne) -> tuple[Any, ModuleType, str]:
    """Return the dataset `params.dataset`, the module `fiftyone`, and what errors call the dataset.

    Raises ThawError if FiftyOne, its database or the dataset is missing, or holds no images.
    """
    fiftyone = fiftyone_setup.connect("download.source: fiftyone")
    datasets = fiftyone.list_datasets()
    if params.dataset not in datasets:
        hint = did_you_mean(params.dataset, datasets) if datasets else ": it has none yet"
        raise ThawError(f"FiftyOne has no dataset {params.dataset!r}{hint}")
    dataset = fiftyone.load_dataset(params.dataset)
    if dataset.media_type not in ("image", None):
        raise ThawError(f"the FiftyOne dataset {params.dataset!r} holds {dataset.media_type}s, not images")
    return dataset, fiftyone, f"the FiftyOne dataset {params.dataset!r}"


def read_samples(
    dataset: Any, label_fields: Sequence[str], label_paths: Sequence[str], name: str
) -> tuple[list[tuple[str, tuple, list[str] | None, dict[str, str]]], dict[str, str]]:
    """Return the samples of a dataset, and which of its fields are read as columns of a table.

    Args:
        dataset: of FiftyOne.
        label_fields: the fields with labels.
        label_paths: where the labels are in these.
        name: of the dataset, for errors.

    Returns:
        Of each sample its file path, the labels of each field, its tags, and the texts of its other fields by the
        column of a table that they are; and {column: field}.

    Raises:
        ThawError: A field has a reserved name, or holds lists.
    """
    own = _own_fields(dataset, label_fields, name)
    columns = dataset.values(["filepath", "tags", *label_paths, *own.values()])
    paths, tags, values = columns[0], columns[1], columns[2 + len(label_paths) :]
    labels = list(zip(*columns[2 : 2 + len(label_paths)], strict=True))
    texts = [_texts(column, f"the field {own[key]!r} of {name}") for key, column in zip(own, values, strict=True)]
    given = [dict(zip(own, row, strict=True)) for row in zip(*texts, strict=True)] if own else [{} for _ in paths]
    return list(zip(paths, labels, tags, given, strict=True)), own


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


def _own_fields(dataset, label_fields: Sequence[str], name: str) -> dict[str, str]:
    """Return {column of a table: field of the samples that is read as such}; raises ThawError for a reserved name."""
    fields = {}
    for field in sorted(dataset.get_field_schema()):
        lower, key = field.lower(), field[len("meta_") :]
        if field in label_fields:
            continue
        if lower in OWN_FIELDS:
            fields[lower] = field
        elif lower.startswith("meta_") and key:
            check_meta(key, f"{name}: the field {field}")
            fields[f"meta_{key}"] = field
    return fields


def _texts(values: Iterable[object], name: str) -> list[str]:
    """Return the values of a field as a table has them; raises ThawError, which calls the field `name`, for lists."""
    values = [value.isoformat() if isinstance(value, date) else value for value in values]
    for value in values:
        if not isinstance(value, str | float | int | None):
            kind = type(value).__name__
            raise ThawError(f"{name} holds values of the kind {kind}: each sample needs one text or number")
    return list(map(table_reading.as_text, values))


def source_images(
    samples: Iterable[tuple[str, str | None, list[str] | None, Mapping[str, str]]], name: str
) -> Iterator[SourceImage]:
    """Yield the images of samples (file path, label, tags, texts of `_own_fields`), sorted by path.

    Raises ThawError, which calls the dataset `name`, if a text is not what its field may hold.
    """
    samples = sorted(samples, key=lambda sample: sample[0])
    ends = unique_ends(path for path, *_ in samples)  # FiftyOne's own ids differ for the same files elsewhere
    for path, label, tags, given in samples:
        where = f"{name}: {ends[path]}"
        subsets = {SUBSETS[tag.lower()] for tag in tags or [] if tag.lower() in PLAIN_SUBSETS}
        subsets = sorted(subsets | {given_subset(given.get("split", ""), where)} - {""})
        meta = {key.removeprefix("meta_"): text for key, text in given.items() if key.startswith("meta_")}
        if "group" in given:
            meta["group"] = class_names.composed(given["group"])
        yield SourceImage(
            image_id=image_id(ends[path], 16),
            path=Path(path),
            label=class_names.composed(label or ""),
            weight=given_weight(given.get("weight", ""), where),
            file=ends[path],
            left_out=NO_LABEL if not label else TWO_SUBSETS if len(subsets) > 1 else "",
            meta={"subset": subsets[0] if subsets else ""} | meta,
        )


SOURCE = Source("fiftyone", FiftyOne, find, required={"dataset": "a dataset"}, is_own=True)
