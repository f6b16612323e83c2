"""The folder that a person labels from: a contact sheet, a table, and tasks for Label Studio."""

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thaw.core import store
from thaw.core.csv_rows import row_writer
from thaw.core.errors import ThawError
from thaw.core.files import atomic_folder, write_json, write_text
from thaw.core.store import Member, Photograph
from thaw.images import views
from thaw.labelling import label_studio
from thaw.prediction.sheet import SIDE, Sheet
from thaw.sources import table_reading

TABLE, SHEET, TASKS, PAGE = "photographs.csv", "sheet.jpg", "label_studio_tasks.json", "label_studio_page.xml"
PHOTOGRAPHS = "photographs"  # the folder of those that were in shards
COLUMNS = ("rank", "path", "label", "given", "predicted", "probability", "score", "reason", "image_id", "sha256")
ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}  # a path may hold any bytes


@dataclass(frozen=True)
class Item:
    """A photograph to be looked at."""

    path: Photograph  # absolute, or in a shard
    sha256: str  # of its file
    score: float
    reason: str
    predicted: str | None = None  # by the model
    probability: float | None = None  # of that class
    given: str = ""  # the label that it has and that may be wrong; empty: it has none
    image_id: str = ""  # of one that is in the run

    @property
    def title(self) -> str:
        """For the contact sheet."""
        other = "" if self.predicted is None else f"{self.predicted} {self.probability:.0%}"
        return f"{self.given}, or {other}" if self.given and other else self.given or other or "no model yet"


def write(
    folder: Path,
    items: Sequence[Item],
    classes: Sequence[str],
    bits: int | None = None,
) -> tuple[Path, Sequence[Item]]:
    """Write the folder; return the one whose photographs Label Studio has to serve, and the items.

    Photographs in shards become files in the folder, which the items that are returned name.

    Args:
        folder: is replaced: `check_replaceable` says whether it may be.
        items: in the order of the table.
        classes: that Label Studio offers.
        bits: of values in 16 bits, where a file does not say it.
    """
    sources = [item.path for item in items]
    items = [replace(item, path=_file(item.path, folder)) for item in items]
    served = Path(os.path.commonpath([item.path.parent for item in items]))
    root = served.parent  # Label Studio serves only what lies in a folder inside the one that it is started with
    sheet, tasks = Sheet(), []
    for rank, (source, item) in enumerate(zip(sources, items, strict=True), start=1):
        sheet.add(views.network_input(source, SIDE, "pad", bits), item.title, f"{rank} {item.path.name}")
        data = {key: _plain(value) for key, value in _row(rank, item).items() if key not in ("label", "rank")}
        tasks.append(label_studio.task(item.path, root, data, item.predicted, item.probability))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary:
        with (temporary / TABLE).open("w", newline="", **ENCODING) as file:
            write_row = row_writer(file)
            write_row(COLUMNS)
            for rank, item in enumerate(items, start=1):
                row = _row(rank, item)
                write_row([row[name] for name in COLUMNS])
        sheet.write(temporary / SHEET)
        write_json(temporary / TASKS, tasks)
        write_text(temporary / PAGE, label_studio.page(classes, ["reason"]))
        store.bring_out((source for source in sources if isinstance(source, Member)), temporary / PHOTOGRAPHS)
    return served, items


def check_replaceable(folder: Path, taken: Collection[tuple[str, str]], judged: Collection[str]) -> None:
    """Raise ThawError if a folder holds anything that `write` did not write, or may hold a label that was not taken.

    taken: (SHA-256, label) of what is labelled. judged: ids of photographs of the run that a person has looked at.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ThawError(f"--output {folder} is a file: give another name")
    written = (TABLE, SHEET, TASKS, PAGE, PHOTOGRAPHS)
    has_table = (folder / TABLE).exists()
    columns = table_reading.read(folder / TABLE, f"--output {folder}: {TABLE}").columns if has_table else {}
    others = [entry for entry in folder.iterdir() if entry.name not in written]
    hashes = set(columns.get("sha256") or [])
    others += [file for file in (folder / PHOTOGRAPHS).rglob("*") if not _is_one_of(file, hashes)]
    if others:
        name = min(others).relative_to(folder)
        raise ThawError(f"--output {folder} holds {name}, which is not from an earlier call: give another name")
    if not has_table:
        return
    if (given := columns.get("label")) is None:
        raise ThawError(f"--output {folder}: {TABLE} has no column 'label' any more: give another name")
    none = [""] * len(given)
    for label, sha256, image in zip(given, columns.get("sha256") or none, columns.get("image_id") or none, strict=True):
        is_waiting = image and image not in judged  # its label may be confirmed here, and is known before
        if label and (is_waiting or (sha256, label) not in taken):
            raise ThawError(
                f"{folder / TABLE} has labels that were not taken, such as {label!r}: run `python src/label.py "
                f"take {folder / TABLE}` first, or give another --output"
            )


def _is_one_of(path: Path, hashes: Collection[str]) -> bool:
    """Return whether a file has one of these SHA-256."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() in hashes


def _file(photograph: Photograph, folder: Path) -> Path:
    """Return where a photograph is, or is to be, as a file."""
    return (folder / PHOTOGRAPHS / photograph.name).absolute() if isinstance(photograph, Member) else photograph


def _row(rank: int, item: Item) -> dict[str, object]:
    return {
        "rank": rank,
        "path": item.path,
        "label": "",
        "given": item.given,
        "predicted": item.predicted or "",
        "probability": "" if item.probability is None else round(item.probability, 6),
        "score": round(item.score, 6),
        "reason": item.reason,
        "image_id": item.image_id,
        "sha256": item.sha256,
    }


def _plain(value: object) -> object:
    """Return a value as JSON has it; a name that is not UTF-8 is escaped: its hash finds the photograph."""
    return os.fsencode(value).decode(errors="backslashreplace") if isinstance(value, Path) else value
