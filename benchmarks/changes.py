"""Measure what a change costs: seconds from `dvc exp run -S` to new metrics, for each row of the table.

Runs in a temporary clone with the finished run and a cache of its own, so that no value comes out of the run cache.
Needs a finished `dvc repro`.
"""

import argparse
import tempfile
import time
from pathlib import Path

import results
from clones import dvc, finished, undo

from thaw.core.errors import run
from thaw.experiments.runs import stages_started

CHANGES = (  # for each row of the table one parameter, with a value that changes the outputs
    "download.elpv.threshold=0.2",
    "split.seed=2",
    "augment.rotation=8",
    "image.size=208",
    "backbone.pooling=max",
    "head.class_weight=balanced",
    "fine_tune.freeze_depth=block6",
    "fine_tune.learning_rate=3e-4",
    "evaluate.bins=10",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("changes", nargs="*", default=CHANGES, metavar="KEY=VALUE")
    changes = parser.parse_args().changes
    with tempfile.TemporaryDirectory() as scratch:
        repository = finished(Path(scratch) / "clone")
        print(f"{'changed':36}  seconds  stages")
        rows = []
        for change in changes:
            start = time.perf_counter()
            output = dvc(repository, "exp", "run", "--set-param", change)
            seconds = time.perf_counter() - start
            stages = stages_started(output)
            print(f"{change:36}  {seconds:7.0f}  {', '.join(stages)}", flush=True)
            rows.append([f"`{change}`", round(seconds, 1), ", ".join(f"`{stage}`" for stage in stages)])
            undo(repository)
    results.write("changes", ["changed", ("seconds", "{:.0f}"), "the stages that ran"], rows)


if __name__ == "__main__":
    run(main)
