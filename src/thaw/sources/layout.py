"""Which folders are classes, which are the splits of a person, and which are neither."""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from thaw.core.encodings import printable, shown
from thaw.core.errors import ThawError
from thaw.core.words import listed
from thaw.sources.formats import Kind
from thaw.sources.own_files import (
    PLAIN_SUBSETS,
    is_beside,
    is_labelled,
    is_unlabelled,
    names_no_class,
    names_pictures,
    subset_of,
)
from thaw.sources.table_reading import READERS

OF_MASK = re.compile(r"(.+?)[ _-]*(masks?|labels?|seg|segmentation|gt|groundtruth)([ _-]*\d+)?", re.IGNORECASE)
MAX_FOLDERS = 3  # in a class, that a message names
IN_NO_CLASS = "in no folder of a class"
UNLABELLED = "in a folder of photographs without a label"


@dataclass
class File:
    path: Path
    relative: str  # to the folder of the photographs
    kind: Kind


@dataclass(eq=False)
class Folder:
    """A folder as it was listed: what lies in it, sorted by name, without leftovers."""

    path: Path
    files: list[File] = field(default_factory=list)
    folders: list["Folder"] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def shown(self) -> str:
        """Its name, for messages."""
        return shown(self.name)

    @cached_property
    def has_pictures(self) -> bool:
        return self.has_loose_pictures or any(folder.has_pictures for folder in self.folders)

    @cached_property
    def has_photographs(self) -> bool:
        """Whether there is a picture below it that is no class's if the folder is none."""
        usable = any(not file.kind.problem or file.kind.is_broken for file in self.files)
        return usable or any(folder.has_photographs for folder in self.folders)

    @property
    def has_loose_pictures(self) -> bool:
        return any(file.kind.is_picture for file in self.files)

    @property
    def parts(self) -> list["Folder"]:
        """The folders in it with pictures below them."""
        return [folder for folder in self.folders if folder.has_pictures]

    @property
    def tables(self) -> list[Path]:
        return [file.path for file in self.files if file.path.suffix.lower() in READERS]

    @property
    def inner(self) -> "Folder":
        """The first folder, it or in it, that has pictures, or several folders with pictures below them."""
        folder = self
        while len(folder.parts) == 1 and not folder.has_loose_pictures:
            (folder,) = folder.parts
        return folder

    def all_files(self) -> Iterator[File]:
        """Yield the files at any depth, sorted by their paths' parts."""
        for entry in sorted([*self.files, *self.folders], key=lambda entry: entry.path.name):
            if isinstance(entry, Folder):
                yield from entry.all_files()
            else:
                yield entry


@dataclass
class Layout:
    """What the folders mean.

    Attributes:
        classes: each folder of a class with the name of its class and its subset; the subset is empty without a split.
        outside: files that belong to no class, each with the reason.
        split: the names of the folders that are splits.
        notes, warnings: as in `Listing`.
    """

    classes: list[tuple[Folder, str, str]] = field(default_factory=list)
    outside: list[tuple[File, str]] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def has_split(self) -> bool:
        return any(subset for _, _, subset in self.classes)


def read(root: Folder, what: str) -> Layout:
    """Return what the folders in `root` mean; errors call it `what`.

    - Folders that are all named after a split (`train`, `val`, `dev`, `Training`, `01_test`, …), of which one holds
      folders, are a split, and the folders in them classes.
    - Folders that hold nothing but folders named after a split are classes, and those the split.
    - Otherwise each folder is a class.

    A folder for photographs without a label (`unlabelled`, `unsup`) is no class, unless `labelled` is one beside it.

    Raises ThawError where folders of a split have others beside them, so that either may be meant.
    """
    layout = Layout()
    split = _split(root, layout, what)
    _check_labelled(root, what)
    if split:
        layout.split = [folder.shown for folder in split]
        layout.outside += [(file, IN_NO_CLASS) for file in root.files]
        for folder in root.folders:
            if folder not in split:
                layout.outside += [(file, _no_class(folder)) for file in folder.all_files()]
        for folder, subset in split.items():
            inner = _unwrapped(folder)
            if inner is not folder:
                files = (file for file in folder.all_files() if inner.path not in file.path.parents)
                layout.outside += [(file, IN_NO_CLASS) for file in files]
            _add_classes(inner, subset, layout)
    elif inner := _split_of_each_class(root):
        layout.outside += [(file, IN_NO_CLASS) for file in root.files]
        for folder in root.folders:
            layout.outside += [(file, IN_NO_CLASS) for file in folder.files]
            layout.classes += [(part, folder.name, inner.get(part.name, "")) for part in folder.folders]
        layout.notes.append(f"the split is that of the folders in each class: {listed(sorted(map(shown, inner)))}")
        layout.warnings += _same_in_each(root, [part for folder in root.parts for part in folder.parts])
    else:
        _add_classes(root, "", layout)
        layout.warnings += _unused_split(root) or _split_in_names(root, what) or _equal_folders(root, what)
    _check_names(layout, root, what)
    if not layout.warnings:  # else they name these folders
        layout.warnings += _folders_in_classes(layout)
    layout.warnings += _masks(layout)
    return layout


