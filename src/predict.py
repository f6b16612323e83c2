"""Ask the model: `python src/predict.py PATH…` prints what it takes each photograph for, and how sure it is.

A PATH is a file, a folder with all that lies below it, a pattern in quotes, or `-` for a list on standard input. The
probabilities are calibrated, and of two classes the answer is that of the threshold chosen on validation
(`decision.json` beside the model). A photograph that cannot be read is a line with its error. Exit status: 0 if any
photograph was answered, 1 if none was or something else went wrong, 2 for a wrong option.

The first use of a model converts it for OpenVINO with TensorFlow and keeps the result; from then on it starts without.
"""

import argparse
import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from thaw import answers, deployed, inference
from thaw.answer_sheet import ENDINGS, Sheet
from thaw.errors import ThawError, run
from thaw.files import whole_file

MODEL = Path("models/model.keras")
CACHE = Path("~/.cache/thaw/networks")
Row = dict[str, object]  # what a JSON line holds


def main() -> None:
    options = parse()
    description = deployed.describe(options.model)
    decision = deployed.decision(options.model.with_name("decision.json"), "fine_tuned", description.classes)
    if decision is None:
        print("predict: no decision.json beside the model: its own probabilities, not calibrated", file=sys.stderr)
        decision = deployed.Decision()
    network = deployed.network(options.model, options.cache.expanduser())
    engine = inference.openvino(network, deployed.OUTPUT, description.size, np.float32)

    sheet = Sheet()
    count = {True: 0, False: 0}
    quiet = None if options.csv not in (None, "-") or not sys.stdout.isatty() else True  # else the lines are a bar
    try:
        with output(options, description.classes) as write, tqdm(desc="predict", disable=quiet, unit="image") as bar:
            named = checked(answers.expand(names(options.paths)), [options.csv, options.sheet])
            seen = answers.look(named, description.size, description.resize)
            for answer in answers.answer(seen, engine):
                row = as_row(answer, description.classes, decision, options)
                write(row)
                bar.update()
                count["label" in row] += 1
                if options.sheet:
                    sheet.add(answer.seen.view, title(row), Path(answer.seen.path).name)
    except BrokenPipeError:  # whoever reads has seen enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    if options.sheet and sum(count.values()):
        sheet.write(options.sheet)
        if sheet.left_out:
            print(f"predict: {options.sheet} shows all but the last {sheet.left_out:,}", file=sys.stderr)
    if count[False]:
        print(f"predict: {count[True]:,} answered, {count[False]:,} could not be read", file=sys.stderr)
    if not count[True]:
        sys.exit(1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask the model what photographs show.")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, folder or pattern, or - for a list on stdin")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one object a line")
    form.add_argument("--csv", nargs="?", const="-", metavar="FILE", help="a table, on stdout or in a .csv file")
    parser.add_argument("--top", type=int, metavar="K", help="show the K most probable classes")
    parser.add_argument("--unsure", type=float, metavar="P", help="mark answers of a lower probability as unsure")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="a contact sheet of the photographs and answers")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of converted models (default: %(default)s)")
    options = parser.parse_args()
    if options.top is not None and options.top < 1:
        parser.error(f"--top should be at least 1, not {options.top}")
    if options.unsure is not None and not 0 < options.unsure <= 1:
        parser.error(f"--unsure should lie above 0 and be at most 1, not {options.unsure}")
    if options.csv and options.csv != "-" and not options.csv.endswith(".csv"):
        parser.error(f"--csv takes the name of a .csv file or nothing, not {options.csv}: name photographs before it")
    if options.sheet and options.sheet.suffix.lower() not in ENDINGS:
        parser.error(f"--sheet should end in {', '.join(ENDINGS)}, not {options.sheet}")
    return options


def names(paths: list[str]) -> Iterator[str]:
    for path in paths:
        if path == "-":
            yield from (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip())
        else:
            yield path


