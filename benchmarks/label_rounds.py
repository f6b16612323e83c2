"""Run the loop of labelling by commands alone: 200 labelled photographs and 1,000 without a label, in three rounds.

    python benchmarks/label_rounds.py [--rounds 3] [--count 50] [--chance]

The photographs are those of ../shared/trashnet. In a fresh clone of the last commit, each round is `src/label.py next`,
a table that is filled in with the true labels, `src/label.py take` and `dvc repro`. The lines give the stages that ran,
the seconds of CPU of each command, and the accuracy on the test photographs, which stay the same ones. Only the head is
trained, in one split. With --chance, the table is filled in for photographs that are drawn instead.
"""

import argparse
import csv
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import clones
import numpy as np
import results
import yaml

from thaw.core.errors import run
from thaw.core.files import read_json

TRASHNET = clones.ROOT.parent / "shared" / "trashnet"
LABELLED, UNLABELLED = 200, 1000
TABLE = Path("label_next/photographs.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--chance", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        truth = lay_out(folder)
        clone = clones.fresh(
            folder / "project",
            download={"source": "folder", "folder": {"path": str(folder / "photographs")}},
            split={"folds": None},
            fine_tune={"freeze_depth": "all"},
        )
        rows = [[f"{LABELLED} labelled", None, None, *repro(clone)]]
        print(rows[0], flush=True)
        for number in range(1, options.rounds + 1):
            seconds = [label(clone, "next", str(folder / "unlabelled"), "--count", str(options.count))]
            if options.chance:
                draw(clone / TABLE, sorted(truth), number, options.count)
            fill(clone / TABLE, truth)
            seconds.append(label(clone, "take", str(TABLE)))
            rows.append([f"round {number}", *seconds, *repro(clone)])
            print(rows[-1], flush=True)
    if not options.chance:
        cpu = "{:.0f} s"
        columns = [
            "", ("`next`, CPU", cpu), ("`take`, CPU", cpu), ("`dvc repro`, CPU", cpu), "the stages that did not run",
            ("test", "{:.1f} % ({:.1f}–{:.1f})"),
        ]  # fmt: skip
        results.write("label_rounds", columns, rows)


def lay_out(folder: Path) -> dict[str, str]:
    """Copy photographs into folders of classes, and others into one folder. Return the labels of these by file name."""
    paths = sorted(TRASHNET.glob("*/*.jpg"))
    order = np.random.default_rng(1).permutation(len(paths))
    truth = {}
    for rank, i in enumerate(order[: LABELLED + UNLABELLED]):
        target = folder / "photographs" / paths[i].parent.name / paths[i].name
        if rank >= LABELLED:
            target = folder / "unlabelled" / f"{rank:04}.jpg"
            truth[target.name] = paths[i].parent.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[i], target)
    return truth


def label(clone: Path, *arguments: str) -> float:
    start = cpu()
    for line in clones.run(clone, sys.executable, "src/label.py", *arguments).splitlines():
        print(f"  {line}")
    return cpu() - start


def repro(clone: Path) -> list:
    """Run what is out of date. Returns the CPU, the stages that did not run, and the accuracy with its interval."""
    start = cpu()
    said = clones.dvc(clone, "repro")
    ran = re.findall(r"^> python src/(\w+)\.py$", said, re.MULTILINE)
    others = [f"`{stage}`" for stage in yaml.safe_load((clone / "dvc.yaml").read_text())["stages"] if stage not in ran]
    head = read_json(clone / "reports/metrics.json")["head"]["test"]
    test = [round(100 * head[f"accuracy{end}"], 1) for end in ("", "_low", "_high")]
    return [cpu() - start, ", ".join(others) or "none", test]


def cpu() -> float:
    """Return the CPU seconds of all commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def draw(table: Path, names: list[str], seed: int, count: int) -> None:
    """Put drawn photographs in place of those that were chosen."""
    rows = read(table)
    folder = Path(rows[0]["path"]).parent
    drawn = np.random.default_rng(seed).permutation(names)[:count]
    write(table, [rows[0] | {"path": str(folder / name), "sha256": ""} for name in drawn])


def fill(table: Path, truth: dict[str, str]) -> None:
    write(table, [row | {"label": truth[Path(row["path"]).name]} for row in read(table)])


def read(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def write(table: Path, rows: list[dict[str, str]]) -> None:
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    run(main)
