"""Are new photographs of the same kind? `python src/drift.py FOLDER` compares them with the run's test split.

A classifier tries to tell the new photographs from those of the test split, which the model was not trained on. If it
can, the new ones differ, and the accuracy that was measured is not theirs. Said too: how many are nothing like the
training photographs, how their brightness, sharpness and size differ, what the model predicts, and which accuracy to
expect. The page shows the photographs that differ most. Labels are not needed.

Photographs of the run itself are recognised and left out. Exit status: 0 whatever was found; 1 if it cannot be said.
"""

import argparse
import json
import sys
from pathlib import Path

import thaw  # first: it chooses the kernels of other libraries

# isort: split
if __name__ == "__main__":
    import thaw.engines.keras_without_tensorflow  # noqa: F401 - for a model that is converted now

from thaw.core.errors import run
from thaw.core.files import write_text
from thaw.core.paths import named_path
from thaw.core.task import SINGLE
from thaw.drift import comparison, page, samples
from thaw.drift.lines import write_lines
from thaw.prediction import deployed_model, output, stream
from thaw.prediction.ood import TrainingRun

MODEL = Path("models/model.keras")
RUN = TrainingRun(Path("data/features"), Path("data/split.csv"), Path("models/backbone"), Path("dvc.lock"))
RAW = Path("data/raw")
PREDICTIONS = Path("data/predictions")
PAGE = Path("reports/drift.html")
CACHE = Path("~/.cache/thaw/networks")


def main() -> None:
    options = parse()
    output.check_replaceable(options.output, page.is_page)
    description = deployed_model.read_description(options.model)
    is_single = description.task == SINGLE
    decision = deployed_model.read_decision(options.model, description.classes) if is_single else None
    files = samples.Files(RUN, RAW, PREDICTIONS, options.model, named_path(str(options.cache), "--cache"))
    held_out = samples.held_out(files, description, decision)
    new, left_out = samples.new(named_path(options.folder, "FOLDER"), files, description, decision, options.bits)
    drift = comparison.compare(held_out, new, left_out, files, description, decision)
    write_text(options.output, page.render(drift, options.folder, description))
    if options.json:
        print(json.dumps(comparison.as_json(drift), ensure_ascii=False))
    else:
        print("\n".join(write_lines(drift)))
    print(f"drift: {options.output} shows more", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compare new photographs with those that the model was measured on.",
        epilog="example: python src/drift.py new/ --json --output new.html",
    )
    parser.add_argument("folder", metavar="FOLDER", help="with all photographs that lie below it")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page (default: %(default)s)")
    stream.add_bits(parser)
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of converted models (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
