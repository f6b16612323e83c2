"""Photographs of one's own, listed with their labels in a table: CSV, Parquet or JSON lines.

A row names a photograph:

    path,label,split
    cats/1.jpg,cat,train
    dogs/1.jpg,dog,test
"""

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from thaw.core.columns import EMPTY_WORDS, as_groups
from thaw.core.encodings import shown
from thaw.core.errors import ThawError, did_you_mean
from thaw.core.paths import existing, is_address, named_path, without_parents
from thaw.core.section import Section
from thaw.core.words import listed
from thaw.sources import class_names, nearby, table_reading
from thaw.sources.base import DatasetInfo, Listing, Source, SourceImage
from thaw.sources.leftovers import is_leftover
from thaw.sources.own_files import (
    PLAIN_SUBSETS,
    check_meta,
    given_subset,
    given_weight,
    image_id,
    status,
    subset_of,
    unique_ends,
    with_unique_ids,
)

NO_PATH = "no path in the table"
NO_LABEL = "no label in the table"
NO_FILE = "no such file"
REPEATED = "listed more than once: its first line counts"

GROUPING = {  # words in the names of columns whose photographs belong together
    "patient", "patients", "subject", "lesion", "person", "individual", "animal", "group", "groups", "session", "video",
    "scene", "camera", "slide", "plot", "specimen", "sequence", "burst", "site", "place", "location",
}  # fmt: skip
OF_IDS = {"id", "ids", "no", "nr", "number", "name", "code", "key"}  # words that may stand beside them
FLAGS = {"isvalid", "isval", "isvalidation", "istest", "istrain"}  # a split as true or false, as fastai has it
FOLDS = {"fold", "folds", "kfold", "cvfold", "foldid"}
MIN_GROUPS = 3  # that can be divided into training, validation and test
MAX_LOOKED_AT = 20_000  # files, among which one is looked for that a table may mean
OF_SEVERAL = ("absent", "value")  # columns that mean something where a photograph has several labels
INTEGER = re.compile(r"[-+]?\d+")
WHOLE = re.compile(r"([-+]?\d+)\.0+")  # as tables have whole numbers in a column with empty cells
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")
MAX_FRACTIONAL_CLASSES = 20  # grades such as 0.5, 1 and 1.5 name classes; more fractions are a measurement
MAX_NAMES = 12  # of columns, in a message


class Table(Section):
    path: str | None
    path_column: Annotated[str, Field(min_length=1)]
    label_column: Annotated[str, Field(min_length=1)]
    label_separator: Annotated[str, Field(min_length=1)]  # with several labels
    unlisted: Literal["absent", "unknown", None]  # with several labels, the classes that a photograph does not list


@dataclass
class Row:
    """A row of the table."""

    place: str  # where it is, for messages and missing.csv
    given_path: str  # as it is written
    label: str
    subset: str  # "" where the table gives none
    group: str
    weight: float
    meta: dict[str, str]
    path: Path = Path()
    file: str = ""  # what identifies the photograph, wherever the table is
    left_out: str = ""


