"""What people labelled since: photographs beside those of the source, and labels of the source that were wrong.

Both are tables of a person's own, in CSV: `download.added` has the columns of the source `table`, without a split;
`download.corrections` has a row for each change of a label. `src/label.py take` appends to them.
"""

import filecmp
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from thaw.core import columns
from thaw.core.errors import ThawError, did_you_mean
from thaw.core.hashes import sha256
from thaw.core.paths import named_path, without_parents
from thaw.core.words import listed
from thaw.sources import class_names, table, table_reading
from thaw.sources.base import DatasetInfo, Listing, SourceImage
from thaw.sources.own_files import image_id, with_unique_ids

NAME = columns.ADDED
ADDED, CORRECTIONS, NEW_CLASSES = "download.added", "download.corrections", "download.new_classes"
CORRECTION_COLUMNS = ("image_id", "old", "new")
SHA256 = re.compile(r"[0-9a-f]{64}")  # shorter ones, which name the id alone, are not compared
CORRECTED_WEIGHT = 1.0  # a person has looked at it
ALSO = "also in the source"  # why a photograph is left out


@dataclass(frozen=True)
class Correction:
    """A label that was wrong; or one that a person has confirmed, where both are the same."""

    image_id: str
    old: str
    new: str
    sha256: str = ""  # of the file that was looked at, if it is known


@dataclass(frozen=True)
class Collected:
    """The images of the source and the added ones, as they are to be collected.

    Attributes:
        listing: those of the source, with the classes of all.
        added: those of `download.added`; None if there are none.
        notes: for the line of the stage.
        warnings: likewise, what a person should look at.
    """

    listing: Listing
    added: Listing | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def images(self) -> list[SourceImage]:
        return [*self.listing.images, *(self.added.images if self.added else [])]


def added_path(download: Any) -> Path | None:
    """Return the table that `download.added` names, or None."""
    return without_parents(named_path(download.added, ADDED)) if download.added else None


def corrections_path(download: Any) -> Path | None:
    """Return the table that `download.corrections` names, or None."""
    return without_parents(named_path(download.corrections, CORRECTIONS)) if download.corrections else None


class Rows(NamedTuple):
    """A table of added photographs, as it was read.

    Attributes:
        rows: those with a path, and each one's column `sha256` in small letters, empty if it has none.
        purposes: what a column is for → the column.
        notes: what was read in another way than it is written.
        incomplete: how many rows have no path or no label.
    """

    rows: list[tuple[table.Row, str]]
    purposes: dict[str, str]
    notes: list[str]
    incomplete: int


def read(path: Path, classes: Collection[str] | None = ()) -> Rows:
    """Read a table of added photographs, by the rules of `table.find`, and look where the files are.

    classes: a label that is written as one of these is that one: it is not read as a number. None: no label is.

    Raises ThawError, one line, as `table.find` does.
    """
    name = f"{ADDED} {path}"
    content = table_reading.read(path, name)
    section = table.Table(path=str(path), path_column="path", label_column="label", label_separator=";", unlisted=None)
    purposes = table.find_columns(content, section, name)
    rows = table.read_rows(content, purposes, name)
    for row, written in zip(rows, content.columns[purposes["label"]], strict=True):
        if classes is None or class_names.composed(written) in classes:
            row.label = class_names.composed(written)
    hashes = content.columns.get("sha256") or [""] * len(rows)
    found = [(row, given.lower()) for row, given in zip(rows, hashes, strict=True) if row.given_path]
    notes = table.locate([row for row, _ in found], path.parent)
    return Rows(found, purposes, notes, sum(not (row.given_path and row.label) for row in rows))


def find(path: Path, classes: Collection[str] = ()) -> Listing:
    """List the photographs of a table of added ones; one class is enough. `classes`: see `read`.

    An id is made from the name of the photograph and its column `sha256`, if the table has it: so it stays when the
    photograph is moved.

    Raises ThawError, one line, as `read` does; or if the table has a split, or most files are missing.
    """
    name, (rows, purposes, notes, incomplete) = f"{ADDED} {path}", read(path, classes)
    if "split" in purposes:
        raise ThawError(f"{name}: remove the column {purposes['split']!r}: split.added says where these photographs go")
    complete, named = [row for row, _ in rows if row.label], {id(row): sha256 for row, sha256 in rows}
    table.check_that_most_are_there(complete, path.parent, name)
    current = _current(complete, named)
    notes += [f"{n:,} rows of earlier files of the same name"] if (n := len(complete) - len(current)) else []
    images = [
        replace(
            table.source_image(row, _id(row.file, named[id(row)]), purposes),
            labelled_sha256=named[id(row)] if SHA256.fullmatch(named[id(row)]) else "",
        )
        for row in table.without_repeats(current, name)
    ]
    notes += [f"{incomplete:,} rows of {path.name} without a path or a label"] if incomplete else []
    classes = tuple(sorted({image.label for image in images}))
    return Listing(DatasetInfo(NAME, "", "", classes), with_unique_ids(images), seen=True, notes=tuple(notes))


