"""Measure the peak memory and the time of each stage of the last commit, on its photographs and on ten times as many.

The rows of the table of photographs are repeated. The stages run in a temporary clone, without augmented copies and for
one epoch: neither changes how much memory is needed at a time. Groups are off, since copies of a photograph would be in
one group; `growth.py` draws distinct photographs. The peak is the largest resident set of the process that the
operating system counted.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import results
from clones import fresh

from thaw.core.errors import run

STAGES = (
    "download", "split", "augment", "backbone", "extract_features", "train_head", "extract_activations", "fine_tune",
    "evaluate",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage (default: %(default)s)")
    options = parser.parse_args()
    times, stages = options.times, STAGES[: STAGES.index(options.until) + 1]
    single, repeated = measure(1, stages), measure(times, stages)
    print(f"{'stage':20} {'peak MB':>8} {f'x{times}':>8} {'ratio':>6} {'s':>8} {f'x{times}':>8}")
    for stage in stages:
        (mb, s), (repeated_mb, repeated_s) = single[stage], repeated[stage]
        print(f"{stage:20} {mb:8.0f} {repeated_mb:8.0f} {repeated_mb / mb:6.2f} {s:8.1f} {repeated_s:8.1f}")
    rows = [[f"`{stage}`", round(single[stage][0]), round(repeated[stage][0])] for stage in stages]
    peak = "{:,} MB"
    results.write("memory", ["stage", ("peak memory", peak), (f"with {times} times as many", peak)], rows)


def measure(times: int, stages: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Run stages with the photographs repeated `times`. Returns the peak in MB and the seconds of each."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = fresh(
            Path(scratch) / "clone", augment={"copies": 0}, split={"group_duplicates": False},
            fine_tune={"epochs": 1, "learning_rate": 1e-5},
        )  # fmt: skip
        measured = {}
        for stage in stages:
            measured[stage] = run_stage(stage, folder)
            if stage == "download":
                repeat(folder / "data/raw/images.csv", times)
        return measured


def repeat(table: Path, times: int) -> None:
    """Repeat the rows of a table of photographs. Each row gets its own id; copies share a file."""
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
