"""Take the model elsewhere: `python src/export.py --format FORMAT…` writes it for other engines than Keras.

Each export takes RGB pixels 0-255 of the model's size and gives the Keras model's own probabilities; class names, size,
resizing, temperature, threshold and test-time flips stand in its metadata. It is checked against Keras on photographs
that the model has not learnt from, and kept only if it answers the same: within 1e-4 of a probability in float32,
within 1e-2 in float16, and in 8 bits by its accuracy.
"""

import argparse
import os
import sys
from pathlib import Path

from thaw import deployed
from thaw.errors import ThawError, nearest, run
from thaw.exports import checks, formats
from thaw.exports.formats import FORMATS

MODEL = Path("models/model.keras")
OUTPUT = Path("models/exports")
RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
CALIBRATING = 200  # photographs that the ranges of the activations are taken from: more change little
CHECKING = 200  # photographs that a format is compared with Keras on
MOST = 1000  # photographs that an accuracy is measured on, which wants many
BOOTSTRAP = 2000  # resamples behind an interval
SEED = 1  # of the photographs that are drawn, and of the resamples


def main() -> None:
    options = parse()
    description = deployed.describe(options.model)
    decision = deployed.decision(
        options.model.with_name("decision.json"), "fine_tuned", description.classes, options.model
    )
    if decision is None:
        print("export: no decision.json of the model beside it: nothing about its calibration", file=sys.stderr)
    facts = formats.describe(description, decision)
    make_folder(options.output)
    calibration, photographs = choose(options, description)
    keras, model = load(options.model, len(description.classes))
    of_keras, rate = checks.ask(keras, photographs.views)

    count = min(CHECKING, len(photographs.views))
    checked = f"{count:,} photograph{'s' * (count != 1)}"
    print(f"export: {options.model} into {options.output}, checked on {checked}; the largest difference of "
          f"a probability from Keras', and images/s one at a time on {os.cpu_count()} cores:")  # fmt: skip
    print_row("format", "file", "MB", "difference", "images/s")
    print_row("keras", options.model.name, f"{size(options.model):.1f}", "", f"{rate:.0f}")
    failed, notes = False, []
    for name in options.format:
        form, place = FORMATS[name], options.output / FORMATS[name].place
        count = len(photographs.views) if form.tolerance is None else CHECKING

        def check(engine: formats.Engine, form=form, count=count) -> tuple[float, float, str | None]:
            ours, rate = checks.ask(engine, photographs.views[:count])
            difference = checks.largest_difference(ours, of_keras[:count], form.tolerance)
            if form.tolerance is not None:
                return difference, rate, None
            return difference, rate, checks.quantised(ours, of_keras, photographs, BOOTSTRAP, SEED)

        try:
            difference, rate, note = formats.export(name, model, facts, place, calibration, check)
        except ThawError as error:
            failed = True
            print(f"export: {name} is not written: {error}", file=sys.stderr)
            continue
        print_row(name, form.place, f"{size(place):.1f}", f"{difference:.1e}", f"{rate:.0f}")
        notes += [f"{name}: {note}"] if note else []
    for note in notes:
        print(note)
    if failed:
        sys.exit(1)


def parse() -> argparse.Namespace:
    listed = "\n".join(f"  {name:15} {form.words}: {form.place}" for name, form in FORMATS.items())
    parser = argparse.ArgumentParser(
        description="Write the model for other engines than Keras, each checked against it.",
        epilog=f"formats:\n{listed}\n  {'all':15} all of these",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", nargs="+", required=True, metavar="FORMAT", help="one or several, see below")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--photographs", nargs="+", metavar="PATH",
        help="files, folders or patterns to check with, instead of the test photographs of this run; "
        "8 bits are calibrated on every second one",
    )  # fmt: skip
    options = parser.parse_args()
    unknown = [name for name in options.format if name not in FORMATS and name != "all"]
    if unknown:
        parser.error(f"--format: there is no {unknown[0]!r}{nearest(unknown[0], [*FORMATS, 'all'])}")
    options.format = [name for name in FORMATS if name in options.format or "all" in options.format]
    return options


def choose(options: argparse.Namespace, description: deployed.Description):
    """Return the photographs that 8 bits are calibrated on, None where they are not asked for, and those to check with.

    Where labels are known and 8 bits are asked for there are more of the latter, for their accuracy."""
    int8 = any(FORMATS[name].tolerance is None for name in options.format)
    most = MOST if int8 else CHECKING
    if options.photographs:
        given, refused = checks.of_paths(options.photographs, description, CALIBRATING + most if int8 else most)
        for one in refused:
            print(f"export: {one.path}: {one.error}", file=sys.stderr)
        if not int8:
            return None, given
        if len(given.views) < 2:
            raise ThawError("one photograph is not enough for 8 bits: one half calibrates them, the other checks")
        return given.views[::2][:CALIBRATING], checks.Photographs(given.views[1::2][:most])
    if not SPLIT.exists() or not RAW.exists():
        missing = RAW if SPLIT.exists() else SPLIT
        raise ThawError(
            f"there are no photographs to check with: {missing} is missing; name some with --photographs, or run "
            f"`dvc pull {RAW} {SPLIT}`"
        )
    drawn = checks.of_split(RAW, SPLIT, "test", description, most, SEED)
    if not int8:
        return None, drawn
    return checks.of_split(RAW, SPLIT, "train", description, CALIBRATING, SEED).views, drawn


def make_folder(folder: Path) -> None:
    """Make the output folder; raises ThawError where nothing could be written there, before any work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ThawError(f"{folder} cannot be made: {error.strerror}: see --output") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ThawError(f"{folder} cannot be written to: Permission denied: see --output")


def load(path: Path, classes: int):
    """Return the Keras model as an engine and as itself; raises ThawError where it is no classifier of `classes`."""
    from thaw import models
    from thaw.exports.graphs import silence
    from thaw.tensorflow import tf

    with silence():
        model, _ = models.load(path)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.output.shape[1:] != (classes,):
        raise ThawError(f"{path}: not a classifier of Thaw's (it does not answer {classes} probabilities)")
    compiled = tf.function(lambda pixels: model(pixels, training=False))
    return lambda pixels: compiled(tf.constant(pixels)).numpy(), model


def size(path: Path) -> float:
    """Return the megabytes of a file or a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def print_row(name: str, file: str, megabytes: str, difference: str, rate: str) -> None:
    print(f"{name:15} {file:22} {megabytes:>6} {difference:>11} {rate:>9}", flush=True)


if __name__ == "__main__":
    run(main)
