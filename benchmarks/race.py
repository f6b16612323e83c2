"""Time to a trained head and to a fine-tuned model, against the script that tutorials teach.

    python benchmarks/race.py [--photographs FOLDER] [--rounds N] [--head-only] [--torch PYTHON] [--without PEER …]

The same photographs, split, size and weights. `Thaw` is `dvc repro` in a fresh clone with an empty cache, from the
photographs to the trained part, with every process, check and file on the way; `Keras` and `Keras, cached` are
`peers/keras_tutorial.py`, from its start, on a folder that is laid out and split already; `timm` is the same in
PyTorch, `peers/timm_script.py`, run by a PYTHON that has it: `uv pip install torch torchvision timm`, 3 GB, in an
environment of its own. They alternate; medians, and the ratio of each round, count. The accuracy is the best on
validation, as each chooses its model. FOLDER holds a folder a class; without it the photographs are those of
`params.yaml`. Run with PYTHONPATH=src, on a finished `dvc repro`, for the network alone.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import polars as pl

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
IMPORTS = "import timm, torch, torchvision"
PEER_NAMES = ("Keras", "Keras, cached", "timm")
PARTS = ("head", "fine_tuned")
Result = dict[str, tuple[float, float]]  # part → seconds, accuracy on validation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, help="a folder with a folder a class")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--head-only", action="store_true")
    parser.add_argument("--copies", type=int, help="that Thaw draws of a training photograph; a head can do with 0")
    parser.add_argument("--torch", type=Path, metavar="PYTHON", help="one that has torch, torchvision and timm")
    parser.add_argument("--without", nargs="*", default=[], choices=PEER_NAMES, metavar="PEER", help="to leave out")
    arguments = parser.parse_args()
    backbone, cut = ROOT / "models" / "backbone" / "backbone.keras", ROOT / "data" / "activations" / "cut.json"
    if not (backbone.exists() and cut.exists()):
        sys.exit("race: models/backbone or data/activations is missing: `dvc repro` first")
    seen = json.loads(cut.read_text())
    thawed_behind, size = seen["layer"], ["--size", str(seen["image"]["size"])]
    with tempfile.TemporaryDirectory() as scratch:
        first = thaw(Path(scratch) / "layout", arguments)
        folder = lay_out(Path(scratch) / "layout", Path(scratch) / "photographs")
        contestants = {"Thaw": lambda: thaw(Path(scratch) / "clone", arguments)}
        script = [sys.executable, PEERS / "keras_tutorial.py", folder, backbone, "--cut", thawed_behind, *size]
        peers = {
            "Keras": lambda: script,
            "Keras, cached": lambda: [*script, "--cached"],
            "timm": lambda: timm(folder, thawed_behind, size, arguments.torch),
        }
        for name, command_of in peers.items():
            if name not in arguments.without and (command := command_of()):
                contestants[name] = partial(run, command, arguments)
        results: dict[str, list[Result]] = {name: [] for name in contestants}
        results["Thaw"].append(first)
        for turn in range(arguments.rounds):
            for name, go in contestants.items():
                if turn or name != "Thaw":
                    results[name].append(go())
    show(results)


def thaw(clone: Path, arguments: argparse.Namespace) -> Result:
    """Run the pipeline in a fresh clone, part by part; return the seconds until each."""
    shutil.rmtree(clone, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    text = (clone / "params.yaml").read_text()
    if arguments.photographs:
        text = text.replace("  source: elpv ", "  source: folder ")
        text = re.sub(r"(  folder:\n    path:) null", rf"\1 {arguments.photographs.resolve()}", text)
    if arguments.copies is not None:
        text = re.sub(r"(?m)^(  copies:) \d+", rf"\1 {arguments.copies}", text)
    (clone / "params.yaml").write_text(text)
    (clone / "dvc.lock").unlink()
    seconds, found = 0.0, {}
    for part, stage in zip(PARTS, ("train_head", "fine_tune"), strict=True):
        if part == "fine_tuned" and arguments.head_only:
            break
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet", stage], cwd=clone, check=True)
        seconds += time.perf_counter() - start
        found[part] = seconds, accuracy(clone, part)
    return found


def accuracy(clone: Path, part: str) -> float:
    """Return the share of validation labels right, unweighted as the peers count, that the trained part answers."""
    from thaw import arrays, examples, heads, models, training

    splits = examples.read(clone / "data" / "features", clone / "data" / "split.csv")
    validation = splits["validation"]
    if part == "head":
        features = arrays.open_rows(clone / "data" / "features" / "features.npy")
        probabilities = heads.load(clone / "models" / "head").probabilities(features[validation.views[:, 0]])
    else:
        model, metadata = models.load(clone / "models" / "model.keras")
        activations = arrays.open_rows(clone / "data" / "activations" / "activations.npy")
        thawed = models.thawed_part(model, metadata["cut"])
        probabilities = training.predictor(thawed, activations)(validation.views[:, 0])
    return float((probabilities.argmax(axis=1) == validation.labels).mean())


def lay_out(clone: Path, folder: Path) -> Path:
    """Lay the photographs of a run out as `image_dataset_from_directory` wants them, by split and class."""
    images = pl.read_csv(clone / "data" / "raw" / "images.csv").select("image_id", "path")
    rows = pl.read_csv(clone / "data" / "split.csv").join(images, on="image_id")
    for path, label, part in rows.select("path", "label", "split").iter_rows():
        target = folder / part / label / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clone / "data" / "raw" / path, target)
    return folder


def timm(folder: Path, cut: str, size: list[str], python: Path | None) -> list | None:
    """Return the command of the script in PyTorch, or None, and say why, where it cannot run."""
    if not python or subprocess.run([python, "-c", IMPORTS], capture_output=True).returncode:
        print("race: no Python with torch, torchvision and timm was named (--torch): that peer is left out")
        return None
    from thaw.backbones import registry

    block = re.match(r"block(\d+)", cut)[1]  # ours count from 1 and timm's from 0: the next one's number
    weights = registry.package_file(*registry.PACKAGES["EfficientNetLite0"])
    return [python, PEERS / "timm_script.py", folder, weights, "--thaw-from", block, *size]


def run(command: list, arguments: argparse.Namespace) -> Result:
    start = time.perf_counter()
    found = {}
    command = [*command, *["--head-only"] * arguments.head_only]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout:
            said = json.loads(line)
            found[said["part"]] = time.perf_counter() - start, said["accuracy"]
    if process.returncode:
        sys.exit(f"race: {command[1].name} ended with exit status {process.returncode}")
    return found


def show(results: dict[str, list[Result]]) -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for part in PARTS:
        if part not in results["Thaw"][0]:
            continue
        print(f"{part}, seconds (least to most) · accuracy on validation · times as long as Thaw")
        for name, runs in results.items():
            seconds = [run[part][0] for run in runs]
            ratios = [run[part][0] / ours[part][0] for run, ours in zip(runs, results["Thaw"], strict=True)]
            print(f"  {name:14} {median(seconds):7.1f} ({min(seconds):.1f} to {max(seconds):.1f})  "
                  f"{median(run[part][1] for run in runs):.1%}  {median(ratios):.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
