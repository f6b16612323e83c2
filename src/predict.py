"""Use the model: `python src/predict.py PATH…` prints the label of each photograph, and its probability.

A PATH is a file, a folder with all that lies below it, a pattern in quotes, or `-` for a list on standard input: a name
in each line, or names separated by zero bytes as `find -print0` writes them. What
`evaluate` decided (`decision.json` beside the model) is applied: probabilities are calibrated, a threshold chooses
between two classes, and with test-time flips the mirror images of a photograph are used too. If a photograph cannot be
read, its line has the error. Exit status: 0 if there is a prediction for any photograph, 1 if there is none or
something else failed, 2 for a wrong option.

`--unsure P` marks predictions of a probability below P. It does not detect photographs of another kind: a model often
gives them a high probability. `--far Q` detects them. It measures by the frozen features how far a photograph lies from
the training photographs, and marks those that lie farther than the share Q of the validation photographs. Of
photographs like the validation ones, about 1 - Q are marked. It reads `data/features`, `data/split.csv` and
`models/backbone` of the run, and runs that network too.

`--sets LEVEL` gives each photograph a set of classes instead of one class. With 0.95, the set has the true class for 95
of 100 photographs of the kind that the model was made from (conformal prediction). `reports/report.html` says how often
it had on photographs that were held out, and how large the sets were.

A model of several labels (`task: multi`) prints each label whose probability is above the threshold of its class, and
with `--json` or `--csv` the probabilities of all classes.

The first use of a model converts it for OpenVINO and keeps the result. From then on it starts without Keras.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import thaw  # first: it chooses the kernels of other libraries

# isort: split
import numpy as np
from tqdm import tqdm

if __name__ == "__main__":
    import thaw.engines.keras_without_tensorflow  # noqa: F401

from thaw.core.errors import ThawError, run
from thaw.core.files import temporary_path
from thaw.core.paths import named_path
from thaw.core.task import MULTI
from thaw.engines import flips, inference
from thaw.prediction import deployed_model, names, output, several_labels, stream
from thaw.prediction.sheet import ENDINGS, Sheet, is_sheet

MODEL = Path("models/model.keras")
FEATURES = Path("data/features")
SPLIT = Path("data/split.csv")
BACKBONE = Path("models/backbone")
LOCK = Path("dvc.lock")
CACHE = Path("~/.cache/thaw/networks")


def main() -> None:
    options = parse()
    csv_file = Path(options.csv) if options.csv not in (None, "-") else None
    output.check_replaceable(csv_file, output.is_table)
    output.check_replaceable(options.sheet, is_sheet)
    description = deployed_model.read_description(options.model)
    decision, make_table = (
        several_rule(options, description) if description.task == MULTI else rule(options, description)
    )
    measure, limit = None, None
    if options.far:
        from thaw.prediction import ood  # imports SciPy, which takes a second

        run_of_model = ood.TrainingRun(FEATURES, SPLIT, BACKBONE, LOCK)
        measure, limit = ood.detector(run_of_model, options.model, description, options.far)
        print(f"predict: unsure beyond a distance of {limit:.4f} from the training photographs", file=sys.stderr)
    network = deployed_model.converted_network(options.model, named_path(str(options.cache), "--cache"))
    engine = inference.compile_openvino(network, deployed_model.OUTPUT, description.size, np.float32)

    table = make_table(limit)
    style = "csv" if options.csv else "json" if options.json else "line"
    sheet, predicted, unread, left_out = Sheet(), 0, 0, {}
    no_bar = True if csv_file is None and sys.stdout.isatty() else None  # lines show the progress already
    with output.open_writer(style, csv_file, table) as write, tqdm(desc="predict", disable=no_bar, unit="image") as bar:
        named = stream.expand(names.read(options.paths, sys.stdin.buffer, options.null), left_out)
        named = stream.refuse_overwriting(named, [path for path in (csv_file, options.sheet) if path])
        images = stream.load_images(named, description.size, description.resize, options.bits)
        for prediction in stream.predict(images, flips.average_flips(engine, decision.test_time_flips), measure):
            row = table.row(prediction)
            write(row)
            bar.update()
            predicted, unread = predicted + ("error" not in row), unread + ("error" in row)
            if options.sheet:
                sheet.add(prediction.image.view, table.title(row), Path(prediction.image.path).name)
    if options.sheet and predicted + unread:
        sheet.write(options.sheet)
        if sheet.left_out:
            print(f"predict: {options.sheet} shows all but the last {sheet.left_out:,}", file=sys.stderr)
    if unread:
        print(f"predict: {predicted:,} predicted, {unread:,} could not be read", file=sys.stderr)
    being_written = {temporary_path(file).absolute() for file in (csv_file, options.sheet) if file}
    left_out = {path: why for path, why in left_out.items() if path.absolute() not in being_written}
    if left_out:
        print(f"predict: {output.left_out(left_out)}", file=sys.stderr)
    if not predicted + unread:
        print("predict: no photograph was named", file=sys.stderr)
    if not predicted:
        sys.exit(1)


def rule(
    options: argparse.Namespace, description: deployed_model.Description
) -> tuple[deployed_model.Decision, Callable[[float | None], output.Table]]:
    """Return the decision rule of a model of one label for each photograph, and what makes its table of a limit."""
    decision = deployed_model.read_decision(options.model, description.classes)
    if decision is None and options.sets is not None:
        raise ThawError("--sets needs the decision.json of this model beside it")
    if decision is None:
        print("predict: no decision.json of this model beside it: probabilities are not calibrated", file=sys.stderr)
        decision = deployed_model.Decision()
    level = decision.set_level(options.sets) if options.sets is not None else None
    if level is not None and level != options.sets:
        print(f"predict: there are no sets of {options.sets:g}: these are of {level:g}", file=sys.stderr)
    if level is not None and not any(decision.sets[level]):
        print(f"predict: too few photographs were held out for {level:g}: each set has all classes", file=sys.stderr)
    classes, top, unsure = description.classes, options.top, options.unsure
    return decision, lambda limit: output.Table(classes, decision, top, unsure, limit, level)


def several_rule(
    options: argparse.Namespace, description: deployed_model.Description
) -> tuple[several_labels.Decision, Callable[[float | None], several_labels.Table]]:
    """Return the same for a model of several labels for each photograph."""
    several_labels.check_options({"--top": options.top, "--unsure": options.unsure, "--sets": options.sets})
    decision = several_labels.read_decision(options.model, description.classes)
    if decision is None:
        print(
            "predict: no decision.json of this model beside it: probabilities are not calibrated, and all thresholds "
            f"are {several_labels.THRESHOLD}",
            file=sys.stderr,
        )
        decision = several_labels.undecided(description.classes)
    return decision, lambda limit: several_labels.Table(description.classes, decision, limit)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Predict what photographs show.",
        epilog="example: python src/predict.py new/ --sets 0.95 --far 0.99 --csv new.csv",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, folder or pattern, or - for a list on stdin")
    parser.add_argument("-0", "--null", action="store_true", help="zero bytes separate the names of the list on stdin")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--json", action="store_true", help="one object a line")
    style.add_argument("--csv", nargs="?", const="-", metavar="FILE", help="a table, on stdout or in a .csv file")
    parser.add_argument("--top", type=int, metavar="K", help="show the K most probable classes")
    parser.add_argument("--unsure", type=float, metavar="P", help="mark predictions of a lower probability as unsure")
    parser.add_argument(
        "--far", type=float, metavar="Q", help="mark as unsure, too, what lies farther from the training photographs "
        "than the share Q of the validation ones, such as 0.99"
    )  # fmt: skip
    parser.add_argument(
        "--sets", type=float, metavar="LEVEL", help="for each photograph, the classes that hold the true one with this "
        "probability, such as 0.95"
    )  # fmt: skip
    stream.add_bits(parser)
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="a contact sheet of photographs and predictions")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of converted models (default: %(default)s)")
    options = parser.parse_args()
    if options.top is not None and options.top < 1:
        parser.error(f"--top should be at least 1, not {options.top}")
    if options.null and names.STDIN not in options.paths:
        parser.error(f"-0 describes the list on standard input: name it, as {names.STDIN}")
    if options.unsure is not None and not 0 < options.unsure <= 1:
        parser.error(f"--unsure should lie above 0 and be at most 1, not {options.unsure}")
    if options.far is not None and not 0 < options.far < 1:
        parser.error(f"--far should lie between 0 and 1, not {options.far}")
    if options.sets is not None and not 0 < options.sets < 1:
        parser.error(f"--sets should lie between 0 and 1, not {options.sets:g}")
    if options.csv and options.csv != "-" and not options.csv.endswith(".csv"):
        parser.error(f"--csv takes the name of a .csv file or nothing, not {options.csv}: name photographs before it")
    if options.sheet and options.sheet.suffix.lower() not in ENDINGS:
        parser.error(f"--sheet should end in {', '.join(ENDINGS)}, not {options.sheet}")
    return options


if __name__ == "__main__":
    run(main)
