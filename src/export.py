"""Use the model elsewhere: `python src/export.py --format FORMAT…` writes it for other engines than Keras.

Each export takes RGB pixels 0-255 of the model's size and returns the Keras model's own probabilities. Its metadata
have class names, size, resizing, temperature, threshold (of several labels, those of each class), test-time flips and
limits of sets. It is compared with Keras on photographs that the model was not trained on, and kept only if it agrees:
within 1e-4 of a probability in float32, within 1e-2 in float16, and in 8 bits by its accuracy.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from thaw.core.encodings import shown
from thaw.core.errors import ThawError, did_you_mean, run
from thaw.core.machine import usable_cores
from thaw.core.task import MULTI
from thaw.exports import metadata, writing
from thaw.exports.base import ModelToExport
from thaw.exports.registry import FORMATS
from thaw.prediction import deployed_model, several_labels

MODEL = Path("models/model.keras")
OUTPUT = Path("models/exports")
RAW = Path("data/raw")
SPLIT = Path("data/split.csv")


def main() -> None:
    options = parse()
    description = deployed_model.read_description(options.model)
    several = description.task == MULTI
    read_decision = several_labels.read_decision if several else deployed_model.read_decision
    decision = read_decision(options.model, description.classes)
    if decision is None:
        print("export: no decision.json of this model beside it: metadata have no calibration", file=sys.stderr)
    writing.make_folder(options.output)

    from thaw.exports import check_images, checks, table  # import polars and Pillow, which --help does not need

    is_quantised = any(export_format.is_quantised for export_format in options.formats)
    if options.photographs:
        calibration, images, unread = check_images.from_names(options.photographs, description, is_quantised)
        for image in unread:
            print(f"export: {shown(image.path)}: {shown(image.error)}", file=sys.stderr)
    else:
        calibration, images = check_images.from_split(RAW, SPLIT, description, is_quantised)

    from thaw.exports import keras_model  # imports TensorFlow

    model, engine = keras_model.load(options.model, len(description.classes))
    rule = decision or deployed_model.Decision()
    describe, decide = metadata.describe, lambda probabilities: rule.predict(rule.calibrate(probabilities))
    if several:
        describe, decide = metadata.describe_several, (decision or several_labels.undecided(description.classes)).decide
    source = ModelToExport(model, describe(description, decision), calibration)
    reference = checks.Reference(images, *checks.predict(engine, images.views), decide)
    print(
        f"export: {options.model} into {options.output}, checked on {table.checked_on(options.formats, images)}; the "
        f"largest difference of a probability from Keras', and images/s one at a time on {usable_cores()} cores:"
    )
    table.print_row("format", "file", "MB", "difference", "images/s")
    table.print_row("keras", options.model.name, table.megabytes(options.model), "", f"{reference.rate:.0f}")
    has_failed, notes = False, []
    if is_quantised and images.trained:
        notes.append(
            "with split.folds the model was trained on these photographs too, and 8 bits may cost more on new ones: "
            "--photographs names others"
        )
    for export_format in options.formats:
        name, path = export_format.name, options.output / export_format.path
        try:
            result = writing.export(export_format, source, path, partial(reference.compare, export_format))
        except ThawError as error:
            has_failed = True
            print(f"export: {name} is not written: {error}", file=sys.stderr)
            continue
        difference, rate = f"{result.difference:.1e}", f"{result.rate:.0f}"
        table.print_row(name, export_format.path, table.megabytes(path), difference, rate)
        notes += [f"{name}: {result.note}"] if result.note else []
    for note in notes:
        print(note)
    if has_failed:
        sys.exit(1)


def parse() -> argparse.Namespace:
    listed = "\n".join(f"  {name:15} {entry.description}: {entry.path}" for name, entry in FORMATS.items())
    parser = argparse.ArgumentParser(
        description="Write the model for other engines than Keras, each checked against it.",
        epilog=f"formats:\n{listed}\n  {'all':15} all of these\n\nexample: python src/export.py --format onnx tflite",
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
        parser.error(f"--format: there is no {unknown[0]!r}{did_you_mean(unknown[0], [*FORMATS, 'all'])}")
    options.formats = [entry for name, entry in FORMATS.items() if name in options.format or "all" in options.format]
    return options


if __name__ == "__main__":
    run(main)
