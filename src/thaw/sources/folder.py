"""Photographs of one's own: one folder per class, or folders `train`, `validation`, `test` with such folders."""

import errno
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from thaw.core.encodings import printable, shown
from thaw.core.errors import ThawError
from thaw.core.paths import named_path
from thaw.core.section import Section
from thaw.core.words import listed, plural
from thaw.sources import class_names, formats, layout, nearby
from thaw.sources.base import DatasetInfo, Listing, Source, SourceImage
from thaw.sources.formats import Kind
from thaw.sources.layout import File
from thaw.sources.leftovers import is_leftover
from thaw.sources.own_files import image_id, is_folder, raise_if_lost, with_unique_ids

NOT_DOWNLOADED = "not downloaded from iCloud"


class Folder(Section):
    path: str | None


def is_here(params: Folder) -> bool:
    """Return whether there is a file in the folder, but for leftovers: Git may have brought `.gitignore` alone."""
    root, errors = named_path(params.path, "download.folder.path"), []
    files = (name for _, _, names in os.walk(root, errors.append, followlinks=True) for name in names)
    return any(not is_leftover(name, is_folder=False) for name in files) or bool(errors)


def find(params: Folder) -> Listing:
    """List the photographs below `params.path`. A folder is a class; folders within it belong to the same class.

    What a file is, its content says (`formats.kind`). Which folders are classes, and which are a split of one's own,
    `layout.read` says; with a split, the column `meta_subset` has the subset. Files that are no photographs, or in no
    class, are left out with that reason. Leftovers of programs, hidden files among them, are counted and named. The
    name of a class is in its composed Unicode form.

    Raises ThawError if the folder is missing or cannot be read; if it has fewer than two classes, a class whose files
    are all left out, two that look the same, or one whose name a terminal cannot show; if folders may be a split or
    classes alike; or if links lead back to a folder that they are in. The error says which folder is probably meant.
    Raises UnreachableError if the disk or share fails.
    """
    what = f"download.folder.path {params.path}"
    root = named_path(params.path, "download.folder.path")
    if not is_folder(root):
        tried = "" if Path(params.path) == root else f" ({printable(root)})"
        raise ThawError(f"{what} is not a folder{tried}{'' if os.path.lexists(root) else nearby.similar(root)}")
    walk = _Walk()
    tree = walk.read(root)
    found = layout.read(tree, what)
    files = _files_of_classes(found)
    images = [image for of_class in files.values() for _, image in of_class]
    images += [_source_image(file, "", {}, reason) for file, reason in [*found.outside, *walk.absent]]
    subsets = {
        label: {image.meta.get("subset", "") for _, image in of_class if not image.left_out}
        for label, of_class in files.items()
    }
    classes = tuple(sorted(label for label, of_class in subsets.items() if of_class))
    _check_every_class(files, classes, what)
    if len(classes) < 2:
        content = _content(classes, found, images)
        hint = nearby.instead_of(tree)
        raise ThawError(f"{what} holds {content}: at least two folders of photographs are needed{hint}")
    warnings = found.warnings + class_names.check(classes, what)
    if found.has_split:
        warnings += class_names.check_subsets({label: subsets[label] for label in classes}, what)
    names = [name for _, name, _ in found.classes if subsets[class_names.composed(name)]]
    notes = [*found.notes, *class_names.composition_notes(names), *_whole_folders(tree, images)]
    notes += [*_other_endings(files), *walk.notes(), *nearby.unused_subsets(root), *_unread_tables(tree)]
    info = DatasetInfo("folder", license="", citation="", classes=classes)
    return Listing(info, with_unique_ids(images), seen=True, notes=tuple(notes), warnings=tuple(warnings))


def _files_of_classes(found: layout.Layout) -> dict[str, list[tuple[File, SourceImage]]]:
    """Return the files of each class, as they were listed and as the source lists them."""
    classes, has_split = defaultdict(list), found.has_split
    for folder, name, subset in found.classes:
        files = list(folder.all_files())
        if any(file.kind.is_picture for file in files):
            _check_name(folder.path if folder.name == name else folder.path.parent)
        label, meta = class_names.composed(name), {"subset": subset} if has_split else {}
        classes[label] += [(file, _source_image(file, label, meta)) for file in files]
    return classes


def _content(classes: tuple[str, ...], found: layout.Layout, images: list[SourceImage]) -> str:
    """Say what is there instead of two classes."""
    content = f"one class, {classes[0]!r}" if classes else "no photograph in a folder of its class"
    unlabelled = sorted({shown(image.path.parent.name) for image in images if image.left_out == layout.UNLABELLED})
    if unlabelled:
        content += f" besides {', '.join(unlabelled)}, which {'name' if unlabelled[1:] else 'names'} no class"
    if found.split and not classes:
        counts, them = ("count", "them") if found.split[1:] else ("counts", "it")
        content += f" ({', '.join(found.split)} {counts} as a split, and need{'' if found.split[1:] else 's'} a folder "
        content += f"for each class in {them})"
    return content


