"""Photographs of one's own: one folder per class, or folders `train`, `validation`, `test` with such folders."""

import errno
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from thaw.core.errors import ThawError
from thaw.core.files import expand_home
from thaw.core.section import Section
from thaw.sources.base import DatasetInfo, Listing, Source, SourceImage, is_one_line

SUBSETS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
NO_IMAGE = "not an image by its ending"


class Folder(Section):
    path: str | None


def find(params: Folder) -> Listing:
    """List the photographs below `params.path`. A folder is a class; folders within it belong to the same class.

    If every folder is named `train`, `validation` (`val`, `valid`) or `test`, the classes are the folders within them,
    and the column `meta_subset` has the subset. Files without the ending of an image are left out with that reason.
    Hidden files and folders are ignored, and a folder without any photograph is not a class.

    Raises ThawError if the folder is missing or cannot be read, has fewer than two classes or a class whose name
    cannot be printed, or has links that lead back to a folder that they are in.
    """
    root = expand_home(params.path, "download.folder.path")
    if not root.is_dir():
        raise ThawError(f"download.folder.path {params.path} is not a folder")
    subsets = _folders(root)
    if not subsets or not all(folder.name.lower() in SUBSETS for folder in subsets):
        subsets = [root]
    images = []
    for subset in subsets:
        meta = {} if subset == root else {"subset": SUBSETS[subset.name.lower()]}
        for folder in _folders(subset):
            _check_name(folder)
            images += [_source_image(path, root, folder.name, meta) for path in sorted(_files(folder))]
    classes = tuple(sorted({image.label for image in images if not image.left_out}))
    if len(classes) < 2:
        content = f"one class, {classes[0]!r}" if classes else "no photograph in a folder of its class"
        raise ThawError(
            f"download.folder.path {params.path} holds {content}: at least two folders of photographs are needed"
        )
    return Listing(DatasetInfo("folder", license="", citation="", classes=classes), _with_unique_ids(images, root))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in _entries(folder) if _is_folder(path))


def _files(folder: Path, parents: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files below a folder. Links to folders are followed; `parents` are the real paths of those above."""
    real = folder.resolve()
    if real in parents or any(real in parent.parents for parent in parents):
        raise ThawError(f"{_printable(folder)} is a link to a folder that it lies in: remove the link")
    for path in _entries(folder):
        if _is_folder(path):
            yield from _files(path, (*parents, real))
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
    except FileNotFoundError:  # a broken link counts as a file, which is left out with that reason
        return False
    except (RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:  # up to Python 3.12; from 3.13 on
            raise ThawError(f"{_printable(path)} is a link that leads back to itself: remove it") from None
        raise ThawError(f"{_printable(path)} cannot be read: {error.strerror}") from None


def _check_name(folder: Path) -> None:
    if _printable(folder.name) != folder.name:
        raise ThawError(f"the name of the folder {_printable(folder)} is not UTF-8: it cannot name a class")
    if not is_one_line(folder.name):
        raise ThawError(f"the name of the folder {str(folder)!r} cannot be printed on one line: it cannot name a class")


def _source_image(path: Path, root: Path, label: str, meta: dict[str, str]) -> SourceImage:
    from thaw.images.decoding import IMAGE_ENDINGS

    relative = path.relative_to(root)
    left_out = "" if path.suffix.lower() in IMAGE_ENDINGS else NO_IMAGE
    return SourceImage(_image_id(relative, 8), path, label, file=str(relative), left_out=left_out, meta=meta)


def _with_unique_ids(images: list[SourceImage], root: Path) -> list[SourceImage]:
    """Lengthen the ids of images with the same name whose hashes start alike, as happens among a million."""
    counts = Counter(image.image_id for image in images)
    return [
        image if counts[image.image_id] == 1 else replace(image, image_id=_image_id(image.path.relative_to(root), 32))
        for image in images
    ]


def _image_id(relative: Path, digits: int) -> str:
    """Return a readable name that is safe as a file name, and unique by the hash of the whole relative path."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", relative.stem)[:60]
    return f"{readable}-{hashlib.sha256(os.fsencode(relative.as_posix())).hexdigest()[:digits]}"


def _printable(path: Path | str) -> str:
    """Return a path as text that can be printed anywhere: names may contain any bytes."""
    return os.fsencode(path).decode(errors="backslashreplace")


SOURCE = Source("folder", Folder, find, required={"path": "a folder"})
