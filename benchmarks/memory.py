"""Peak memory and time of each stage of the last commit, on its data and on ten times as much (the table repeated).

Runs the stages in a scratch clone, without augmented copies and for one epoch, since neither changes what is held
at a time, and without groups: repeated photographs would be one, and `growth.py` draws distinct ones. The peak is the
largest resident set of the stage's process as the operating system counted it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from clones import fresh

from thaw.errors import run

STAGES = (
    "download", "split", "augment", "backbone", "extract_features", "train_head", "extract_activations", "fine_tune",
    "evaluate",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    times = parser.parse_args().times
    once, often = measure(1), measure(times)
    print(f"{'stage':20} {'peak MB':>8} {f'x{times}':>8} {'ratio':>6} {'s':>8} {f'x{times}':>8}")
    for stage in STAGES:
        (mb, s), (mb_often, s_often) = once[stage], often[stage]
        print(f"{stage:20} {mb:8.0f} {mb_often:8.0f} {mb_often / mb:6.2f} {s:8.1f} {s_often:8.1f}")


def measure(times: int) -> dict[str, tuple[float, float]]:
    """Return the peak in MB and the seconds of each stage."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = fresh(
            Path(scratch) / "clone", augment={"copies": 0}, split={"group_duplicates": False},
            fine_tune={"epochs": 1, "learning_rate": 1e-5},
        )  # fmt: skip
        results = {}
        for stage in STAGES:
            results[stage] = run_stage(stage, folder)
            if stage == "download":
                repeat(folder / "data/raw/images.csv", times)
        return results


def repeat(table: Path, times: int) -> None:
    """Repeat the rows of a table of photographs, each under an id of its own; the files are shared."""
    rows = pl.read_csv(table)
    repeated = [rows.with_columns(image_id=pl.col("image_id") + f"-{i}") for i in range(times)]
    pl.concat(repeated).write_csv(table)


def run_stage(stage: str, folder: Path) -> tuple[float, float]:
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, f"src/{stage}.py"], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{stage} failed")
    return usage.ru_maxrss / 1024, time.perf_counter() - start


if __name__ == "__main__":
    run(main)
