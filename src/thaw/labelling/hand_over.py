"""The folder that a person labels from: a contact sheet, a table, and tasks for Label Studio."""

import csv
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.core.errors import ThawError
from thaw.core.files import atomic_folder, write_json, write_text
from thaw.images import views
from thaw.labelling import label_studio
from thaw.prediction.sheet import SIDE, Sheet

TABLE, SHEET, TASKS, PAGE = "photographs.csv", "sheet.jpg", "label_studio_tasks.json", "label_studio_page.xml"
COLUMNS = ("rank", "path", "label", "given", "predicted", "probability", "score", "reason", "image_id", "sha256")
ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}  # a path may hold any bytes


@dataclass(frozen=True)
class Item:
    """A photograph to be looked at."""

    path: Path  # absolute
    sha256: str  # of its file
    score: float
    reason: str
    predicted: str | None = None  # the model's answer
    probability: float | None = None  # of that answer
    given: str = ""  # the label that it has and that may be wrong; empty: it has none
    image_id: str = ""  # of one that is in the run

    @property
    def title(self) -> str:
        """For the contact sheet."""
        answer = "" if self.predicted is None else f"{self.predicted} {self.probability:.0%}"
        return f"{self.given}, or {answer}" if self.given and answer else self.given or answer or "no model yet"


def write(
    folder: Path,
    items: Sequence[Item],
    classes: Sequence[str],
    taken: Collection[tuple[str, str]],
    bits: int | None = None,
) -> Path:
    """Write the folder, and return the one whose photographs Label Studio has to serve.

    Args:
        folder: is replaced, if all that lies in it is from an earlier call and no label in it is lost.
        items: in the order of the table.
        classes: that Label Studio offers.
        taken: (SHA-256, label) of what is labelled.
        bits: of values in 16 bits, where a file does not say it.

    Raises:
        ThawError: the folder holds something else, or labels that were not taken.
    """
    check_replaceable(folder, taken)
    served = Path(os.path.commonpath([item.path.parent for item in items]))
    root = served.parent  # Label Studio serves only what lies in a folder inside the one that it is started with
    sheet, tasks = Sheet(), []
    for rank, item in enumerate(items, start=1):
        sheet.add(views.network_input(item.path, SIDE, "pad", bits), item.title, f"{rank} {item.path.name}")
        data = {key: _plain(value) for key, value in _row(rank, item).items() if key not in ("label", "rank")}
        tasks.append(label_studio.task(item.path, root, data, item.predicted, item.probability))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary:
        with (temporary / TABLE).open("w", newline="", **ENCODING) as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(_row(rank, item) for rank, item in enumerate(items, start=1))
        sheet.write(temporary / SHEET)
        write_json(temporary / TASKS, tasks)
        write_text(temporary / PAGE, label_studio.page(classes, ["reason"]))
    return served


def check_replaceable(folder: Path, taken: Collection[tuple[str, str]]) -> None:
    """Raise ThawError if a folder holds anything that `write` did not write, or a label that is not in `taken`."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ThawError(f"--output {folder} is a file: give another name")
    if others := sorted(entry.name for entry in folder.iterdir() if entry.name not in (TABLE, SHEET, TASKS, PAGE)):
        raise ThawError(f"--output {folder} holds {others[0]}, which is not from an earlier call: give another name")
    if not (folder / TABLE).exists():
        return
    with (folder / TABLE).open(newline="", **ENCODING) as file:
        for row in csv.DictReader(file):
            label = (row.get("label") or "").strip()
            if label and (row.get("sha256"), label) not in taken:
                raise ThawError(
                    f"{folder / TABLE} has labels that were not taken, such as {label!r}: run `python src/label.py "
                    f"take {folder / TABLE}` first, or give another --output"
                )


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
