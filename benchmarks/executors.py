"""Measure the photographs' views per second that one process, all cores, and two machines of one core each compute.

    python benchmarks/executors.py [--rounds 3]

All views of a finished run go through the frozen layers, from the photographs to the array: in a process that uses one
core, in one that uses all of them, and on two nodes of Ray with one core each, which are started on this machine. The
three take turns. The arrays have to be the same bytes; a run that differs ends the benchmark. Run from the repository
root, on a finished `dvc repro`, with requirements-ray.txt installed. Nothing is kept from one run to the next.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import results  # it finds the library

from thaw.backbones.cut_points import FEATURES
from thaw.cluster.machines import Machines
from thaw.core import params
from thaw.core.errors import ThawError, run
from thaw.core.files import read_json
from thaw.features import extraction

RAW, SPLIT, PLAN = Path("data/raw"), Path("data/split.csv"), Path("data/augmentations.csv")
BACKBONE, EMBEDDINGS, ACTIVATIONS = Path("models/backbone"), Path("data/features"), Path("data/activations")
WAYS = {"one process, one core": "one", "one process, all cores": "all", "two machines of one core": "two"}
NODE_ADDRESS = "127.0.0.2"  # of both nodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layer", choices=("features", "activations"), default="features", help="of the finished run")
    parser.add_argument("--way", choices=WAYS.values(), help=argparse.SUPPRESS)  # what a process of its own measures
    parser.add_argument("--address", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(*measure(arguments.way, arguments.layer, arguments.address))
        return
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(32).hex(), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ |= {"RAY_worker_niceness": "0"}  # as the two other ways have it
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for number in range(2):
            head = {} if number else {"include_dashboard": False}
            cluster.add_node(num_cpus=1, node_ip_address=NODE_ADDRESS, include_log_monitor=False, **head)
        rates = {name: [] for name in WAYS}
        digests = {hashlib.sha256((output(arguments.layer)).read_bytes()).hexdigest()}
        for _ in range(arguments.rounds):
            for name, way in WAYS.items():
                command = [sys.executable, __file__, "--way", way, "--layer", arguments.layer]
                done = subprocess.run([*command, "--address", cluster.address], stdout=subprocess.PIPE, text=True)
                if done.returncode:
                    sys.exit(f"{name}: it failed")
                rate, digest = done.stdout.split()[-2:]
                rates[name].append(float(rate))
                digests.add(digest)
                print(f"{name:28} {float(rate):8.1f} views/s", flush=True)
    finally:
        cluster.shutdown()
    if len(digests) > 1:
        raise ThawError(f"the arrays differ: {', '.join(sorted(digests))}")
    print("all arrays are the same bytes as those of the finished run")
    first = median(rates[next(iter(WAYS))])
    rows = [[name, round(median(values), 1), round(median(values) / first, 2)] for name, values in rates.items()]
    results.write("executors", ["where", ("views/s", "{:,.0f}"), ("of one core", "{:.2f}")], rows)


def output(layer: str) -> Path:
    return EMBEDDINGS / "features.npy" if layer == "features" else ACTIVATIONS / "activations.npy"


def measure(way: str, layer: str, address: str) -> tuple[float, str]:
    """Return the views per second of an extraction, and the digest of its array."""
    image = extraction.resolved(extraction.sized(params.load(Path("params.yaml")).image, BACKBONE), EMBEDDINGS)
    cut = {"layer": FEATURES, "preset": None} if layer == "features" else read_json(ACTIVATIONS / "cut.json")
    if way == "one":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch:
        machines = Machines(address, str(Path(scratch, "store"))) if way == "two" else None
        dataset = extraction.Dataset(RAW, SPLIT, PLAN, machines=machines)
        planned = extraction.PlannedViews(dataset, image, cut["preset"])
        frozen = extraction.engine(BACKBONE, cut["layer"], image, cores=1 if way == "one" else None)
        others = extraction.elsewhere(dataset, BACKBONE, cut["layer"], image)
        array, start = Path(scratch, "array.npy"), time.perf_counter()
        extraction.extract(planned, frozen, array, others=others)
        seconds = time.perf_counter() - start
        with array.open("rb") as file:
            return len(planned.rows) / seconds, hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    run(main)
