"""The price of a change: seconds from `dvc exp run -S` to new metrics, for each row of the README's table.

In a scratch clone with the finished run checked out and a cache of its own, so that no value is found to have been
tried before. Wants a finished `dvc repro`.
"""

import argparse
import tempfile
import time
from pathlib import Path

from clones import ROOT, clone, dvc
from clones import run as run_in

from thaw.errors import run
from thaw.experiments import stages_run

CHANGES = (  # of each row one parameter, and a value that changes the bytes
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
        work = clone(Path(scratch) / "clone")
        own = dvc(work, "cache", "dir").strip()
        dvc(work, "cache", "dir", "--local", dvc(ROOT, "cache", "dir").strip())
        dvc(work, "checkout")
        dvc(work, "cache", "dir", "--local", own)
        dvc(work, "commit", "--force")
        print(f"{'changed':36}  seconds  stages")
        for change in changes:
            start = time.perf_counter()
            said = dvc(work, "exp", "run", "--set-param", change)
            seconds = time.perf_counter() - start
            print(f"{change:36}  {seconds:7.0f}  {', '.join(stages_run(said))}", flush=True)
            run_in(work, "git", "reset", "--quiet", "--hard")
            dvc(work, "checkout")


if __name__ == "__main__":
    run(main)