@dataclass
class _Walk:
    """Reads folders, and counts what it passes over."""

    leftovers: list[str] = field(default_factory=list)
    absent: list[tuple[File, str]] = field(default_factory=list)  # photographs that a service has not downloaded

    def read(self, path: Path, relative: str = "", parents: tuple[Path, ...] = ()) -> layout.Folder:
        """Return a folder with all that lies in it. Links to folders are followed.

        Args:
            path: of the folder.
            relative: what is before the names in it: its path in the folder of the photographs, with a `/`.
            parents: the real paths of the folders above.

        Raises:
            ThawError: a link leads back to one of `parents`, or the folder cannot be read.
            UnreachableError: the disk or share fails.
        """
        real = path.resolve()
        if real in parents or any(real in parent.parents for parent in parents):
            raise ThawError(f"{printable(path)} is a link to a folder that it lies in: remove the link")
        folder = layout.Folder(path)
        try:
            with os.scandir(path) as entries:
                entries = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise_if_lost(error, path)
            raise ThawError(f"{printable(path)} cannot be read: {error.strerror}") from None
        for entry in entries:
            inner, name = path / entry.name, relative + entry.name
            if is_leftover(entry.name, _is_dir(entry)):
                if entry.name.endswith(".icloud"):
                    self.absent.append((File(inner, name, Kind("")), NOT_DOWNLOADED))
                else:
                    self.leftovers.append(entry.name)
            elif _is_folder(entry, inner):
                folder.folders.append(self.read(inner, f"{name}/", (*parents, real)))
            else:
                folder.files.append(File(inner, name, _kind(inner)))
        return folder

    def notes(self) -> list[str]:
        counts = Counter(self.leftovers)
        names = [shown(name) + (f" ({count:,} times)" if count > 1 else "") for name, count in counts.most_common()]
        return [f"ignored leftovers: {listed(names)}"] if names else []


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # `_is_folder` says what is wrong with it
        return False


def _is_folder(entry: os.DirEntry, path: Path) -> bool:
    try:
        return entry.is_dir()  # False for a broken link: it counts as a file
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ThawError(f"{printable(path)} is a link that leads back to itself: remove it") from None
        raise_if_lost(error, path)
        raise ThawError(f"{printable(path)} cannot be read: {error.strerror}") from None


def _kind(path: Path) -> Kind:
    try:
        return formats.kind(path)
    except OSError as error:
        raise_if_lost(error, path)
        meant = path.suffix.lower() in formats.ENDINGS
        why = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        return Kind("", why, is_picture=meant, is_broken=meant)


def _check_name(folder: Path) -> None:
    if printable(folder.name) != folder.name:
        raise ThawError(f"the name of the folder {printable(folder)} is not UTF-8: it cannot name a class")
    if fault := class_names.fault(folder.name):
        raise ThawError(f"the name of the folder {str(folder)!r} {fault}: it cannot name a class")


def _source_image(file: File, label: str, meta: dict[str, str], reason: str = "") -> SourceImage:
    """Describe a file. What is an image by its ending alone is kept: it is one that cannot be read, and counts as such.

    `reason`: why a photograph is in no class; what cannot be used is left out as that.
    """
    left_out = "" if file.kind.is_broken else file.kind.problem
    left_out = left_out or reason
    return SourceImage(image_id(file.relative, 8), file.path, label, file=file.relative, left_out=left_out, meta=meta)


def _check_every_class(files: dict[str, list[tuple[File, SourceImage]]], classes: Iterable[str], what: str) -> None:
    """Raise ThawError if all pictures of a class are left out: the class would vanish.

    A folder of nothing but files that are neither pictures nor text, such as arrays, may be a class, too.
    """
    for label in sorted(files.keys() - set(classes)):
        pictures = [image for file, image in files[label] if file.kind.is_picture]
        if not pictures and not any(file.kind.is_text for file, _ in files[label]):
            pictures = [image for _, image in files[label]]
        if pictures:
            (reason, count), *_ = Counter(image.left_out for image in pictures).most_common()
            raise ThawError(
                f"{what}: no file of the class {label!r} can be used: {count:,} of {len(files[label]):,} such as "
                f"{shown(pictures[0].file)} ({reason}); if it is no class, move it out of the folder"
            )


def _whole_folders(tree: layout.Folder, images: list[SourceImage]) -> list[str]:
    """Name the folders of which no file is used, the outermost of each."""
    direct = {image.path.parent for image in images if not image.left_out}
    used = {folder for path in direct for folder in (path, *path.parents)}
    names, empty, waiting = [], [], [tree]
    while waiting:
        for folder in waiting.pop().folders:
            if folder.path in used:
                waiting.append(folder)
                continue
            count = sum(1 for _ in folder.all_files())
            name = shown(str(folder.path.relative_to(tree.path)))
            names += [f"{name} ({plural(count, 'file')})"] if count else []
            empty += [] if count else [name]
    notes = [f"folders left out as a whole: {listed(sorted(names))}"] if names else []
    return notes + ([f"empty folders: {listed(sorted(empty))}"] if empty else [])


def _unread_tables(tree: layout.Folder) -> list[str]:
    """Name the tables beside the folders of the classes: they may have a split, groups, or other labels."""
    names = [shown(path.name) for path in tree.tables]
    them = "one of them" if names[1:] else "it"
    said = f"not read: {listed(names)}; name {them} to use its labels, its split or its groups"
    return [said] if names else []


def _other_endings(files: dict[str, list[tuple[File, SourceImage]]]) -> list[str]:
    """Say how many photographs are of another kind than their ending names."""
    other = [
        file
        for of_class in files.values()
        for file, image in of_class
        if not image.left_out and formats.is_misnamed(file.kind.name, file.path.suffix.lower())
    ]
    if not other:
        return []
    who = f"{len(other):,} photographs have" if other[1:] else "1 photograph has"
    return [f"{who} the ending of another format, such as {shown(other[0].path.name)} ({other[0].kind.name})"]


SOURCE = Source("folder", Folder, find, required={"path": "a folder"}, is_own=True, is_here=is_here)
