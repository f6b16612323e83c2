"""Measure what an extraction costs where the cache has most of its outputs: none, 1 % more photographs, a forced run.

Drawn photographs pass the stages up to `extract_features` in a temporary clone. Then 1 % more are drawn. Then all is
computed from scratch, without the cache: the arrays have to be the same bytes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import growth
import results
from clones import fresh

from thaw.core import cache
from thaw.core.errors import ThawError, run
from thaw.core.hashes import md5

ARRAY = "data/features/features.npy"
STAGES = ("inputs", "fingerprints", "download", "split", "augment", "backbone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--size", type=int, default=224, help="of the network's input, in pixels")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photographs, more = Path(scratch) / "photographs", arguments.images // 100
        growth.draw(photographs, arguments.images + more, 2)
        later = {path: Path(scratch) / path.name for path in sorted(photographs.rglob("*.jpg"), key=by_name)[-more:]}
        for path, aside in later.items():
            path.rename(aside)
        source = {"source": "folder", "folder": {"path": str(photographs)}}
        clone = fresh(Path(scratch) / "clone", download=source, image={"size": arguments.size})
        os.environ |= {cache.FOLDER: f"{scratch}/cache", cache.LIMIT: cache.DEFAULT_LIMIT}
        print(f"{arguments.images:,} photographs, {arguments.size} pixels: extract_features")
        prepare(clone)
        rows = [measure(clone, "the first time"), measure(clone, "a forced run")]
        for path, aside in later.items():
            aside.rename(path)
        prepare(clone)
        rows.append(measure(clone, f"{more} photographs added"))
        os.environ[cache.LIMIT] = "0"
        array = md5(clone / ARRAY)
        rows.append(measure(clone, "all of these, without a cache"))
        if md5(clone / ARRAY) != array:
            raise ThawError("the arrays differ")
        print("the arrays are the same bytes")
    columns = [
        f"`extract_features`, {arguments.images:,} photographs",
        ("seconds", "{:.1f}"),
        ("seconds of CPU", "{:.1f}"),
    ]
    results.write("added", columns, rows)


def by_name(path: Path) -> str:
    return path.name


def prepare(clone: Path) -> None:
    for stage in STAGES:
        subprocess.run([sys.executable, f"src/{stage}.py"], cwd=clone, stdout=subprocess.DEVNULL, check=True)


def measure(clone: Path, what: str) -> tuple[str, float, float]:
    """Run the extraction, and return what is measured, its seconds and its CPU."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "src/extract_features.py"], cwd=clone, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("added: extract_features failed")
    seconds, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    print(f"  {what:32} {seconds:8.1f} s {cpu:8.1f} s of CPU", flush=True)
    return what, seconds, cpu


if __name__ == "__main__":
    run(main)
