"""Photographs of a FiftyOne dataset with several labels each, in a field of type Classifications."""

from collections.abc import Iterable
from dataclasses import replace

from thaw.core.errors import ThawError, did_you_mean
from thaw.sources import class_names, fiftyone_dataset, several_labels
from thaw.sources.base import DatasetInfo, Known, Listing, SourceImage
from thaw.sources.fiftyone_dataset import FiftyOne


def find(params: FiftyOne) -> Listing:
    """List the samples of the dataset `params.dataset` with the labels of its Classifications field.

    `params.label_field` has the classes that a sample shows, `params.absent_field` those that were verified to be
    absent. Classes that a sample lists in neither are `params.unlisted`. Tags and other fields are read as by
    `fiftyone_dataset.find`, and so are the errors; ThawError also if a class is in both fields of a sample, or too few
    samples are known to show a class, or known not to.

    A field that is set and empty says that there is no such class. A sample of which no field is set was not labelled,
    and is left out.
    """
    dataset, fiftyone, name = fiftyone_dataset.open_dataset(params)
    fields = [params.label_field, *([params.absent_field] if params.absent_field else [])]
    for field, parameter in zip(fields, ("label_field", "absent_field"), strict=False):
        _check_field(dataset, field, fiftyone.Classifications, f"download.fiftyone.{parameter}", name)
    samples, own = fiftyone_dataset.read_samples(dataset, fields, [f"{f}.classifications.label" for f in fields], name)
    samples.sort(key=lambda sample: sample[0])
    # Made as if each had one label, and then given its own.
    with_one = [(path, _any_label(labels), tags, given) for path, labels, tags, given in samples]
    images = list(fiftyone_dataset.source_images(with_one, name))
    known = [
        _known(image, labels, f"{name}: {image.file}") for image, (_, labels, *_) in zip(images, samples, strict=True)
    ]
    classes = tuple(sorted({label for of_image in known for label in of_image}))
    warnings = several_labels.check_names(classes, f"{' and '.join(fields)} of {name}")
    images = [_with_labels(*each, classes, params.unlisted) for each in zip(images, known, strict=True)]
    remedy = "; unlisted classes are unknown (download.fiftyone.unlisted)" if params.unlisted == "unknown" else ""
    several_labels.check_every_class(images, classes, name, remedy)
    listed = sum(len(of_image) for image, of_image in zip(images, known, strict=True) if not image.left_out)
    notes = [several_labels.unlisted_note(images, listed, classes, params.unlisted)]
    notes += [f"fields that are read: {', '.join(own.values())}"] if own else []
    notes += class_names.composition_notes(
        label for _, labels, *_ in samples for of_field in labels for label in of_field or [] if label
    )
    info = DatasetInfo("fiftyone", license="", citation="", classes=classes)
    return Listing(info, images, notes=tuple(notes), warnings=tuple(warnings))


def _check_field(dataset, field: str, kind: type, parameter: str, name: str) -> None:
    fields = dataset.get_field_schema(embedded_doc_type=kind)
    if field not in fields:
        hint = did_you_mean(field, fields) if fields else ""
        raise ThawError(f"{parameter}: {name} has no field {field!r} of type Classifications{hint}")


def _any_label(labels: tuple[Iterable[str | None] | None, ...]) -> str | None:
    """Return a text in place of the labels of a sample, or None where no field is set: nobody has labelled it."""
    return None if all(of_field is None for of_field in labels) else "-"


def _known(image: SourceImage, labels: tuple[Iterable[str | None] | None, ...], where: str) -> dict[str, Known]:
    """Return what the fields of a sample say, by class: the first field what is present, the second what is absent."""
    known: dict[str, Known] = {}
    for is_present, of_field in zip((True, False), labels, strict=False):
        for label in map(class_names.composed, filter(None, of_field or [])):
            if known.setdefault(label, Known(label, is_present, image.weight)).is_present != is_present:
                raise ThawError(f"{where}: the class {label!r} is both present and absent: only one can be right")
    return known


def _with_labels(image: SourceImage, known: dict[str, Known], classes: tuple[str, ...], unlisted: str) -> SourceImage:
    from thaw.core.label_values import as_text

    of_image = several_labels.with_unlisted(known, classes, unlisted, image.weight)
    left_out = image.left_out or ("" if of_image else several_labels.NO_KNOWN_LABEL)
    label = as_text(one.label for one in of_image if one.is_present)
    return replace(image, label=label, weight=1.0, known=of_image, left_out=left_out)


SOURCE = replace(fiftyone_dataset.SOURCE, find_several=find)
