"""Labels that come back become data: rows of two tables of a person's own, and conflicts, which change nothing."""

import csv
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thaw.core import hashes
from thaw.core.csv_rows import row_writer
from thaw.core.errors import ThawError, did_you_mean
from thaw.core.files import atomic_edit, atomic_file
from thaw.labelling.returned import NO_LABEL, NOT_FOUND, Returned
from thaw.sources import added, table_reading

ADDED_COLUMNS = ("path", "label", "sha256")
CORRECTION_COLUMNS = ("image_id", "sha256", "old", "new", "from")
CONFLICT_COLUMNS = ("place", "path", "label", "reason")
CSV = {".csv": ",", ".tsv": "\t"}  # ending → what separates the values of a new table
ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}


@dataclass(frozen=True)
class Labelled:
    """What is labelled before.

    Attributes:
        classes: that a label may have; None: any.
        images: SHA-256 → image_id → label of the photographs of the run; a file may be there twice.
        added: SHA-256 → label of what came back before.
        judged: ids of photographs of the run whose label a person has corrected or confirmed.
    """

    classes: Sequence[str] | None
    images: Mapping[str, Mapping[str, str]]
    added: Mapping[str, str]
    judged: Collection[str] = ()


@dataclass
class Taken:
    """What becomes of labels that came back."""

    added: list[tuple[Path, str, str]] = field(default_factory=list)  # path, label, SHA-256
    corrected: list[tuple[str, str, str, str]] = field(default_factory=list)  # image_id, SHA-256, old, new
    confirmed: list[tuple[str, str, str, str]] = field(default_factory=list)  # likewise, the old is the new one
    same: int = 0  # have this label already
    unlabelled: int = 0
    conflicts: list[tuple[str, str, str, str]] = field(default_factory=list)  # CONFLICT_COLUMNS

    @property
    def has_photographs(self) -> bool:
        """Whether any photograph was found."""
        found = [reason for *_, reason in self.conflicts if not reason.startswith(NOT_FOUND)]
        return bool(found or self.added or self.corrected or self.confirmed or self.same or self.unlabelled)

    def conflict(self, each: Returned, reason: str) -> None:
        self.conflicts.append((each.place, str(each.path or ""), each.label, reason))


def decide(returned: Iterable[Returned], labelled: Labelled, new_classes_parameter: str) -> Taken:
    """Decide what becomes of each label.

    A photograph that has no label yet is added. A likely wrong label is corrected, once.
    Any other label that contradicts one is a conflict: nothing is overwritten.

    Args:
        returned: what came back.
        labelled: before.
        new_classes_parameter: the name of the parameter that admits a class.
    """
    taken, usable = Taken(), []
    for each in returned:
        if each.problem == NO_LABEL:
            taken.unlabelled += 1
            continue
        sha256 = each.sha256 if each.path is None else _sha256(each.path)
        is_known = each.path is None and sha256 in labelled.images  # its file is not needed
        reason = "" if is_known and each.problem.startswith(NOT_FOUND) else each.problem
        reason = reason or _problem(each, sha256, labelled, new_classes_parameter)
        if reason:
            taken.conflict(each, reason)
        else:
            usable.append((each, sha256))
    given: dict[str, list[str]] = {}
    for each, sha256 in usable:
        given.setdefault(sha256, []).append(each.label)
    placed: set[tuple[str, str]] = set()
    for each, sha256 in usable:
        in_doubt = each.image_id if each.image_id in labelled.images.get(sha256, {}) else ""
        if len(names := sorted(set(given[sha256]))) > 1:
            taken.conflict(each, f"has several labels in this hand-over: {', '.join(names)}")
        elif (sha256, in_doubt) in placed:
            taken.same += 1
        else:
            placed.add((sha256, in_doubt))
            _place(each, sha256, in_doubt, labelled, taken)
    return taken


def _problem(each: Returned, sha256: str, labelled: Labelled, parameter: str) -> str:
    """Return why a label cannot be used, whatever the photograph has; empty if it can."""
    if each.sha256 and each.sha256 != sha256:
        return "the file is another one now than was handed over"
    if labelled.classes is not None and each.label not in labelled.classes:
        hint = did_you_mean(each.label, labelled.classes)
        return f"no class is called {each.label!r}{hint}: {parameter} admits it as a new one"
    return ""