def _check_names(layout: Layout, root: Folder, what: str) -> None:
    """Warn of folders that name no class, such as `images` and `masks`, or parts of a collection.

    Raises ThawError if none of the folders names a class; of parts, if a table beside them may have the labels.
    """
    classes = sorted({name for folder, name, _ in layout.classes if folder.has_pictures})
    names, all_names = listed([shown(name) for name in classes if names_no_class(name)]), listed([*map(shown, classes)])
    count, tables = sum(map(names_no_class, classes)), tables_in(root)
    of_numbers = {re.sub(r"\d+", "", name) for name in classes}
    # As collection_images_1 and collection_images_2.
    are_parts = len(classes) > 1 and len(of_numbers) == 1 and names_pictures(*of_numbers)
    if not layout.warnings and (count == len(classes) > 1 or (are_parts and tables)):
        raise ThawError(
            f"{what}: none of {all_names} names a class: the photographs need a folder for each class, or a table with "
            f"their labels{tables}; rename these folders if they are classes"
        )
    if are_parts or count > 1:
        layout.warnings.append(f"{all_names if are_parts else names} count as classes: is this what photographs show?")


def tables_in(folder: Folder) -> str:
    """Return the question whether a table in a folder has the labels, as the end of a message; empty without one."""
    found = [path for path in folder.tables if subset_of(path.stem)[0] != "test"]
    found = [path for path in found if "submission" not in path.name.lower()]
    names = listed([printable(path) for path in found])
    return f"; is {'one of ' if found[1:] else ''}{names} the table with their labels?" if found else ""


def _folders_in_classes(layout: Layout) -> list[str]:
    """Return a warning that names the folders in folders of classes."""
    inside: dict[str, set[str]] = {}
    for folder, name, _ in layout.classes:
        if len(parts := folder.inner.parts) > 1:
            inside.setdefault(name, set()).update(part.shown for part in parts)
    if not inside:
        return []
    (name, parts), *others = inside.items()
    named = f"{shown(name)} ({', '.join(sorted(parts)[:MAX_FOLDERS])}{', …' if len(parts) > MAX_FOLDERS else ''})"
    more = f" and {len(others):,} more" if others else ""
    return [
        f"folders in the folder of a class belong to that class: {named}{more}. If they are the classes, put them "
        "beside one another; if each is a patient, place or day, a table with the column group keeps it in one split"
    ]


def _masks(layout: Layout) -> list[str]:
    """Return warnings that count the pictures which seem to be masks of others."""
    of_files, of_folders = [], []
    for folder, _, _ in layout.classes:
        waiting = [folder]
        while waiting:
            room = waiting.pop()
            waiting += room.folders
            pictures = [file for file in room.files if file.kind.is_picture]
            stems = {file.path.stem.casefold() for file in pictures}
            found = ((file, OF_MASK.fullmatch(file.path.stem)) for file in pictures)
            of_files += [file for file, mask in found if mask and mask[1].casefold() in stems]
            beside = [part for part in room.parts if is_beside(part.name)]
            if len(beside) < len(room.parts):
                of_folders += beside
    warnings, remedy = [], "If they are masks, move them away"
    if of_files:
        example = shown(min(file.relative for file in of_files))
        count = f"{len(of_files):,}. {remedy}"
        warnings.append(f"pictures with the name of another one and a word, such as {example}: {count}")
    if of_folders:
        names = listed(sorted({folder.shown for folder in of_folders}))
        count = sum(file.kind.is_picture for folder in of_folders for file in folder.all_files())
        warnings.append(f"pictures in folders of classes called {names}, which count, too: {count:,}. {remedy}")
    return warnings


