"""Photographs of one's own: one folder per class, or folders `train`, `validation`, `test` with such folders."""

import errno
from collections.abc import Iterator
from pathlib import Path

from thaw.core.errors import ThawError
from thaw.core.files import expand_home
from thaw.core.section import Section
from thaw.sources.base import DatasetInfo, Listing, Source, SourceImage, is_one_line
from thaw.sources.own_files import SUBSETS, image_id, is_folder, printable, raise_if_lost, with_unique_ids

NO_IMAGE = "not an image by its ending"


class Folder(Section):
    path: str | None


def find(params: Folder) -> Listing:
    """List the photographs below `params.path`. A folder is a class; folders within it belong to the same class.

    If every folder has the name of a subset (`SUBSETS`: `train`, `validation`, `test` and their other names), the
    classes are the folders within them, and the column `meta_subset` has the subset. Files without the ending of an
    image are left out with that reason. Hidden files and folders are ignored, and a folder without any photograph is
    not a class.

    Raises ThawError if the folder is missing or cannot be read, has fewer than two classes or a class whose name
    cannot be printed, or has links that lead back to a folder that they are in; UnreachableError if the disk or share
    with the folder fails.
    """
    root = expand_home(params.path, "download.folder.path")
    if not is_folder(root):
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
    info = DatasetInfo("folder", license="", citation="", classes=classes)
    return Listing(info, with_unique_ids(images), seen=True)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in _entries(folder) if _is_folder(path))


def _files(folder: Path, parents: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files below a folder. Links to folders are followed; `parents` are the real paths of those above."""
    real = folder.resolve()
    if real in parents or any(real in parent.parents for parent in parents):
        raise ThawError(f"{printable(folder)} is a link to a folder that it lies in: remove the link")
    for path in _entries(folder):
        if _is_folder(path):
            yield from _files(path, (*parents, real))
        else:
            yield path


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise_if_lost(error, folder)
        raise ThawError(f"{printable(folder)} cannot be read: {error.strerror}") from None


def _is_folder(path: Path) -> bool:
    try:
        return path.resolve(strict=True).is_dir()
    except FileNotFoundError:  # a broken link counts as a file, which is left out with that reason
        return False
    except (RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:  # up to Python 3.12; from 3.13 on
            raise ThawError(f"{printable(path)} is a link that leads back to itself: remove it") from None
        raise_if_lost(error, path)
        raise ThawError(f"{printable(path)} cannot be read: {error.strerror}") from None


def _check_name(folder: Path) -> None:
    if printable(folder.name) != folder.name:
        raise ThawError(f"the name of the folder {printable(folder)} is not UTF-8: it cannot name a class")
    if not is_one_line(folder.name):
        raise ThawError(f"the name of the folder {str(folder)!r} cannot be printed on one line: it cannot name a class")


def _source_image(path: Path, root: Path, label: str, meta: dict[str, str]) -> SourceImage:
    from thaw.images.decoding import IMAGE_ENDINGS

    relative = path.relative_to(root)
    left_out = "" if path.suffix.lower() in IMAGE_ENDINGS else NO_IMAGE
    return SourceImage(image_id(relative.as_posix(), 8), path, label, file=str(relative), left_out=left_out, meta=meta)


SOURCE = Source("folder", Folder, find, required={"path": "a folder"})