def _current(rows: Sequence[table.Row], hashes: Mapping[int, str]) -> list[table.Row]:
    """Return the rows without those of an earlier file: of a file that was labelled several times, one counts.

    That is the row of the file which has the name now; the last one, if that file was not labelled.

    hashes: `id` of a row → the hash that it has, or an empty text.
    """
    by_file: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        by_file[row.file].add(hashes[id(row)])
    several = {file for file, of_file in by_file.items() if len(of_file - {""}) > 1}
    fitting = {row.file for row in rows if row.file in several and _has_hash(row.path, hashes[id(row)])}
    last = {row.file: hashes[id(row)] for row in rows}
    return [
        row
        for row in rows
        if row.file not in several
        or (_has_hash(row.path, hashes[id(row)]) if row.file in fitting else hashes[id(row)] == last[row.file])
    ]


def _has_hash(path: Path, expected: str) -> bool:
    try:
        return sha256(path) == expected
    except OSError:  # reading it for the run says why
        return False


def is_here(path: Path) -> bool:
    """Return whether a photograph of a table of added ones is on this machine: Git may have brought the table alone."""
    return any(row.path.exists() for row, _ in read(path).rows)


def read_corrections(path: Path) -> list[Correction]:
    """Return the corrections of a table, in its order. Raises ThawError, one line, if it is no such table."""
    name = f"{CORRECTIONS} {path}"
    content = table_reading.read(path, name)
    for column in CORRECTION_COLUMNS:
        if content.columns.get(column) is None:
            raise ThawError(f"{name} has no column {column!r}{did_you_mean(column, content.columns)}")
    hashes = content.columns.get("sha256") or [""] * len(content.lines)
    rows = zip(*(content.columns[column] for column in CORRECTION_COLUMNS), hashes, content.lines, strict=True)
    corrections = []
    for image, old, new, given, line in rows:
        if not (image and old and new):
            raise ThawError(f"{name}: line {line} needs an image_id, the old label and the new one")
        kept = given.lower() if SHA256.fullmatch(given.lower()) else ""
        corrections.append(Correction(image, class_names.composed(old), class_names.composed(new), kept))
    return corrections


def join(listing: Listing, download: Any) -> Collected:
    """Return the images of a source together with those that `download` adds to them, with corrected labels.

    A photograph that is in the source too, at the same path or with the same bytes, counts once, as the source has it.
    A correction is applied to an image with its old label. One whose image has the new label already needs nothing.

    Args:
        listing: of the source.
        download: the section `download`, which names the two tables.

    Raises:
        ThawError: a table cannot be read, or a label is no class.
    """
    if not (download.added or download.corrections or download.new_classes):
        return Collected(replace(listing, bits=download.bits))
    added = corrected = None
    notes: list[str] = []
    warnings: list[str] = []
    if path := added_path(download):
        added = find(path, {*listing.info.classes, *download.new_classes})
    classes = _all_classes(listing, added, download)
    if path := corrections_path(download):
        corrected = _Corrections(read_corrections(path), set(classes), str(path))
    if added:
        added = _without_those_of_source(listing, added)
        counts = sum(not image.left_out for image in added.images)
        twice = sum(image.left_out.startswith(ALSO) for image in added.images)
        notes += [f"{counts:,} of them added by {ADDED}", *added.notes]
        warnings += [f"{twice:,} photographs of {ADDED} are in the source too, which counts"] if twice else []
    if corrected:
        are_copied = download.bits is None  # else what `images.csv` has the hash of may be written anew
        listing = replace(listing, images=corrected.apply(listing.images, are_copied and listing.read is None))
        added = added and replace(added, images=corrected.apply(added.images, are_copied))
        notes += corrected.notes()
        warnings += corrected.warnings()
    used = {image.label for part in (listing, added) if part for image in part.images if not image.left_out}
    kept = tuple(name for name in classes if name in listing.info.classes or name in used)
    if unused := [name for name in classes if name not in kept]:
        notes.append(f"no photograph of {NEW_CLASSES}: {listed(unused)}")
    listing = replace(listing, info=replace(listing.info, classes=kept), bits=download.bits)
    added = added and replace(added, bits=download.bits)
    return Collected(listing, added, tuple(notes), tuple(warnings))


def _id(file: str, sha256: str) -> str:
    if not sha256:
        return image_id(f"{NAME}/{file}", 8)
    return f"{image_id(file, 8).rpartition('-')[0]}-{sha256[:8]}"


