"""Run the benchmarks that measure time, one after the other, within a budget: `make bench`.

    python benchmarks/bench.py [NAME …] [--minutes 30] [--photographs FOLDER] [--list]

The short ones come first. One that would not fit into what is left of the budget is left out, and said; so is one that
fails. Each writes its file into `benchmarks/results`, which is checked. The machine has to do nothing else: the load is
printed before each. The minutes of `--list` are estimates for 2 cores that do nothing else; by them a benchmark is left
out or not. Needs a finished `dvc repro`.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import results

from thaw.core.errors import ThawError, run
from thaw.handbook import measured

PHOTOGRAPHS = results.ROOT.parent / "shared/open_images/images"
FOLDER = "FOLDER"  # stands for --photographs


class Benchmark(NamedTuple):
    """A script beside this one that writes the file of results of its name."""

    arguments: tuple[str, ...]
    minutes: float  # that it takes


BENCHMARKS = {
    "steps": Benchmark((), 6),
    "epoch": Benchmark((), 4),
    "exports": Benchmark((), 2),
    "page": Benchmark(("--starts", "5", "--answers", "100", "--batch", "200"), 1),
    "added": Benchmark(("--images", "2000"), 2),
    "many_photographs": Benchmark((FOLDER, "--images", "200"), 4),
    "memory": Benchmark((), 10),
    "race": Benchmark(("--rounds", "1"), 20),
    "changes": Benchmark((), 18),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="that all of them may take")
    parser.add_argument(
        "--photographs", type=Path, default=PHOTOGRAPHS, metavar="FOLDER", help="JPEG files, for many_photographs"
    )
    parser.add_argument("--list", action="store_true", help="print the benchmarks and their minutes, and run nothing")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]!r}: they are {', '.join(BENCHMARKS)}")
    chosen = {name: BENCHMARKS[name] for name in options.names or BENCHMARKS}
    if options.list:
        for name, benchmark in chosen.items():
            print(f"{name:18} {benchmark.minutes:4.0f} minutes: {' '.join(command(name, options.photographs)[1:])}")
        print(f"{'all':18} {sum(benchmark.minutes for benchmark in chosen.values()):4.0f} minutes")
        return
    end, not_measured = time.monotonic() + 60 * options.minutes, []
    for name, benchmark in chosen.items():
        left = (end - time.monotonic()) / 60
        if benchmark.minutes > left:
            not_measured.append(f"{name} (takes {benchmark.minutes:.0f} minutes, {max(left, 0):.0f} are left)")
            continue
        try:
            measure(name, command(name, options.photographs))
        except ThawError as error:
            not_measured.append(f"{name} ({error})")
    if not_measured:
        raise ThawError(f"not measured: {', '.join(not_measured)}")


def command(name: str, photographs: Path) -> list[str]:
    arguments = [str(photographs) if argument == FOLDER else argument for argument in BENCHMARKS[name].arguments]
    return [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *arguments]


def measure(name: str, words: Sequence[str]) -> None:
    """Run a benchmark, and check the file that it writes. Raises ThawError if it fails, or writes none."""
    path = results.FOLDER / f"{name}.json"
    before = path.stat().st_mtime_ns if path.exists() else 0
    print(f"{name}: the load is {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    start = time.monotonic()
    status = subprocess.run(words).returncode
    if status:
        raise ThawError(f"it ended with status {status}")
    if not path.exists() or path.stat().st_mtime_ns == before:
        raise ThawError(f"it wrote no {path.name}")
    measured.table(measured.read(path))
    print(f"{name}: it took {(time.monotonic() - start) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    run(main)
