"""Which folder is probably meant, where the one that a person named is no folder with a folder for each class."""

import difflib
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from thaw.core.encodings import printable, shown
from thaw.sources import formats
from thaw.sources.class_names import listed
from thaw.sources.layout import Folder, tables_in
from thaw.sources.leftovers import is_leftover
from thaw.sources.own_files import subset_of
from thaw.sources.table_reading import READERS

MAX_OPENED = 50  # files of a folder, to see whether it holds a photograph
MAX_SIMILAR = 3  # names in a question


def instead_of(tree: Folder) -> str:
    """Return what is probably meant instead of a folder without two classes, as the end of an error message."""
    if question := tables_in(tree):
        return question
    inner = tree.inner
    if inner is not tree and len(inner.parts) > 1:
        return f"; did you mean {printable(inner.path)}, which has {len(inner.parts):,} folders?"
    loose = sum(file.kind.is_picture for file in inner.files)
    if tree.has_loose_pictures and (outer := _outer(tree.path)):
        return f"; did you mean {printable(outer)}, which has {len(_folders(outer)):,} folders?"
    if loose:
        them = f"{loose:,} photographs in {inner.shown} need" if loose > 1 else f"photograph in {inner.shown} needs"
        return f"; the {them} a folder for each class, or a table with their labels"
    return ""


def similar(path: Path) -> str:
    """Return a question with the most similar names that exist beside the first part of a path that does not."""
    missing = next((part for part in (path, *path.parents) if part.parent.is_dir()), path)
    try:
        names = sorted(entry.name for entry in missing.parent.iterdir() if entry != missing)
    except OSError:
        return ""
    same = difflib.get_close_matches(missing.name, names, n=MAX_SIMILAR, cutoff=0.6)
    found = [printable(missing.parent / name / path.relative_to(missing)) for name in same]
    return f" (did you mean {', '.join(found)}?)" if found else ""


def unused_subsets(folder: Path) -> list[str]:
    """Return a note about the rest of a split, if `folder` is named after one part of it."""
    if not subset_of(folder.name)[0]:
        return []
    try:
        return _rest_of_split(folder, _folders(folder.parent), "name the folder of all for that split")
    except OSError:
        return []


def unused_tables(table: Path) -> list[str]:
    """Return a note about the rest of a split, if a table such as `train.csv` is named after one part of it."""
    if not subset_of(table.stem)[0]:
        return []
    try:
        others = [path for path in _files(table.parent) if path.suffix.lower() in READERS]
    except OSError:
        return []
    return _rest_of_split(table, others, "one table with the column split keeps a split")


def _rest_of_split(part: Path, others: Iterable[Path], remedy: str) -> list[str]:
    """Return a note that names those of the others that are called as `part`, but for another subset."""
    own, kind = subset_of(part.stem)
    meant = {path.name: subset_of(path.stem) for path in others if path != part}
    if rest := sorted(name for name, (subset, rest) in meant.items() if subset not in ("", own) and rest == kind):
        names, verb = listed([shown(name) for name in rest]), "are" if rest[1:] else "is"
        return [f"{names} beside {shown(part.name)} {verb} not used: {remedy}"]
    return []


def holds_photograph(folder: Path) -> bool:
    """Return whether there is a picture among the first files of a folder, or of a folder in it."""
    try:
        folders = [folder, *islice(_folders(folder), MAX_OPENED)]
        return any(_is_picture(path) for inside in folders for path in islice(_files(inside), MAX_OPENED))
    except OSError:
        return False


def _outer(folder: Path) -> Path | None:
    """Return the folder around a class, or around the split that the class is in; None if its folders are no classes.

    They are if each holds photographs, and if none lies beside them.
    """
    parent = folder.parent
    try:
        folders = [inside for inside in _folders(parent) if any(_files(inside))]
        if len(folders) < 2 or any(_is_picture(path) for path in islice(_files(parent), MAX_OPENED)):
            return None
        if all(subset_of(inside.name)[0] for inside in folders):  # a split without a folder for each class
            return None
        if not all(any(_is_picture(path) for path in islice(_files(inside), MAX_OPENED)) for inside in folders):
            return None
        return parent.parent if unused_subsets(parent) else parent
    except OSError:
        return None


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if entry.is_dir() and not is_leftover(entry.name, True))


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file() and not is_leftover(entry.name, is_folder=False):
                yield folder / entry.name


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() not in formats.ENDINGS:  # a folder such as `/` holds files that are better not opened
        return False
    try:
        kind = formats.kind(path)
    except OSError:
        return False
    return kind.is_picture and not kind.problem