def _split(root: Folder, layout: Layout, what: str) -> dict[Folder, str]:
    """Return the folders of a split with their subsets; empty if there is none."""
    named = {folder: subset_of(folder.name) for folder in root.parts}
    subsets = {folder: subset for folder, (subset, prefix) in named.items() if subset and not prefix}
    if not subsets:
        subsets = _prefixed(named)
    nested = [folder for folder in subsets if _unwrapped(folder).parts]
    _check_no_split_inside(nested, root, what)
    others = [folder for folder in root.parts if folder not in subsets and folder.has_photographs]
    others = [folder for folder in others if not is_unlabelled(folder.name, split=True)]
    if not nested and others:
        if subsets:
            layout.warnings.append(_count_as_classes(subsets, others))
        return {}
    if others:
        inside = {part.name for folder in nested for part in _unwrapped(folder).parts}
        if len(set(subsets.values())) < 2 and not inside & {folder.name for folder in others}:
            layout.warnings.append(_count_as_classes(subsets, others))
            return {}
        names, beside = listed([folder.shown for folder in subsets]), listed([folder.shown for folder in others])
        look, them = ("look", "them") if len(subsets) > 1 else ("looks", "it")
        raise ThawError(
            f"{what} holds {names}, which {look} like a split, and photographs in {beside} beside {them}: move what is "
            "no part of the split out of the folder"
        )
    _check_subsets(subsets, what)
    counts = Counter(subsets.values())
    told = [folder for folder in subsets if folder.name.lower() not in PLAIN_SUBSETS or counts[subsets[folder]] > 1]
    if told:
        meant = [f"{folder.shown} as {subsets[folder]}" for folder in told]
        layout.notes.append(f"folders that count as a split: {listed(meant)}")
    return subsets


def _check_no_split_inside(nested: list[Folder], root: Folder, what: str) -> None:
    """Raise ThawError if a folder of a split holds the folders of a split: which one is meant, nobody can tell."""
    for folder in nested:
        inner = _unwrapped(folder).parts
        named = [subset_of(part.name) for part in inner]
        if len({subset for subset, _ in named}) > 1 and all(subset and not rest for subset, rest in named):
            remedy = "name that folder" if len(root.parts) == 1 else "put all folders of the split beside one another"
            names = listed([part.shown for part in inner])
            raise ThawError(f"{what}: {folder.shown} holds the folders of a split, {names}: {remedy}")


def _prefixed(named: dict[Folder, tuple[str, str]]) -> dict[Folder, str]:
    """Return folders such as `seg_train` and `seg_test`: of one prefix, and with the same folders in them."""
    found = {folder: subset for folder, (subset, prefix) in named.items() if subset and prefix}
    prefixes = {named[folder][1] for folder in found}
    inside = [{part.name for part in _unwrapped(folder).parts} for folder in found]
    is_split = len(prefixes) == 1 and len(set(found.values())) > 1 and len(set.intersection(*inside)) > 1
    return found if is_split else {}


def _check_subsets(subsets: dict[Folder, str], what: str) -> None:
    """Raise ThawError if `eval` and `val` are both there: one of them may be the test set."""
    held_out = [folder.name for folder, subset in subsets.items() if subset == "validation"]
    evaluated = [name for name in held_out if "eval" in name.lower()]
    if evaluated and len(held_out) > 1:
        other = next(name for name in held_out if name != evaluated[0])
        raise ThawError(f"{what}: {evaluated[0]} and {other} both mean validation: call the one for testing test")


def _count_as_classes(subsets: Collection[Folder], others: list[Folder]) -> str:
    names = listed([folder.shown for folder in subsets])
    beside = ", ".join(folder.shown for folder in others[:3])
    if len(subsets) == 1:
        return f"{names} counts as a class, not as a split, because of {beside} beside it"
    return f"{names} count as classes, not as splits, because of {beside} beside them"


def _unwrapped(folder: Folder) -> Folder:
    """Return the folder in which the classes lie: archives often unpack to `train/train`."""
    while len(folder.parts) == 1 and not folder.has_loose_pictures:
        (inner,) = folder.parts
        if inner.name != folder.name and subset_of(inner.name)[0] != subset_of(folder.name)[0]:
            break
        folder = inner
    return folder


def _add_classes(room: Folder, subset: str, layout: Layout) -> None:
    layout.outside += [(file, IN_NO_CLASS) for file in room.files]
    has_labelled = any(is_labelled(folder.name) for folder in room.parts)
    for folder in room.folders:
        if not has_labelled and is_unlabelled(folder.name):
            layout.outside += [(file, UNLABELLED) for file in folder.all_files()]
        else:
            layout.classes.append((folder, folder.name, subset))


def _check_labelled(root: Folder, what: str) -> None:
    """Raise ThawError if the classes lie in a folder `labelled` beside one of photographs without a label."""
    if any(is_unlabelled(folder.name) for folder in root.parts):
        for folder in root.parts:
            if is_labelled(folder.name) and len(folder.parts) > 1 and not folder.has_loose_pictures:
                raise ThawError(f"{what}: the classes seem to lie in {folder.shown}: name that folder")


