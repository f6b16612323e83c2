"""The price of a change: seconds from `dvc exp run -S` to new metrics, for each row of the README's table.

In a scratch clone with the finished run checked out and a cache of its own, so that no value is found to have been
tried before. Run with PYTHONPATH=src, on a finished `dvc repro`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from thaw.experiments import stages_run

ROOT = Path(__file__).parents[1]
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
        clone = Path(scratch) / "clone"
        run(ROOT, "git", "clone", "--quiet", ROOT, clone)
        dvc(clone, "cache", "dir", "--local", str(ROOT / ".dvc" / "cache"))
        dvc(clone, "checkout", "--quiet")
        dvc(clone, "cache", "dir", "--local", str(Path(scratch) / "cache"))
        dvc(clone, "commit", "--quiet", "--force")
        print(f"{'changed':36}  seconds  stages")
        for change in changes:
            start = time.perf_counter()
            said = dvc(clone, "exp", "run", "--set-param", change)
            seconds = time.perf_counter() - start
            print(f"{change:36}  {seconds:7.0f}  {', '.join(stages_run(said))}", flush=True)
            run(clone, "git", "reset", "--quiet", "--hard")
            dvc(clone, "checkout", "--quiet")


def dvc(clone: Path, *arguments: str) -> str:
    return run(clone, sys.executable, "-m", "dvc", *arguments)


def run(folder: Path, *command: object) -> str:
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
