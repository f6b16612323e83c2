"""What a person has labelled, as it comes back: from Label Studio, FiftyOne, a table or folders."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from thaw.core.errors import ThawError
from thaw.core.files import read_utf8
from thaw.core.paths import existing, without_parents
from thaw.labelling import label_studio
from thaw.prediction import stream
from thaw.prediction.stream import LoadedImage
from thaw.sources import class_names, formats, table_reading
from thaw.sources.leftovers import is_leftover
from thaw.sources.own_files import is_unlabelled

FIFTYONE = "fiftyone:"  # begins the name of a dataset
NO_LABEL, NOT_FOUND, SEVERAL, FAULT = "no label", "no photograph of this name", "several labels", "label"


@dataclass(frozen=True)
class Returned:
    """A photograph with the label that a person gave it.

    Attributes:
        place: where it stands, for messages: a line, a task or a path.
        path: of the photograph; None if it was not found.
        label: composed; empty if there is none, or several.
        sha256: of the file when it was handed over; empty if that is not known.
        image_id: of a photograph of the run whose label was likely wrong; else empty.
        problem: why the label cannot be used; empty if it can.
    """

    place: str
    path: Path | None
    label: str
    sha256: str = ""
    image_id: str = ""
    problem: str = ""


@dataclass
class Finder:
    """Finds the photographs that a hand-over names.

    Attributes:
        folder: where a relative name begins.
        root: a further folder with all that lies below it, where a photograph may have been moved; or None.
    """

    folder: Path
    root: Path | None = None
    _below: dict[str, list[Path]] = field(default_factory=dict)

    def find(self, names: Iterable[str]) -> Path | None:
        """Return the first file that one of the names stands for, or None.

        Below `root`, a name is looked for as a path, and then as the one file that is called so.
        """
        names = [name for name in names if name]
        for name in names:
            for folder in filter(None, (self.folder, self.root)):
                path = without_parents(folder.absolute() / existing(name, folder))
                if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name that the system refuses
                    return path
        if self.root is not None:
            for name in names:
                same = self._by_name().get(Path(name).name, [])
                if len(same) == 1:
                    return same[0]
        return None

    def _by_name(self) -> Mapping[str, list[Path]]:
        if not self._below:
            for folder, folders, files in os.walk(self.root):
                folders.sort()
                for name in files:
                    self._below.setdefault(name, []).append(Path(folder).absolute() / name)
        return self._below


def read(name: str, root: Path | None, fiftyone: Callable[[str], Iterator]) -> list[Returned]:
    """Read what a person has labelled.

    Args:
        name: a file of Label Studio's (JSON, JSON-MIN or CSV), a table with the columns `path` and `label`, a folder
            with a folder for each class, or `fiftyone:` and the name of a dataset.
        root: where photographs are that the file names in another way than by their path; or None.
        fiftyone: reads a dataset, as `fiftyone_tags.labels` does.

    Raises:
        ThawError: it is nothing of these.
    """
    if name.startswith(FIFTYONE):
        dataset = name.removeprefix(FIFTYONE)
        return _from_rows(fiftyone(dataset), Finder(Path(), root), "sample")
    path = Path(existing(name))
    if path.is_dir():
        return list(_from_folders(path))
    if not path.exists():
        raise ThawError(f"{name}: no such file or folder")
    finder = Finder(path.parent, root)
    if path.suffix.lower() == ".json":
        return _from_rows(label_studio.labels(_tasks(path)), finder, "task")
    table = table_reading.read(path, str(path))
    if table.columns.get("label") is None and table.columns.get("choice") is None:
        raise ThawError(f"{path} has no column 'label' of one text each: it is no export of labels for photographs")
    texts = {key: values for key, values in table.columns.items() if values is not None}
    rows = ({key: values[i] for key, values in texts.items()} for i in range(len(table.lines)))
    return _from_rows(((row, _label_texts(row)) for row in rows), finder, table.place, table.lines)


def _tasks(path: Path) -> list[dict]:
    try:
        content = json.loads(read_utf8(path))
    except (ValueError, RecursionError) as error:
        raise ThawError(f"{path} is not JSON: {error}") from None
    if not label_studio.is_export(content):
        raise ThawError(f"{path} is no export of Label Studio's: it should be a list of tasks (JSON or JSON-MIN)")
    return content


def _label_texts(row: Mapping[str, str]) -> list[str]:
    """Return the labels of a row. Label Studio's CSV has several as JSON."""
    text = row.get("label") or row.get("choice") or ""
    if re.match(r'\{"choices": ?\[', text):
        with contextlib.suppress(ValueError):  # else it is a text that only looks like JSON
            return [str(choice) for choice in json.loads(text)["choices"]]
    return [text] if text else []


def _from_rows(
    rows: Iterable[tuple[Mapping[str, object], list[str]]], finder: Finder, what: str, numbers: list[int] = ()
) -> list[Returned]:
    """Return the labels of rows or tasks (data, labels).

    Args:
        rows: in their order.
        finder: finds the files.
        what: a row is called.
        numbers: of the rows; without, they count from 1.
    """
    found = []
    for i, (data, given) in enumerate(rows):
        text = {key: str(data.get(key) or "").strip() for key in ("path", "image", "sha256", "image_id")}
        given = [class_names.composed(label) for label in given]
        place = f"{what} {numbers[i] if numbers else i + 1}"
        names = [text["path"], *label_studio.file_names(text["image"])]
        path = finder.find(names)
        problem = NO_LABEL if not given else f"{SEVERAL}: {', '.join(given)}" if given[1:] else _fault(given[0])
        if not problem and path is None:
            problem = f"{NOT_FOUND}: {next(filter(None, names), 'none is named')}"
        label = given[0] if len(given) == 1 else ""
        found.append(Returned(place, path, label, text["sha256"], text["image_id"], problem))
    return found


def _from_folders(folder: Path) -> Iterator[Returned]:
    """Yield the photographs of a folder with a folder for each class, and all that lies below it.

    Those beside the folders of the classes, or in one for photographs without a label, have none. Files that are no
    photographs have a problem.
    """
    inside = sorted(e for e in folder.iterdir() if not is_leftover(e.name, is_folder=e.is_dir()))
    classes = [each for each in inside if each.is_dir() and not is_unlabelled(each.name)]
    if not classes:
        raise ThawError(
            f"{folder} has no folder for a class: photographs that were labelled lie in folders of their class"
        )
    for each in classes:
        label, left_out = class_names.composed(each.name), {}
        for item in stream.expand([str(each)], left_out):
            if isinstance(item, LoadedImage):
                yield Returned(item.path, None, label, problem=item.error)
            else:
                yield Returned(str(item), without_parents(item.absolute()), label, problem=_fault(label))
        for path, why in sorted(left_out.items()):
            if why != stream.LEFTOVER:
                yield Returned(str(path), None, label, problem=why)
    for each in inside:
        if each not in classes and (each.is_dir() or formats.kind(each).is_picture):
            for item in stream.expand([str(each)]):
                if not isinstance(item, LoadedImage):
                    yield Returned(str(item), None, "", problem=NO_LABEL)


@cache
def _fault(label: str) -> str:
    fault = class_names.fault(label)
    return f"{FAULT} {label!r} {fault}" if fault else ""
