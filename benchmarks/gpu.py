"""Check the pipeline on one GPU: rates beside those of the CPU, the accuracy, and whether two runs give the same bytes.

    benchmarks/gpu.sh [--small] [--cpu]

The stages from the backbone on run in temporary clones of the last commit: twice with `image.engine: tensorflow` on the
GPU, and once on the CPU with the parameters of the commit. It passes if the accuracy of the GPU's model lies within the
CPU's interval. Outputs of the two runs on the GPU that differ are named. They are no failure: TensorFlow promises the
same bytes for one GPU and one version of its libraries, and this looks whether it is so.

`--small` draws a few photographs instead of those of the commit, `--cpu` hides the GPU: both are for trying the script.
"""

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import clones
import growth
import numpy as np
import yaml

from thaw.core.errors import ThawError, run
from thaw.core.hashes import md5

NO_GPU = 3  # exit status
DIFFERS = 1
BEFORE = ("inputs", "fingerprints", "download", "split", "augment", "backbone")  # run once: a GPU changes none of them
MEASURED = ("extract_features", "train_head", "extract_activations", "fine_tune", "evaluate")
SMALL = {"image": {"size": 64}, "fine_tune": {"epochs": 2}, "evaluate": {"bootstrap": 200}}
LOOK = "from thaw.engines.tensorflow_setup import gpu_names, tf; print(tf.__version__, *gpu_names(), sep=chr(10))"


class Measured(NamedTuple):
    """What a run of the stages showed."""

    seconds: dict[str, float]  # by stage
    rates: dict[str, float]  # views a second of both extractions, and photographs a second of training
    scores: dict[str, float]  # of the fine-tuned model on test
    hashes: dict[str, str]  # path of each output → its MD5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a few drawn photographs")
    parser.add_argument("--cpu", action="store_true", help="hide the GPU: to try the script")
    arguments = parser.parse_args()
    gpu = {"CUDA_VISIBLE_DEVICES": "-1"} if arguments.cpu else {}
    version, *names = output(gpu, "-c", LOOK).split("\n")
    if not names and not arguments.cpu:
        print(
            f"gpu: TensorFlow {version} finds no GPU here: nothing was measured. It needs an NVIDIA GPU with its "
            "driver, and `pip install 'tensorflow[and-cuda]'` of that version"
        )
        sys.exit(NO_GPU)
    where = "the CPU, instead of a GPU (--cpu)" if arguments.cpu else names[0]
    print(f"gpu: TensorFlow {version} on {where}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepare(Path(scratch), arguments.small)
        first = measure(folder, Path(scratch) / "first", gpu, "tensorflow")
        print_run("first run", first)
        second = measure(folder, Path(scratch) / "second", gpu, "tensorflow")
        print_run("second run", second)
        different = sorted(path for path in first.hashes if first.hashes[path] != second.hashes.get(path))
        print(f"gpu: two runs: {'the same bytes' if not different else 'these differ: ' + ', '.join(different)}")
        cpu = measure(folder, Path(scratch) / "cpu", {"CUDA_VISIBLE_DEVICES": "-1"}, None)
        print_run("CPU", cpu)
    for name, rate in first.rates.items():
        print(f"gpu: {name}: {rate:,.0f} a second, {rate / cpu.rates[name]:.1f} times the CPU's")
    accuracy, low, high = (
        first.scores["accuracy_weighted"],
        *(cpu.scores[f"accuracy_weighted_{e}"] for e in ("low", "high")),
    )
    is_within = low is None or low <= accuracy <= high
    print(f"gpu: {'passed' if is_within else 'FAILED'}: accuracy {accuracy:.1%}, the CPU's interval {text(low, high)}")
    sys.exit(0 if is_within else DIFFERS)


def prepare(scratch: Path, small: bool) -> Path:
    """Return a clone in which the stages have run that do not depend on the engine."""
    changes = {}
    if small:
        growth.draw(scratch / "photographs", 120, 2)
        changes = SMALL | {"download": {"source": "folder", "folder": {"path": str(scratch / "photographs")}}}
    folder = clones.fresh(scratch / "clone", **changes)
    for stage in BEFORE:
        run_stage(stage, folder, {})
    return folder


def measure(prepared: Path, folder: Path, environment: dict[str, str], engine: str | None) -> Measured:
    """Run the stages in a copy of a prepared clone, with an engine; None: that of its parameters."""
    shutil.copytree(prepared, folder, symlinks=True)
    if engine:
        clones.change(folder, image={"engine": engine})
    seconds, lines = {}, {}
    for stage in MEASURED:
        start = time.perf_counter()
        lines[stage] = run_stage(stage, folder, environment)
        seconds[stage] = time.perf_counter() - start
    arrays = {name: np.load(folder / f"data/{name}/{name}.npy", mmap_mode="r") for name in ("features", "activations")}
    rates = {f"views ({name})": len(array) / seconds[f"extract_{name}"] for name, array in arrays.items()}
    if epoch := re.search(r"([\d.]+) s per epoch", lines["fine_tune"]):
        training = sum(line.endswith(",train\n") for line in (folder / "data/split.csv").open(encoding="utf-8"))
        rates["photographs (training)"] = training / max(float(epoch[1]), 0.05)  # the line has one decimal
    scores = json.loads((folder / "reports/metrics.json").read_text(encoding="utf-8"))["fine_tuned"]["test"]
    return Measured(seconds, rates, scores, {path: md5(folder / path) for path in outputs(folder)})


@functools.cache
def outputs(folder: Path) -> list[str]:
    """Return the outputs of the measured stages, relative to the folder."""
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    entries = [
        entry for stage in MEASURED for kind in ("outs", "metrics", "plots") for entry in stages[stage].get(kind, [])
    ]
    return sorted(entry if isinstance(entry, str) else next(iter(entry)) for entry in entries)


def run_stage(stage: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a stage; return what it printed."""
    return output(environment, f"src/{stage}.py", folder=folder)


def output(environment: dict[str, str], *arguments: str, folder: Path = clones.ROOT) -> str:
    """Run Python in a folder and return its stdout. Raises ThawError if it fails; the reason is on stderr."""
    python_path = {"PYTHONPATH": str(folder / "src")}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=clones.environment() | python_path | environment,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if result.returncode:
        raise ThawError(f"`python {' '.join(arguments)[:60]}` failed, for the reason above")
    return result.stdout.strip()


def print_run(name: str, measured: Measured) -> None:
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in measured.seconds.items())
    accuracy, low, high = (measured.scores[f"accuracy_weighted{end}"] for end in ("", "_low", "_high"))
    print(f"gpu: {name}: accuracy {accuracy:.1%} ({text(low, high)}); seconds: {seconds}", flush=True)


def text(low: float | None, high: float | None) -> str:
    return "unknown" if low is None else f"{low:.1%} to {high:.1%}"


if __name__ == "__main__":
    os.environ.pop("DVC_STAGE", None)
    run(main)