def checked(named: Iterator[answers.Seen | Path], written: list[Path | str | None]) -> Iterator[answers.Seen | Path]:
    """Pass photographs on; raises ThawError for one that an output of this run would take the place of."""
    existing = {os.path.realpath(path) for path in written if path and Path(path).exists()}
    for item in named:
        if existing and isinstance(item, Path) and os.path.realpath(item) in existing:
            raise ThawError(f"{item} is one of the photographs and would be overwritten: give another name")
        yield item


def as_row(
    answer: answers.Answer, classes: tuple[str, ...], decision: deployed.Decision, options: argparse.Namespace
) -> Row:
    """`path`, `label`, `probability` and `probabilities`, class by class or with `--top` the likeliest first, and with
    `--unsure` a mark; or `path` and `error`."""
    if answer.probabilities is None:
        return {"path": answer.seen.path, "error": answer.seen.error}
    calibrated = decision.calibrated(answer.probabilities[None])
    best = int(decision.answers(calibrated)[0])
    shown = np.argsort(-calibrated[0], kind="stable")[: options.top] if options.top else range(len(classes))
    row = {
        "path": answer.seen.path,
        "label": classes[best],
        "probability": round(float(calibrated[0, best]), 6),
        "probabilities": {classes[i]: round(float(calibrated[0, i]), 6) for i in shown},
    }
    return row | ({"unsure": bool(calibrated[0, best] < options.unsure)} if options.unsure else {})


@contextlib.contextmanager
def output(options: argparse.Namespace, classes: tuple[str, ...]) -> Iterator[Callable[[Row], None]]:
    """Yield what writes a row in the form that was asked for; a CSV file is whole or absent."""
    if options.csv and options.csv != "-":
        text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        with whole_file(Path(options.csv)) as temporary, temporary.open("w", **text) as file:
            yield csv_writer(file, options, classes)
        return
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", line_buffering=True)  # each as it is known
    if options.csv:
        yield csv_writer(sys.stdout, options, classes)
    elif options.json:
        yield lambda row: print(json.dumps(row))
    else:
        width = max(map(len, classes))
        yield lambda row: print(line(row, width, options))


def csv_writer(file: TextIO, options: argparse.Namespace, classes: tuple[str, ...]) -> Callable[[Row], None]:
    """Columns as a row has them; then a probability for each class, or with `--top` pairs, the likeliest first."""
    top = min(options.top or 0, len(classes))
    columns = ["path", "label", "probability", *["unsure"] * bool(options.unsure), "error"]
    pairs = [f"{part}_{place}" for place in range(1, top + 1) for part in ("label", "probability")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*columns, *(pairs or [f"probability_{name}" for name in classes])])

    def write(row: Row) -> None:
        known = row.get("probabilities", {})
        more = [value for pair in known.items() for value in pair] if top else known.values()
        writer.writerow([*(row.get(column, "") for column in columns), *(more or [""] * len(pairs or classes))])

    return write


def line(row: Row, width: int, options: argparse.Namespace) -> str:
    """A row for a person. The path stands last, for it may be of any length."""
    path = printable(str(row["path"]))
    if "error" in row:
        return f"{'-':{width}} {'':7}  {path}: {printable(str(row['error']))}"
    mark = f"{'unsure' if row['unsure'] else '':6}  " if options.unsure else ""
    others = [f"{name} {p:.1%}" for name, p in row["probabilities"].items()] if options.top else []
    return f"{row['label']:{width}} {row['probability']:7.1%}  {mark}{path}{'  ' * bool(others)}{', '.join(others)}"


def title(row: Row) -> str:
    if "error" in row:
        return "cannot be read"
    return f"{row['label']} {row['probability']:.0%}{' ?' if row.get('unsure') else ''}"


def printable(text: str) -> str:
    """A name may hold anything, even what moves a terminal's cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


if __name__ == "__main__":
    run(main)
