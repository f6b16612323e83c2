"""Photographs of one's own: one folder a class, or `train`, `validation`, `test` folders of such."""

import hashlib
import os
import re
from pathlib import Path

from thaw.errors import ThawError
from thaw.images import IMAGE_ENDINGS
from thaw.params import Folder
from thaw.sources.photographs import Photograph, Source

SUBSETS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


def find(params: Folder) -> tuple[Source, list[Photograph]]:
    """List the photographs below `params.path`: a class is a folder, what lies deeper in it belongs to it.

    Where every folder is named `train`, `validation` (`val`, `valid`) or `test`, the classes are theirs and the
    column `meta_subset` keeps which. Files that are no image by their ending, and hidden ones, are passed over.
    Raises ThawError where the folder is missing, holds fewer than two classes, or names one in no UTF-8.
    """
    root = Path(params.path)
    if not root.is_dir():
        raise ThawError(f"download.folder.path {params.path} is not a folder")
    subsets = _folders(root)
    if not subsets or not all(folder.name.lower() in SUBSETS for folder in subsets):
        subsets = [root]
    photographs = []
    for subset in subsets:
        meta = {} if subset == root else {"subset": SUBSETS[subset.name.lower()]}
        for folder in _folders(subset):
            for path in _images(folder):
                image_id = _image_id(path.relative_to(root))
                photographs.append(Photograph(image_id, path, folder.name, meta=meta))
    classes = tuple(sorted({p.label for p in photographs}))
    if unnamed := [label for label in classes if label.encode(errors="replace").decode() != label]:
        raise ThawError(f"download.folder.path {params.path}: the name of the folder {unnamed[0]!r} is not UTF-8")
    if len(classes) < 2:
        found = f"one class, {classes[0]!r}" if classes else "no photograph in a folder of its class"
        raise ThawError(
            f"download.folder.path {params.path} holds {found}: at least two folders of photographs are needed"
        )
    return Source("folder", license="", citation="", classes=classes), photographs


def _folders(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted; a symbolic link back to one that holds it is none."""
    around = {folder.resolve(), *folder.resolve().parents}
    inside = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(p for p in inside if p.resolve() not in around)


def _images(folder: Path) -> list[Path]:
    """List the image files below a folder, sorted; symbolic links to folders are not followed."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in files
            if Path(name).suffix.lower() in IMAGE_ENDINGS and not name.startswith(".")
        ]
    return sorted(found)


def _image_id(relative: Path) -> str:
    """A readable name that is safe as a file's, unique by the hash of the whole relative path."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", relative.stem)[:60]
    return f"{readable}-{hashlib.sha256(os.fsencode(relative)).hexdigest()[:8]}"
