"""Measure what each freeze depth gives and what it costs: one run each of the default photographs.

Runs in a temporary clone with the finished run and a cache of its own, so that no value comes out of the run cache.
Only the stages that depend on the depth run. The accuracies are weighted. The cost of training is counted, not timed:
`tera_multiply_adds` of `reports/fine_tune/metrics.json`. Needs a finished `dvc repro`.
"""

import argparse
import json
import tempfile
from pathlib import Path

import results
from clones import dvc, finished, undo

from thaw.core.errors import run
from thaw.core.files import read_json

DEPTHS = ("all", "block6", "block5", "block3", "none")
ENDS = ("", "_low", "_high")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("depths", nargs="*", default=DEPTHS, metavar="DEPTH")
    depths = parser.parse_args().depths
    with tempfile.TemporaryDirectory() as scratch:
        repository = finished(Path(scratch) / "clone")
        rows = []
        for depth in depths:
            dvc(repository, "exp", "run", "--set-param", f"fine_tune.freeze_depth={depth}")
            rows.append(row(repository, depth))
            print(json.dumps(rows[-1]), flush=True)
            undo(repository)
    right = "{:.1f} %"
    columns = [
        "`freeze_depth`",
        ("validation", right),
        ("test, with its 95 % interval", f"{right} ({{:.1f}}–{{:.1f}})"),
        ("activations", "{:,.0f} MB"),
        ("training, 10¹² multiply-adds", "{:.3g}"),
    ]
    results.write("depths", columns, rows)


def row(repository: Path, depth: str) -> list:
    """Return a row of the table, from what a run wrote. The accuracies are percentages."""
    scores = read_json(repository / "reports/metrics.json")["fine_tuned"]
    training = read_json(repository / "reports/fine_tune/metrics.json")
    test = [round(100 * scores["test"][f"accuracy_weighted{end}"], 1) for end in ENDS]
    validation = round(100 * scores["validation"]["accuracy_weighted"], 1)
    return [f"`{depth}`", validation, test, training["activations_megabytes"], training["tera_multiply_adds"]]


if __name__ == "__main__":
    run(main)