def _place(each: Returned, sha256: str, in_doubt: str, labelled: Labelled, taken: Taken) -> None:
    """Put a label where it belongs. `in_doubt`: the id of the photograph of the run whose label it is; or empty."""
    images = labelled.images.get(sha256, {})
    before = [images[in_doubt]] if in_doubt else sorted(set(images.values()))
    before = before or [name for name in [labelled.added.get(sha256)] if name]
    if in_doubt and in_doubt not in labelled.judged:
        kind = taken.confirmed if before == [each.label] else taken.corrected
        kind.append((in_doubt, sha256, before[0], each.label))
    elif before == [each.label]:
        taken.same += 1
    elif not before and not _is_utf8(str(each.path)):
        taken.conflict(each, "its name is not UTF-8, and no table can hold it: rename the file")
    elif not before:
        taken.added.append((each.path, each.label, sha256))
    else:
        judged = ", as a person has judged" if in_doubt else ""
        taken.conflict(each, f"is labelled {' and '.join(map(repr, before))} already{judged}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sha256(path: Path) -> str:
    try:
        return hashes.sha256(path)
    except OSError as error:
        raise ThawError(f"{path} cannot be read: {error.strerror}") from None


def write(taken: Taken, table: Path, corrections: Path, project: Path, source: str) -> None:
    """Append what was taken to the two tables.

    Args:
        taken: what was decided.
        table: the table of photographs that had no label.
        corrections: the table of labels that were corrected or confirmed.
        project: the folder within which paths are relative.
        source: where the labels came from, for the record.
    """
    rows = [(written_path(path, table, project), label, sha256) for path, label, sha256 in taken.added]
    append(table, ADDED_COLUMNS, rows)
    changes = sorted([*taken.corrected, *taken.confirmed])
    append(corrections, CORRECTION_COLUMNS, [(*change, source) for change in changes])


def append(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Append rows to a table in CSV, which is made if there is none. Its own columns and rows stay as they are.

    The rows are separated as a spreadsheet has saved the others. Raises ThawError if it is a table of another kind.
    """
    rows = list(rows)
    if not rows:
        return
    if path.suffix.lower() not in CSV:
        raise ThawError(f"{path} is no CSV by its ending, and nothing else is appended to: name a table in CSV")
    text = io.StringIO(newline="")
    before, header = "", list(columns)
    if path.exists():
        before = path.read_bytes().decode(**ENCODING)
        table = table_reading.read(path, str(path))
        header = list(table.columns)
        if "" in header[:-1]:  # several such columns are one there
            raise ThawError(f"{path} has a column without a name: name it, then rows can be appended")
        if absent := [column for column in columns if column not in header]:
            raise ThawError(f"{path} has no column {absent[0]!r}: it is not a table of `take`: name another one")
        before += "" if before.endswith("\n") else "\n"
    delimiter = table_reading.delimiter(before) if before else CSV[path.suffix.lower()]
    write_row = row_writer(text, delimiter)
    if not before:
        write_row(header)
    for row in rows:
        values = dict(zip(columns, row, strict=True))
        write_row([values.get(name, "") for name in header])
    with atomic_edit(path) as temporary:
        temporary.write_bytes((before + text.getvalue()).encode(**ENCODING))


def write_conflicts(path: Path, conflicts: Sequence[Sequence[str]]) -> None:
    """Write the conflicts of the last hand-over, or remove the table of the one before if there are none.

    Raises ThawError if the file is something else.
    """
    if path.exists() and _columns(path) != CONFLICT_COLUMNS:
        raise ThawError(f"{path} is no list of conflicts of an earlier `take`, which it would replace: rename it")
    if not conflicts:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as temporary, temporary.open("w", newline="", **ENCODING) as file:
        write_row = row_writer(file)
        for row in (CONFLICT_COLUMNS, *conflicts):
            write_row(row)


def _columns(path: Path) -> tuple[str, ...]:
    """Return the columns of a table as a spreadsheet may have saved it; what stands in its rows may be no UTF-8."""
    first = path.read_bytes().decode(**ENCODING).removeprefix("\ufeff").partition("\n")[0]
    return tuple(next(csv.reader([first], delimiter=table_reading.delimiter(first)), ()))


def written_path(path: Path, table: Path, project: Path) -> str:
    """Return how a table names a photograph: relative to its folder, if both are in the project; else in full."""
    if project in path.parents and project in table.parents:
        return Path(os.path.relpath(path, table.parent)).as_posix()
    return str(path)


def read_added(path: Path, classes: Collection[str] = ()) -> dict[str, tuple[str, str]]:
    """Return SHA-256 → (path as it is written, label) of the rows of a table, if it is there.

    A row without a whole hash gets that of its file, as far as that is there. `classes`: see `added.read`; while there
    are none, labels stay as they are written.
    """
    if not path.exists():
        return {}
    rows = {}
    for row, sha256 in added.read(path, classes or None).rows:
        sha256 = sha256 if added.SHA256.fullmatch(sha256) else _sha256(row.path) if row.path.is_file() else ""
        if sha256 and row.label:
            rows[sha256] = (row.given_path, row.label)
    return rows
