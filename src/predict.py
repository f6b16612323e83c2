"""Ask the model: `python src/predict.py PATH…` prints what it takes each photograph for, and how sure it is.

A PATH is a file, a folder with all that lies below it, a pattern in quotes, or `-` for a list on standard input. What
`evaluate` decided, `decision.json` beside the model, holds here: probabilities are calibrated, of two classes the
answer is that of the threshold, and with test-time flips the mirror images of a photograph are asked, too. A photograph
that cannot be read is a line with its error. Exit status: 0 if any photograph was answered, 1 if none was or something
else went wrong, 2 for a wrong option.

An answer is marked as unsure below the probability of `--unsure P`. That does not find what is no photograph of the
kind: a model is often sure of it. `--far Q` marks what lies farther from the training photographs than the share Q of
those of validation, by the frozen features: of photographs like those, about 1 - Q are marked. It reads
`data/features`, `data/split.csv` and `models/backbone` of the run, and runs that network beside the model.

The first use of a model converts it for OpenVINO and keeps the result; from then on it starts without Keras.
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

if __name__ == "__main__":
    import thaw.keras_alone  # noqa: F401

from thaw import answers, deployed, flips, inference
from thaw.answer_sheet import ENDINGS, Sheet
from thaw.backbone_names import FEATURES as LAYER
from thaw.errors import ThawError, run
from thaw.files import below_home, read_json, whole_file

MODEL = Path("models/model.keras")
FEATURES = Path("data/features")
SPLIT = Path("data/split.csv")
BACKBONE = Path("models/backbone")
LOCK = Path("dvc.lock")
CACHE = Path("~/.cache/thaw/networks")
Row = dict[str, object]  # what a JSON line holds


def main() -> None:
    options = parse()
    description = deployed.describe(options.model)
    decision = deployed.decision(
        options.model.with_name("decision.json"), "fine_tuned", description.classes, options.model
    )
    if decision is None:
        print(
            "predict: no decision.json of the model beside it: its own probabilities, not calibrated", file=sys.stderr
        )
        decision = deployed.Decision()
    distances, limit = measuring(options.far, description) if options.far else (None, None)
    network = deployed.network(options.model, below_home(str(options.cache), "--cache"))
    engine = inference.openvino(network, deployed.OUTPUT, description.size, np.float32)

    sheet = Sheet()
    count = {True: 0, False: 0}
    quiet = None if options.csv not in (None, "-") or not sys.stdout.isatty() else True  # else the lines are a bar
    with output(options, description.classes) as write, tqdm(desc="predict", disable=quiet, unit="image") as bar:
        named = checked(answers.expand(names(options.paths)), [options.csv, options.sheet])
        seen = answers.look(named, description.size, description.resize)
        for answer in answers.answer(seen, flips.averaged(engine, decision.test_time_flips), distances):
            row = as_row(answer, description.classes, decision, options, limit)
            write(row)
            bar.update()
            count["label" in row] += 1
            if options.sheet:
                sheet.add(answer.seen.view, title(row), Path(answer.seen.path).name)
    if options.sheet and sum(count.values()):
        sheet.write(options.sheet)
        if sheet.left_out:
            print(f"predict: {options.sheet} shows all but the last {sheet.left_out:,}", file=sys.stderr)
    if count[False]:
        print(f"predict: {count[True]:,} answered, {count[False]:,} could not be read", file=sys.stderr)
    if not sum(count.values()):
        print("predict: no photograph was named", file=sys.stderr)
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
    parser.add_argument(
        "--far", type=float, metavar="Q", help="mark what lies farther from the training photographs than the share Q "
        "of those of validation, as 0.99, as unsure too"
    )  # fmt: skip
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="a contact sheet of the photographs and answers")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of converted models (default: %(default)s)")
    options = parser.parse_args()
    if options.top is not None and options.top < 1:
        parser.error(f"--top should be at least 1, not {options.top}")
    if options.unsure is not None and not 0 < options.unsure <= 1:
        parser.error(f"--unsure should lie above 0 and be at most 1, not {options.unsure}")
    if options.far is not None and not 0 < options.far < 1:
        parser.error(f"--far should lie between 0 and 1, not {options.far}")
    if options.csv and options.csv != "-" and not options.csv.endswith(".csv"):
        parser.error(f"--csv takes the name of a .csv file or nothing, not {options.csv}: name photographs before it")
    if options.sheet and options.sheet.suffix.lower() not in ENDINGS:
        parser.error(f"--sheet should end in {', '.join(ENDINGS)}, not {options.sheet}")
    return options


def measuring(share: float, description: deployed.Description) -> tuple[answers.Run, float]:
    """Return what measures how far photographs lie from the training ones of the run, and from where on that is far.

    Raises ThawError where the run's artifacts are not there or not of the same photographs as the model.
    """
    from thaw import distance, examples  # with SciPy, which costs a second

    needed = [FEATURES, SPLIT, BACKBONE]
    if not all(path.exists() for path in needed):
        raise ThawError(f"--far wants what the model was trained on: `dvc pull {' '.join(map(str, needed))}`")
    image = image_of_features()
    if image != (description.size, description.resize):
        raise ThawError(
            f"--far: {FEATURES} is of photographs of {image[0]} pixels ({image[1]}), the model wants "
            f"{description.size} ({description.resize}): take the model of this run, or leave --far out"
        )
    classes = examples.read_classes(FEATURES)
    if not set(classes) & set(description.classes):
        raise ThawError(f"--far: {FEATURES} is of another model, of {', '.join(classes[:5])}: leave --far out")
    training, validation = distance.read(FEATURES, SPLIT)
    network = BACKBONE / "backbone.xml"
    channels = inference.output_shapes(network, [LAYER], description.size)[LAYER][-1]
    if channels != training.shape[1]:
        raise ThawError(f"--far: {FEATURES} and {BACKBONE} are not of one run: `dvc repro`, or `dvc checkout`")
    limit = distance.limit(distance.distances(training, validation), share)
    print(f"predict: unsure beyond a distance of {limit:.4f} from the training photographs", file=sys.stderr)
    return distance.engine(inference.openvino(network, LAYER, description.size, np.float32), training), limit


def image_of_features() -> tuple[int, str]:
    """Return the size and the way of resizing with which FEATURES were computed; only DVC's record says so."""
    import yaml

    try:
        stages = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"]
        chosen = stages["extract_features"]["params"]["params.yaml"]
        return chosen["image.size"] or read_json(BACKBONE / "backbone.json")["size"], chosen["image.resize"]
    except (FileNotFoundError, KeyError, TypeError, yaml.YAMLError):
        raise ThawError(f"--far: {LOCK} does not say what {FEATURES} was computed with: run `dvc repro`") from None


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
    answer: answers.Answer,
    classes: tuple[str, ...],
    decision: deployed.Decision,
    options: argparse.Namespace,
    limit: float | None,
) -> Row:
    """`path`, `label`, `probability` and `probabilities`, class by class or with `--top` the likeliest first, with
    `--far` the `distance`, and with that or `--unsure` a mark; or `path` and `error`."""
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
    if limit is not None:
        row["distance"] = round(float(answer.distance), 6)
    if marks(options):
        improbable = options.unsure is not None and calibrated[0, best] < options.unsure
        row["unsure"] = bool(improbable or (limit is not None and answer.distance > limit))
    return row


def marks(options: argparse.Namespace) -> bool:
    return bool(options.unsure or options.far)


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
    asked = [*["distance"] * bool(options.far), *["unsure"] * marks(options)]
    columns = ["path", "label", "probability", *asked, "error"]
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
    mark = f"{'unsure' if row['unsure'] else '':6}  " if marks(options) else ""
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