def find(params: Table) -> Listing:
    """List the photographs of the table `params.path`. A row names one, by its path and its label.

    The columns are those that `params.path_column` and `params.label_column` name and, where they are there, `split`
    (see `subset_of`; or empty: drawn by Thaw), `group`, `weight` (from 0; empty: 1) and `meta_…`. Upper and lower
    case make no difference. A path is absolute, or relative to the folder of the table; see `paths.existing`.

    Rows without a path, label or file are left out with that reason, and a photograph's second row. Classes are in
    numeric order if all are numbers, otherwise in alphabetical order; labels are in their composed Unicode form. The
    ids of photographs below the folder of the table are those of the source `folder`; others are made from the end of
    the path.

    Raises ThawError, one line that names the place, if the table cannot be read, if a value is not what its column may
    hold, if a photograph has two labels, splits, groups or weights, if over half of the files are missing, or if the
    labels are no classes; UnreachableError if the disk or share fails.
    """
    name = f"download.table.path {params.path}"
    table = without_parents(named_path(params.path, "download.table.path"))
    content = table_reading.read(table, name)
    columns = find_columns(content, params, name)
    rows = read_rows(content, columns, name)
    complete = [row for row in rows if row.given_path and row.label]
    classes = _classes(complete, columns["label"], name)  # before any file is looked for
    warnings = class_names.check(classes, name)
    if joined := class_names.joined(classes):
        warnings.append(f"taken as one class: {joined}; with task: multi a photograph may have several labels")
    if empty := [label for label in classes if label.lower() in EMPTY_WORDS]:
        warnings.append(f"{listed(empty)} counts as a class: if it says that the label is missing, empty it")
    forms = locate([row for row in rows if row.given_path], table.parent)
    check_that_most_are_there(complete, table.parent, name)
    photographs = without_repeats(complete, name)
    warnings += unlike_repeats(complete)
    _check_every_class(photographs, name)
    images = with_unique_ids([source_image(row, image_id(row.file, 8), columns) for row in photographs])
    images += [source_image(row, row_id(row), {}) for row in rows if row.left_out in (NO_PATH, NO_LABEL, REPEATED)]

    warnings += unused_splits(content, columns) + unused_groups(content, columns)
    ignored = [column or "one without a name" for column in content.columns if column not in columns.values()]
    ignored = [f"{column} (only for task: multi)" if column.lower() in OF_SEVERAL else column for column in ignored]
    notes = [f"ignored columns: {listed(ignored, MAX_NAMES)}"] if ignored else []
    notes += forms + class_names.composition_notes(content.columns[columns["label"]]) + split_notes(content, columns)
    notes += missing_groups(content, columns)
    notes += [] if "split" in columns else nearby.unused_tables(table)
    info = DatasetInfo("table", "", "", classes)
    return Listing(info, images, seen=True, notes=tuple(notes), warnings=tuple(warnings))


def is_here(params: Table) -> bool:
    """Return whether a photograph of the table is on this machine: Git may have brought the table alone."""
    name = f"download.table.path {params.path}"
    table = without_parents(named_path(params.path, "download.table.path"))
    content = table_reading.read(table, name)
    rows = [row for row in read_rows(content, find_columns(content, params, name), name) if row.given_path]
    locate(rows, table.parent)
    return any(row.path.exists() for row in rows)


def find_columns(content: table_reading.Table, params: Table, name: str, *more: str) -> dict[str, str]:
    """Return {what a column is for: its name in the table}, for `path`, `label` and those of the others that exist.

    `more`: the names of further columns that are used if they exist.
    """
    wanted = {"path": params.path_column, "label": params.label_column}
    wanted |= {purpose: purpose for purpose in ("split", "group", "weight", *more)}
    columns = {}
    for purpose, column in wanted.items():
        same = [other for other in content.columns if other.lower() == column.lower()]
        if column in same:
            columns[purpose] = column
        elif len(same) == 1:
            columns[purpose] = same[0]
        elif same:
            raise ThawError(f"{name} has the columns {' and '.join(same)}: one of them should be {column!r}")
        elif purpose in ("path", "label"):
            raise ThawError(_missing_column(content, column, purpose, name))
    if columns["path"] == columns["label"]:
        raise ThawError(f"{name}: download.table.path_column and label_column both name the column {columns['path']!r}")
    for column in content.columns:
        key = column[len("meta_") :]
        if column.lower().startswith("meta_") and key and column not in columns.values():
            check_meta(key, f"{name}: the column {column}")
            columns[f"meta_{key}"] = column
    for column in columns.values():
        if content.columns[column] is None:
            raise ThawError(
                f"{name}: the column {column!r} holds lists, objects or bytes: each row needs one text. Save pictures "
                "that are in a table as files, and their paths in it"
            )
    return columns


def _missing_column(content: table_reading.Table, column: str, purpose: str, name: str) -> str:
    """Say that there is no column for the path, or for the label, and what to do."""
    said, names = f"{name} has no column {column!r}", [*filter(None, content.columns)]
    if len(names) == 1 and "|" in names[0]:
        return f"{said}, but one called {names[0]!r}: commas, semicolons or tabs should separate the columns"
    flags = [other for other in names if {*(content.columns[other] or ["x"])} <= {"0", "1", "0.0", "1.0"}]
    values = [content.columns[flag] for flag in flags]
    if purpose == "label" and len(flags) > 1 and all(sum(map(float, row)) == 1 for row in zip(*values, strict=True)):
        return (
            f"{said}, but columns of 0 and 1 ({listed(flags, MAX_NAMES)}): write one column {column} with the class "
            "of each photograph"
        )
    return (
        f"{said}{did_you_mean(column, names, 0.6)}: rename the one with the {purpose}, or set "
        f"download.table.{purpose}_column. The first line of a CSV names its columns"
    )


