"""Photographs of one's own with several labels, listed in a table.

A row names a photograph and classes that it shows; another row of it may name more:

    path,label,absent
    farm/1.jpg,sheep;goat,dog
    farm/2.jpg,dog,

Or a column `value` says of the classes of each row whether they are present (1) or absent (0):

    path,label,value
    farm/1.jpg,sheep,1
    farm/1.jpg,dog,0
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from thaw.core.columns import EMPTY_WORDS
from thaw.core.errors import ThawError
from thaw.core.paths import named_path, without_parents
from thaw.core.words import listed
from thaw.sources import class_names, several_labels, table, table_reading
from thaw.sources.base import DatasetInfo, Known, Listing, SourceImage
from thaw.sources.own_files import image_id, with_unique_ids
from thaw.sources.table import Row, Table

VALUES = {  # of the column `value`, in lower case; empty: unknown
    **dict.fromkeys(("1", "1.0", "true", "yes", "present"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "absent"), False),
}
SEPARATORS = (";", ",", "|", "/", " ")  # that may be meant


class _Said(NamedTuple):
    """What one row says of its photograph."""

    known: list[Known]
    unknown: list[str]  # classes with an empty `value`


@dataclass
class _Photograph:
    """All rows of one photograph."""

    first: Row
    known: dict[str, Known] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  # of each known class, the row that lists it
    unknown: set[str] = field(default_factory=set)  # classes that a row calls unknown, and that none knows
    weights: set[float] = field(default_factory=set)  # of its rows


def find(params: Table) -> Listing:
    """List the photographs of the table `params.path` with several labels each.

    Columns and paths are as in `table.find`. Of a row, the column `params.label_column` has classes separated by
    `params.label_separator`; they are present, or what the column `value` says if it is there. The column `absent` has
    classes that were verified to be absent. The rows of a photograph are taken together. Classes that a photograph
    does not list are `params.unlisted`. Classes are in alphabetical order.

    Raises ThawError as `table.find`; and if a class is both present and absent in a photograph, or too few photographs
    are known to show a class, or known not to.
    """
    name = f"download.table.path {params.path}"
    path = without_parents(named_path(params.path, "download.table.path"))
    content = table_reading.read(path, name)
    columns = table.find_columns(content, params, name, "absent", "value")
    rows = table.read_rows(content, columns, name)
    said = list(_read(content, columns, rows, params, name))
    classes = tuple(sorted({known.label for of_row in said for known in of_row.known}))
    table.check_numbers(classes, name)
    warnings = several_labels.check_names(classes, name)
    if empty := [label for label in classes if label.lower() in EMPTY_WORDS]:
        what = "present" if params.unlisted == "absent" else "known"
        warnings.append(f"{listed(empty)} counts as a class: if it says that no class is {what}, empty it")
    if joined := class_names.joined(classes):
        warnings.append(f"taken as one class: {joined}; download.table.label_separator is {params.label_separator!r}")
    named = [row for row in rows if row.given_path]
    for row in named:
        row.left_out = ""  # an empty label says that no class is present
    forms = table.locate(named, path.parent)
    table.check_that_most_are_there(named, path.parent, name)
    photographs = _photographs(rows, said, name)
    warnings += table.unlike_repeats(named)
    images = with_unique_ids([_image(one, classes, params.unlisted, columns) for one in photographs])
    several_labels.check_every_class(images, classes, name, _remedy(classes, params))
    there = [one for one, image in zip(photographs, images, strict=True) if not image.left_out]
    pairs = sum(len(one.known) + len(one.unknown.intersection(classes)) for one in there)
    warnings += table.unused_splits(content, columns) + table.unused_groups(content, columns)
    notes = [several_labels.unlisted_note(images, pairs, classes, params.unlisted)]
    notes += _notes(content, columns, params)
    notes += forms
    images += [_without_path(row) for row in rows if not row.given_path]
    return Listing(
        DatasetInfo("table", "", "", classes), images, seen=True, notes=tuple(notes), warnings=tuple(warnings)
    )


def _read(
    content: table_reading.Table, columns: Mapping[str, str], rows: list[Row], params: Table, name: str
) -> Iterator[_Said]:
    """Yield what each row says of its classes."""
    empty = [""] * len(rows)
    labels = content.columns[columns["label"]]
    absent, values = (content.columns.get(columns.get(purpose), empty) for purpose in ("absent", "value"))
    written = sorted({part for cell in (*labels, *absent) for part in _split(cell, params)})
    names = dict(zip(written, table.whole_numbers(written), strict=True))
    for row, present, denied, value in zip(rows, labels, absent, values, strict=True):
        is_present = True
        if "value" in columns:
            if value and value.lower() not in VALUES:
                raise ThawError(
                    f"{name}: {row.place}: value should be 1 (present), 0 (absent) or empty (unknown), not {value!r}"
                )
            is_present = VALUES.get(value.lower())
        named, denied = (
            list(dict.fromkeys(names[part] for part in _split(cell, params))) for cell in (present, denied)
        )
        known = [Known(label, is_present, row.weight) for label in named if is_present is not None]
        known += [Known(label, False, row.weight) for label in denied]
        yield _Said(known, named if is_present is None else [])


def _split(cell: str, params: Table) -> Iterator[str]:
    return filter(None, (class_names.composed(part.strip()) for part in cell.split(params.label_separator)))


def _photographs(rows: list[Row], said: list[_Said], name: str) -> list[_Photograph]:
    """Return the photographs, in the order of their first rows.

    Raises ThawError if the rows of a photograph contradict one another: only its owner knows which one is right.
    """
    photographs: dict[str, _Photograph] = {}
    for row, of_row in zip(rows, said, strict=True):
        if not row.given_path:
            continue
        one = photographs.setdefault(row.file, _Photograph(row))
        one.weights.add(row.weight)
        one.unknown.update(of_row.unknown)
        for what in ("subset", "group"):
            values = getattr(one.first, what), getattr(row, what)
            if values[0] != values[1]:
                what = "split" if what == "subset" else what
                raise ThawError(
                    f"{name} lists {row.given_path} with the {what} {values[0]!r} in {one.first.place} and "
                    f"{values[1]!r} in {row.place}: a photograph can have only one {what}"
                )
        for known in of_row.known:
            before = one.known.setdefault(known.label, known)
            place = one.places.setdefault(known.label, row.place)
            if before.is_present != known.is_present:
                present, absent = (place, row.place) if before.is_present else (row.place, place)
                raise ThawError(
                    f"{name} lists {known.label!r} of {row.given_path} as present in {present} and as absent in "
                    f"{absent}: only one can be right"
                )
            if before.weight != known.weight:
                raise ThawError(
                    f"{name} lists {known.label!r} of {row.given_path} with the weight {before.weight:g} in {place} "
                    f"and {known.weight:g} in {row.place}: it can have only one"
                )
    for one in photographs.values():
        one.unknown.difference_update(one.known)
    return list(photographs.values())


def _image(one: _Photograph, classes: tuple[str, ...], unlisted: str, columns: Mapping[str, str]) -> SourceImage:
    from thaw.core.label_values import as_text  # imports polars, which reading the parameters does not need

    weight = one.first.weight if len(one.weights) == 1 else 1.0  # rows that differ weigh their own classes alone
    said = [label for label in classes if label not in one.unknown]
    known = several_labels.with_unlisted(one.known, said, unlisted, weight)
    image = table.source_image(one.first, image_id(one.first.file, 8), columns)
    label = as_text(known.label for known in known if known.is_present)
    left_out = image.left_out or ("" if known else several_labels.NO_KNOWN_LABEL)
    return replace(image, label=label, weight=1.0, known=known, left_out=left_out)


def _without_path(row: Row) -> SourceImage:
    return table.source_image(replace(row, left_out=table.NO_PATH), table.row_id(row), {})


def _remedy(classes: tuple[str, ...], params: Table) -> str:
    """Say what may be wrong with the parameters where a class is known of too few photographs."""
    others = [mark for mark in SEPARATORS if mark != params.label_separator and any(mark in name for name in classes)]
    if others:
        example = next(name for name in classes if others[0] in name)
        return f"; is {example!r} one class? download.table.label_separator is {params.label_separator!r}"
    return "; unlisted classes are unknown (download.table.unlisted)" if params.unlisted == "unknown" else ""


def _notes(content: table_reading.Table, columns: Mapping[str, str], params: Table) -> list[str]:
    ignored = [column or "one without a name" for column in content.columns if column not in columns.values()]
    notes = [f"ignored columns: {listed(ignored, table.MAX_NAMES)}"] if ignored else []
    if "value" in columns:
        empty = sum(not value for value in content.columns[columns["value"]])
        without = f", which {empty:,} rows leave empty: unknown" if empty else ""
        notes.append(f"present or absent is what the column {columns['value']!r} says{without}")
    cells = (cell for purpose in ("label", "absent") for cell in content.columns.get(columns.get(purpose), ()))
    names = (part.strip() for cell in cells for part in cell.split(params.label_separator))
    notes += class_names.composition_notes(names) + table.split_notes(content, columns)
    return notes + table.missing_groups(content, columns)


SOURCE = replace(table.SOURCE, find_several=find)