def _split_of_each_class(root: Folder) -> dict[str, str]:
    """Return the subsets of the folders in the classes, if all of these hold the same split; else an empty result."""
    found: dict[str, str] = {}
    for folder in root.parts:
        if folder.has_loose_pictures:
            return {}
        for part in folder.parts:
            subset, prefix = subset_of(part.name)
            if not subset or prefix:
                return {}
            found[part.name] = subset
    return found if len(root.parts) > 1 and len(set(found.values())) > 1 else {}


def _equal_folders(root: Folder, what: str) -> list[str]:
    """Return a warning if every folder holds the same folders: these may be what the person means by classes.

    Likewise, if a folder holds folders of the other classes, as where an archive was unpacked twice. Raises ThawError
    if the folders look like a split, or if one holds all others again.
    """
    if same := _same_in_each(root, root.parts):
        if _may_be_split(root):
            names = listed([folder.shown for folder in root.parts])
            raise ThawError(
                f"{what}: {names} hold the same folders and look like a split: call them train, validation and test, "
                "or rename them if they are classes"
            )
        return same
    inside = {folder: {part.name for part in folder.parts} for folder in root.parts}
    classes = {folder.name for folder in root.parts}
    again = {folder: sorted(names & classes - {folder.name}) for folder, names in inside.items()}
    twice = [folder for folder, names in again.items() if len(names) > 1 and {*names} == classes - {folder.name}]
    if twice and twice[0].name == root.name:
        raise ThawError(
            f"{what}: {twice[0].shown} holds the folders of all other classes again: move it out of the folder, or "
            "name it alone"
        )
    return [
        f"{folder.shown} counts as a class, although it holds folders of others: {listed([*map(shown, names)])}"
        for folder, names in again.items()
        if len(names) > 1
    ]


def _may_be_split(root: Folder) -> bool:
    """Return whether the names are those of a split and what it is of, such as `rps` and `rps-test-set`."""
    meant = [subset_of(folder.name) for folder in root.parts]
    return any(subset for subset, _ in meant) and (
        all(subset for subset, _ in meant) or len({rest for _, rest in meant if rest}) == 1
    )


def _same_in_each(root: Folder, rooms: list[Folder]) -> list[str]:
    """Return a warning that names the classes if each of these folders, they or in them, holds the same folders."""
    inside = [{part.name for part in room.inner.parts} for room in rooms]
    common = set.intersection(*inside) if len(inside) > 1 else set()
    if len(common) < 2:
        return []
    names, within = listed([folder.shown for folder in root.parts]), listed(sorted(map(shown, common)))
    return [
        f"{names} are the classes, although each holds the same folders: {within}. If these are the classes, name one "
        "of the folders; a table can give the class and the group of each photograph"
    ]


def _split_in_names(root: Folder, what: str) -> list[str]:
    """Return a warning if folders such as `train_cats` and `test_cats` are classes, or lie in one.

    Raises ThawError if all folders are such, of two classes or more.
    """
    found = []
    for room in (root, *root.parts):
        by_rest: dict[str, dict[str, Folder]] = {}
        for folder in room.parts:
            subset, rest = subset_of(folder.name)
            if subset and rest:
                by_rest.setdefault(rest, {}).setdefault(subset, folder)
        found += [folder for subsets in by_rest.values() if len(subsets) > 1 for folder in subsets.values()]
    if not found:
        return []
    names = listed([folder.shown for folder in found])
    said = f"{names} are no split: the folders of one are called train, validation and test, and hold the classes"
    rests = {subset_of(folder.name)[1] for folder in root.parts}
    if all(subset_of(folder.name)[0] for folder in root.parts) and ("" not in rests) and len(rests) > 1:
        raise ThawError(f"{what}: {said}; rename them if they are classes")
    return [said]


def _unused_split(root: Folder) -> list[str]:
    """Return a warning if classes hold folders of a split, which is used only where all hold nothing else."""
    meant = {name: subset_of(name) for name in {part.name for folder in root.parts for part in folder.parts}}
    subsets = {name: subset for name, (subset, rest) in meant.items() if subset and not rest}
    hold_nothing_else = all(folder.parts and not folder.has_loose_pictures for folder in root.parts)
    if hold_nothing_else and len(subsets) == len(meant) and len(set(subsets.values())) == 1:
        names, inside = listed([folder.shown for folder in root.parts]), listed(sorted(map(shown, subsets)))
        return [f"{names} are the classes, although they hold nothing but {inside}: is it a split, or one of several?"]
    if len(set(subsets.values())) < 2:
        return []
    return [
        f"{listed(sorted(map(shown, subsets)))} in the classes are no split, as some classes hold other photographs"
    ]


def _no_class(folder: Folder) -> str:
    return UNLABELLED if is_unlabelled(folder.name, split=True) else IN_NO_CLASS