def read_rows(content: table_reading.Table, columns: dict[str, str], name: str) -> list[Row]:
    """Return the rows; their files are not looked for yet."""

    empty = [""] * len(content.lines)
    purposes = ("path", "label", "split", "group", "weight")
    paths, labels, splits, groups, weights = (content.columns.get(columns.get(purpose), empty) for purpose in purposes)
    labels = whole_numbers([class_names.composed(label) for label in labels])
    groups = whole_numbers(list(map(class_names.composed, as_groups(groups))))
    meta = {key.removeprefix("meta_"): content.columns[columns[key]] for key in columns if key.startswith("meta_")}
    rows = []
    for i, line in enumerate(content.lines):
        place = f"{content.place} {line}"
        row = Row(
            place=place,
            given_path=paths[i],
            label=labels[i],
            subset=given_subset(splits[i], f"{name}: {place}"),
            group=groups[i],
            weight=given_weight(weights[i], f"{name}: {place}"),
            meta={key: values[i] for key, values in meta.items()},
            left_out="" if paths[i] and labels[i] else NO_LABEL if paths[i] else NO_PATH,
        )
        rows.append(row)
    return rows


def whole_numbers(values: list[str]) -> list[str]:
    """Return the values without `.0`, if all are whole numbers or empty."""
    if all(WHOLE.fullmatch(value) or INTEGER.fullmatch(value) for value in values if value):
        return [WHOLE.sub(r"\1", value) for value in values]
    return values


def check_numbers(labels: Iterable[str], name: str) -> None:
    """Raise ThawError if two labels are one whole number, as 1 and 1.0 are; nothing where some are no numbers."""
    labels = list(labels)
    if not all(NUMBER.fullmatch(label) for label in labels):
        return
    written: dict[str, str] = {}
    for label in labels:  # 010 and 10 may be codes, 1.1 and 1.10 sections: they stay apart
        whole = WHOLE.fullmatch(label)
        other = written.setdefault(whole[1] if whole else label, label)
        if other != label:
            raise ThawError(f"{name}: the labels {other!r} and {label!r} are the same number: write it in one way")


def missing_groups(content: table_reading.Table, columns: dict[str, str]) -> list[str]:
    """Return a note that counts the groups which stand for an empty value, such as NA; none if there are none."""
    groups = content.columns[columns["group"]] if "group" in columns else []
    words = Counter(group for group in groups if group.lower() in EMPTY_WORDS)
    return [f"{words.total():,} groups count as empty: {listed(sorted(words))}"] if words else []


def split_notes(content: table_reading.Table, columns: dict[str, str]) -> list[str]:
    values = sorted(set(content.columns[columns["split"]]) - {""}) if "split" in columns else []
    renamed = [f"{value} as {subset_of(value)[0]}" for value in values if value.lower() not in PLAIN_SUBSETS]
    return [f"values that count as a split: {listed(renamed)}"] if renamed else []


def unused_splits(content: table_reading.Table, columns: dict[str, str]) -> list[str]:
    """Return a warning for each kind of unused columns which look like a split."""
    unused = {name: values for name, values in content.columns.items() if name not in columns.values()}
    called = {column: re.sub(r"[\W_]", "", column.casefold()) for column in unused}
    remedies = {
        "the column should be called split": [name for name, values in unused.items() if looks_like_split(values)],
        "write a column split with train, validation and test": [name for name in unused if called[name] in FLAGS],
        "for folds as they are, call the column group, and set split.folds: groups": [
            name for name in unused if called[name] in FOLDS
        ],
    }
    return [
        f"{listed(likely, MAX_NAMES)} looks like a split, and is not used: {remedy}"
        for remedy, likely in remedies.items()
        if likely
    ]


def unused_groups(content: table_reading.Table, columns: dict[str, str]) -> list[str]:
    """Return a warning for each unused column whose name and values say that photographs belong together."""
    unused = [column for column in content.columns if column not in columns.values()] if "group" not in columns else []
    sizes = {column: group_sizes(column, content.columns[column] or []) for column in unused}
    return [
        f"{shown(column)} is not used: it has {size[0]:,} values in {size[1]:,} rows. If the photographs of one value "
        "belong together, call the column group; else they may be in training and in test"
        for column, size in sizes.items()
        if size
    ]