def _all_classes(listing: Listing, added: Listing | None, download: Any) -> tuple[str, ...]:
    """Return the classes of the source, then those of `download.new_classes`, which may have no photograph.

    Raises ThawError if the added photographs have another label.
    """
    classes = tuple(dict.fromkeys([*listing.info.classes, *download.new_classes]))
    class_names.check(classes, NEW_CLASSES)
    for image in added.images if added else []:
        if image.label not in classes:
            raise ThawError(
                f"{ADDED} {download.added} has the label {image.label!r}, which is no class of the photographs"
                f"{did_you_mean(image.label, classes)}: add it to {NEW_CLASSES}, or set {ADDED}: null if these are "
                "photographs of something else"
            )
    return classes


def _without_those_of_source(listing: Listing, added: Listing) -> Listing:
    """Mark added images that are in the source too as left out."""
    by_size: dict[int, list[SourceImage]] = defaultdict(list)
    for image in listing.images:
        if not image.left_out and (size := _size(image.path)) is not None:
            by_size[size].append(image)

    def marked(image: SourceImage) -> SourceImage:
        if image.left_out:
            return image
        for other in by_size.get(_size(image.path), []):
            if image.path.samefile(other.path) or filecmp.cmp(image.path, other.path, shallow=False):
                says = f", as {other.label!r}" if other.label != image.label else ""
                return replace(image, left_out=f"{ALSO}{says}")
        return image

    return replace(added, images=[marked(image) for image in added.images])


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # not downloaded yet, or gone: reading it says why
        return None


@dataclass
class _Corrections:
    """Applies corrections to images, and counts what becomes of them."""

    corrections: Sequence[Correction]
    classes: set[str]
    path: str
    applied: set[str] = field(default_factory=set)  # ids of images
    same: set[str] = field(default_factory=set)
    stale: dict[str, str] = field(default_factory=dict)  # id → the label that the source has
    others: set[str] = field(default_factory=set)  # ids of images whose file is not the one that was looked at
    contradicting: dict[str, Correction] = field(default_factory=dict)  # id → one that another contradicts

    def __post_init__(self):
        for correction in self.corrections:
            if correction.new not in self.classes:
                raise ThawError(
                    f"{CORRECTIONS} {self.path} has the new label {correction.new!r}, which is no class"
                    f"{did_you_mean(correction.new, sorted(self.classes))}: add it to {NEW_CLASSES}"
                )

    def apply(self, images: Iterable[SourceImage], are_copied: bool) -> list[SourceImage]:
        """Return the images with their labels corrected. `are_copied`: their files become the images as they are."""
        by_id: dict[str, list[Correction]] = defaultdict(list)
        for correction in self.corrections:
            if correction.old != correction.new:
                by_id[correction.image_id].append(correction)
        found = []
        for image in images:
            corrections = by_id.get(image.image_id, [])
            fit = [one for one in corrections if not (are_copied and _is_of_another_file(one, image))]
            if len(fit) < len(corrections):
                self.others.add(image.image_id)
            found.append(self._corrected(image, fit) if fit else image)
        return found

    def _corrected(self, image: SourceImage, corrections: Sequence[Correction]) -> SourceImage:
        label = image.label
        for correction in corrections:
            if label == correction.old:
                label = correction.new
            elif label != image.label and label != correction.new:
                self.contradicting[image.image_id] = correction
        if label != image.label:
            self.applied.add(image.image_id)
            return replace(image, label=label, weight=CORRECTED_WEIGHT)
        if label == corrections[-1].new:
            self.same.add(image.image_id)
        else:
            self.stale[image.image_id] = label
        return image

    def notes(self) -> list[str]:
        known = self.applied | self.same | self.stale.keys() | self.others
        absent = {correction.image_id for correction in self.corrections if correction.old != correction.new} - known
        notes = [f"{len(self.applied):,} labels corrected by {CORRECTIONS}"] if self.applied else []
        notes += [f"{len(self.same):,} corrections are in the source already"] if self.same else []
        return notes + ([f"{len(absent):,} corrections of photographs that are not there"] if absent else [])

    def warnings(self) -> list[str]:
        found = []
        if self.stale:
            image, label = min(self.stale.items())
            found.append(
                f"{len(self.stale):,} corrections are not applied, since the source has another label now, such as "
                f"{label!r} of {image}"
            )
        if self.contradicting:
            image, one = min(self.contradicting.items())
            found.append(
                f"{len(self.contradicting):,} photographs have corrections that contradict each other, of which the "
                f"first counts: {image} has one from {one.old!r} to {one.new!r} besides"
            )
        if self.others:
            found.append(
                f"{len(self.others):,} corrections are not applied, since the file is another one now, such as that of "
                f"{min(self.others)}"
            )
        return found


def _is_of_another_file(correction: Correction, image: SourceImage) -> bool:
    return bool(correction.sha256) and image.path.exists() and not _has_hash(image.path, correction.sha256)
