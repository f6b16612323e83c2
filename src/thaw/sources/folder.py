"""Photographs of one's own: one folder a class, or `train`, `validation`, `test` folders of such."""

import errno
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from thaw.errors import ThawError
from thaw.files import below_home
from thaw.images import IMAGE_ENDINGS
from thaw.params import Folder
from thaw.sources.photographs import Photograph, Source, is_one_line

SUBSETS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
NO_IMAGE = "not an image by its ending"


def find(params: Folder) -> tuple[Source, list[Photograph]]:
    """List the photographs below `params.path`: a class is a folder, what lies deeper in it belongs to it.

    Where every folder is named `train`, `validation` (`val`, `valid`) or `test`, the classes are theirs and the
    column `meta_subset` keeps which. Files that are no image by their ending are left out with that reason; hidden
    files and folders are passed over, and a folder without any photograph is no class. Raises ThawError where the
    folder is missing or cannot be read, holds fewer than two classes, or links lead round in a circle.
    """
    root = below_home(params.path, "download.folder.path")
    if not root.is_dir():
        raise ThawError(f"download.folder.path {params.path} is not a folder")
    subsets = _folders(root)
    if not subsets or not all(folder.name.lower() in SUBSETS for folder in subsets):
        subsets = [root]
    photographs = []
    for subset in subsets:
        meta = {} if subset == root else {"subset": SUBSETS[subset.name.lower()]}
        for folder in _folders(subset):
            _check_name(folder)
            photographs += [_photograph(path, root, folder.name, meta) for path in sorted(_files(folder))]
    classes = tuple(sorted({p.label for p in photographs if not p.left_out}))
    if len(classes) < 2:
        found = f"one class, {classes[0]!r}" if classes else "no photograph in a folder of its class"
        raise ThawError(
            f"download.folder.path {params.path} holds {found}: at least two folders of photographs are needed"
        )
    return Source("folder", license="", citation="", classes=classes), _with_ids_of_their_own(photographs, root)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in _entries(folder) if _is_folder(p))


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files below a folder; links to folders are followed."""
    real = folder.resolve()
    if real in above or any(real in parent.parents for parent in above):
        raise ThawError(f"{_printable(folder)} is a link to a folder that it lies in: remove it, the links go round")
    for path in _entries(folder):
        if _is_folder(path):
            yield from _files(path, (*above, real))
        else:
            yield path


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise ThawError(f"{_printable(folder)} cannot be read: {error.strerror}") from None


def _is_folder(path: Path) -> bool:
    try:
        return path.resolve(strict=True).is_dir()
    except FileNotFoundError:  # a link to nothing: the file is left out with that reason
        return False
    except (RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:  # up to Python 3.12, and from 3.13 on
            raise ThawError(f"{_printable(path)} is a link that leads back to itself: remove it") from None
        raise ThawError(f"{_printable(path)} cannot be read: {error.strerror}") from None


def _check_name(folder: Path) -> None:
    if _printable(folder.name) != folder.name:
        raise ThawError(f"the name of the folder {_printable(folder)} is not UTF-8: it cannot name a class")
    if not is_one_line(folder.name):
        raise ThawError(f"the name of the folder {str(folder)!r} cannot be printed on one line: it cannot name a class")


def _photograph(path: Path, root: Path, label: str, meta: dict[str, str]) -> Photograph:
    relative = path.relative_to(root)
    left_out = "" if path.suffix.lower() in IMAGE_ENDINGS else NO_IMAGE
    return Photograph(_image_id(relative, 8), path, label, origin=str(relative), left_out=left_out, meta=meta)


def _with_ids_of_their_own(photographs: list[Photograph], root: Path) -> list[Photograph]:
    """Lengthen the ids of photographs of one name whose hashes begin alike: in a million that does happen."""
    counts = Counter(p.image_id for p in photographs)
    return [
        p if counts[p.image_id] == 1 else replace(p, image_id=_image_id(p.path.relative_to(root), 32))
        for p in photographs
    ]


def _image_id(relative: Path, digits: int) -> str:
    """A readable name that is safe as a file's, unique by the hash of the whole relative path."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", relative.stem)[:60]
    return f"{readable}-{hashlib.sha256(os.fsencode(relative.as_posix())).hexdigest()[:digits]}"


def _printable(path: Path | str) -> str:
    """A path as text that can be printed anywhere: names may hold any bytes."""
    return os.fsencode(path).decode(errors="backslashreplace")