def group_sizes(column: str, values: Iterable[str]) -> tuple[int, int] | None:
    """Return how many values there are, and how many rows have one, if a column seems to group photographs."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).casefold())
    words = [word for word in words if word not in OF_IDS]
    if not words or not GROUPING.issuperset(words):
        return None
    counts = Counter(value for value in values if value and value.lower() not in EMPTY_WORDS)
    return (len(counts), counts.total()) if MIN_GROUPS <= len(counts) < counts.total() else None


def looks_like_split(values: list[str] | None) -> bool:
    """Return whether the values of a column are names of splits, of two or more."""
    subsets = {subset_of(value) for value in set(values or []) - {""}}
    return len(subsets) > 1 and all(subset and not rest for subset, rest in subsets)


def locate(rows: list[Row], root: Path) -> list[str]:
    """Find the files of the rows.

    Returns notes: how many are only there if `\\` in their paths is read as `/`, and how many in another Unicode form:
    macOS decomposes names, and other systems keep the form.
    """
    backslashes = other_forms = 0
    for row in rows:
        row.path, found = _status(root, row.given_path)
        if found is None and "\\" in row.given_path:
            path, found = _status(root, row.given_path.replace("\\", "/"))
            if found is not None:
                row.path = path
                backslashes += 1
        if found is None and not row.given_path.isascii():
            path, found = _in_another_form(root, row.given_path)
            if found is not None:
                row.path = path
                other_forms += 1
        if not row.left_out and not (found and stat.S_ISREG(found.st_mode)):
            row.left_out = NO_FILE if found is None else "not a file"
    ends = unique_ends(str(row.path) for row in rows if root not in row.path.parents)
    for row in rows:  # no output may contain a path of this machine
        end = ends.get(str(row.path))
        row.file = f"…/{end}" if end else row.path.relative_to(root).as_posix()
    notes = [f"{backslashes:,} paths with \\ are read with /"] if backslashes else []
    return notes + ([f"{other_forms:,} paths are found in another Unicode form"] if other_forms else [])


def _status(root: Path, given_path: str) -> tuple[Path, os.stat_result | None]:
    path = without_parents(root / given_path)
    found = status(path)
    if found is None and "\\" not in given_path:  # one with \ is of Windows, where it escapes nothing
        path = without_parents(root / existing(given_path, root))
        found = status(path)
    return path, found


def _in_another_form(root: Path, given_path: str) -> tuple[Path, os.stat_result | None]:
    for form in ("NFC", "NFD"):
        path, found = _status(root, unicodedata.normalize(form, given_path))
        if found is not None:
            break
    return path, found


def check_that_most_are_there(rows: list[Row], root: Path, name: str) -> None:
    absent = [row for row in rows if row.left_out]
    if 2 * len(absent) > len(rows):
        first = absent[0]
        raise ThawError(
            f"{name}: {len(absent):,} of its {len(rows):,} photographs are not there, over half of them; the first is "
            f"{first.given_path} in {first.place} ({first.left_out}). {_where(first.given_path, root)}"
        )


def _where(given_path: str, root: Path) -> str:
    """Say where a file is that a table may mean by a path, or where it was looked for."""
    if is_address(given_path):
        return "Addresses are not downloaded: write the paths of files"
    *folders, wanted = re.split(r"[/\\]", given_path.casefold())
    found: dict[int, list[Path]] = {}  # by how many folders above the file have the names that are written
    for path in islice(_files_below(root), MAX_LOOKED_AT):
        if wanted in (path.name.casefold(), path.stem.casefold()) and path.suffix.lower() not in table_reading.READERS:
            pairs = zip(reversed(folders), reversed(path.relative_to(root).parent.parts), strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1].casefold(), pairs))
            found.setdefault(same, []).append(path)
    nearest = max(found, default=0)
    meant = found.get(nearest, [])
    if len(meant) == 1 and (nearest or not any(folders) or meant[0].parent == root):
        return f"{root} has {shown(meant[0].relative_to(root).as_posix())}: write the paths like this"
    return "The path is absolute" if Path(given_path).is_absolute() else f"Paths are relative to {root}"


def _files_below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_leftover(name, is_folder=True))
        yield from (Path(folder, name) for name in sorted(names) if not is_leftover(name, is_folder=False))


def without_repeats(rows: list[Row], name: str) -> list[Row]:
    """Return the first row of each photograph; the others are marked as left out.

    Raises ThawError if the rows of a photograph contradict one another: only its owner knows which one is right.
    """
    first_rows: dict[str, Row] = {}
    for row in rows:
        first = first_rows.setdefault(row.file, row)
        if first is row:
            continue
        for what in ("label", "subset", "group", "weight"):
            one, other = getattr(first, what), getattr(row, what)
            if one != other:
                what = "split" if what == "subset" else what
                several = "; with task: multi it may have several" if what == "label" else ""
                raise ThawError(
                    f"{name} lists {row.given_path} with the {what} {one!r} in {first.place} and {other!r} in "
                    f"{row.place}: a photograph can have only one {what}{several}"
                )
        row.left_out = REPEATED
    return list(first_rows.values())


def unlike_repeats(rows: list[Row]) -> list[str]:
    """Return a warning if the rows of a photograph differ in a column `meta_…`: the first one counts."""
    first_rows: dict[str, Row] = {}
    unlike = [
        key
        for row in rows
        for key, value in row.meta.items()
        if first_rows.setdefault(row.file, row).meta[key] != value
    ]
    if not unlike:
        return []
    columns = listed([f"meta_{key}" for key in sorted(set(unlike))])
    return [f"{len(unlike):,} values of {columns} differ from those of the photograph's first line, which counts"]


def _classes(rows: list[Row], column: str, name: str) -> tuple[str, ...]:
    """Return the classes in order; raises ThawError if the labels of the rows cannot be classes."""
    counts = Counter(row.label for row in rows)
    labels = sorted(counts)
    if all(NUMBER.fullmatch(label) for label in labels):
        labels.sort(key=lambda label: float(label.replace(",", ".")))
        check_numbers(labels, name)
        fractions = [label for label in labels if not (INTEGER.fullmatch(label) or WHOLE.fullmatch(label))]
        if len(fractions) > MAX_FRACTIONAL_CLASSES:
            raise ThawError(
                f"{name}: the column {column!r} has {len(labels):,} different numbers, such as {fractions[0]}: a label "
                "should name a class, not measure something"
            )
    if len(labels) < 2:
        content = f"one class, {labels[0]!r}" if labels else "no photograph with a label"
        raise ThawError(f"{name} holds {content}: at least two classes are needed")
    for label in labels:
        if fault := class_names.fault(label):
            raise ThawError(f"{name}: the label {label!r} {fault}: it cannot name a class")
    if max(counts.values()) == 1:
        raise ThawError(
            f"{name}: each of the {len(labels):,} labels of the column {column!r} is there only once, such as "
            f"{labels[0]!r}: every class needs several photographs, for training, validation and test"
        )
    return tuple(labels)


def _check_every_class(rows: list[Row], name: str) -> None:
    """Raise ThawError if a class has no photograph whose file is there, or none with a weight."""
    there = {row.label for row in rows if not row.left_out}
    for row in rows:
        if row.label not in there:
            raise ThawError(
                f"{name}: no photograph of the class {row.label!r} is there; the first is {row.given_path} in "
                f"{row.place} ({row.left_out})"
            )
    weighted = {row.label for row in rows if row.weight and not row.left_out}
    if unweighted := sorted(there - weighted):
        raise ThawError(f"{name}: all photographs of the class {unweighted[0]!r} have the weight 0: leave them out")


def source_image(row: Row, image_id: str, columns: dict[str, str]) -> SourceImage:
    meta = {"subset": row.subset} if "split" in columns else {}
    meta |= {"group": row.group} if "group" in columns else {}
    return SourceImage(
        image_id,
        row.path,
        row.label,
        row.weight,
        file=row.file or row.place,
        left_out=row.left_out,
        meta=meta | row.meta,
    )


def row_id(row: Row) -> str:
    """Return an id for a row that adds no photograph."""
    place = row.place.replace(" ", "-")
    return f"{image_id(row.file, 8)}-{place}" if row.file else place


SOURCE = Source("table", Table, find, required={"path": "a table"}, is_own=True, is_here=is_here)
