"""Time to a trained head and to a fine-tuned model, against the script that tutorials teach.

    python benchmarks/race.py [--photographs FOLDER] [--rounds N] [--head-only] [--torch PYTHON] [--without PEER …]

The same photographs, split, size and weights. `Thaw` is `dvc repro` in a fresh clone with an empty cache, from the
photographs to the trained part, with every process, check and file on the way; `Keras` and `Keras, cached` are
`peers/keras_tutorial.py`, from its start, on a folder that is laid out and split already; `timm` is the same in
PyTorch, `peers/timm_script.py`, run by a PYTHON that has it: `uv pip install torch torchvision timm`, 3 GB, in an
environment of its own. They alternate; medians, and the ratio of each round, count. The accuracy is the best on
validation, as each chooses its model. FOLDER holds a folder a class; without it the photographs are those of
`params.yaml`. What counts is the last commit. A peer that is not there or fails is left out, with the reason.
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
from pathlib import Path
from statistics import median

from clones import dvc, fresh

from thaw import params, tables
from thaw.backbones.cut_points import resolve
from thaw.errors import ThawError, run
from thaw.files import read_json

PEERS = Path(__file__).parent / "peers"
IMPORTS = "import timm, torch, torchvision"
PEER_NAMES = ("Keras", "Keras, cached", "timm")
PARTS = ("head", "fine_tuned")
Result = dict[str, tuple[float, float]]  # part → seconds, accuracy on validation


class LeftOutError(Exception):
    """Why a peer does not take part, or no longer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, help="a folder with a folder a class")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--head-only", action="store_true")
    parser.add_argument("--copies", type=int, help="that Thaw draws of a training photograph; a head can do with 0")
    parser.add_argument("--torch", type=Path, metavar="PYTHON", help="one that has torch, torchvision and timm")
    parser.add_argument("--without", nargs="*", default=[], choices=PEER_NAMES, metavar="PEER", help="to leave out")
    arguments = parser.parse_args()
    parts = PARTS[: 1 if arguments.head_only else 2]
    with tempfile.TemporaryDirectory() as scratch:
        finished, clone = Path(scratch) / "finished", Path(scratch) / "clone"
        first = thaw(finished, parts, arguments)  # whose photographs, split and backbone are everyone's
        folder = lay_out(finished, Path(scratch) / "photographs")
        results: dict[str, list[Result]] = {"Thaw": [first]}
        results |= {name: [] for name in PEER_NAMES if name not in arguments.without}
        for turn in range(arguments.rounds):
            if turn:
                try:
                    results["Thaw"].append(thaw(clone, parts, arguments))
                except ThawError as error:
                    print(f"race: it ends after {turn} rounds: {error}", flush=True)
                    break
            for name in list(results)[1:]:
                try:
                    results[name].append(peer(name, finished, folder, parts, arguments.torch))
                except LeftOutError as reason:
                    print(f"race: {name} is left out: {reason}", flush=True)
                    del results[name]
    show(results, parts)


def thaw(clone: Path, parts: tuple[str, ...], arguments: argparse.Namespace) -> Result:
    """Run the pipeline in a fresh clone, part by part; return the seconds until each."""
    shutil.rmtree(clone, ignore_errors=True)
    changes = {}
    if arguments.photographs:
        changes["download"] = {"source": "folder", "folder": {"path": str(arguments.photographs.resolve())}}
    if arguments.copies is not None:
        changes["augment"] = {"copies": arguments.copies}
    fresh(clone, **changes)
    seconds, found = 0.0, {}
    for part in parts:
        start = time.perf_counter()
        dvc(clone, "repro", {"head": "train_head", "fine_tuned": "fine_tune"}[part])
        seconds += time.perf_counter() - start
        found[part] = seconds, accuracy(clone, part)
    return found


def accuracy(clone: Path, part: str) -> float:
    """Return the share of validation labels right, unweighted as the peers count, that the trained part answers."""
    from thaw import arrays, examples, extraction, heads, models, training

    splits = examples.read(clone / "data" / "features", clone / "data" / "split.csv")
    validation = splits["validation"]
    if part == "head":
        features = arrays.open_rows(clone / "data" / "features" / "features.npy")
        probabilities = heads.load(clone / "models" / "head").probabilities(features[validation.views[:, 0]])
    else:
        model, metadata = models.load(clone / "models" / "model.keras")
        backbone = clone / "models" / "backbone"
        names = ("activations", "raw", "split.csv", "augmentations.csv")
        activations = extraction.open_activations(*(clone / "data" / name for name in names), backbone)
        thawed = models.thawed_part(model, metadata["cut"])
        probabilities = training.predictor(thawed, activations)(validation.views[:, 0])
    return float((probabilities.argmax(axis=1) == validation.labels).mean())


def lay_out(clone: Path, folder: Path) -> Path:
    """Lay the photographs of a run out as `image_dataset_from_directory` wants them, by split and class."""
    raw = clone / "data" / "raw"
    rows = tables.read(clone / "data" / "split.csv", tables.SPLIT).select("image_id", "label", "split")
    for path, label, part in rows.join(tables.read_images(raw), on="image_id").select("path", "label", "split").rows():
        target = folder / part / label / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(raw / path, target)
    return folder


def peer(name: str, finished: Path, folder: Path, parts: tuple[str, ...], torch: Path | None) -> Result:
    """Run a peer on the photographs in `folder`, with the backbone and the cut of a finished run."""
    from thaw import extraction

    backbone, cut = finished / "models" / "backbone", None
    image = extraction.sized(params.load(finished / "params.yaml").image, backbone)
    options = ["--size", str(image.size)]
    if "fine_tuned" in parts:
        cut = read_json(finished / "data" / "activations" / "cut.json")["layer"]
    else:
        options.append("--head-only")
    if name == "timm":
        command = timm(finished, folder, parts, cut, torch)
    else:
        command = [sys.executable, PEERS / "keras_tutorial.py", folder, backbone / "backbone.keras"]
        options += [*(["--cut", cut] if cut else []), *["--cached"] * (name == "Keras, cached")]
    return timed([*command, *options])


def timm(finished: Path, folder: Path, parts: tuple[str, ...], cut: str | None, python: Path | None) -> list:
    """Return the command of the script in PyTorch, whose blocks count from 0 where ours count from 1."""
    try:
        if not python or subprocess.run([python, "-c", IMPORTS], capture_output=True).returncode:
            raise LeftOutError("no Python with torch, torchvision and timm was named (--torch)")
    except OSError as error:
        raise LeftOutError(f"{python}: {error.strerror}") from None
    points = [point["layer"] for point in read_json(finished / "models" / "backbone" / "backbone.json")["cut_points"]]
    block = re.match(r"block\d+", cut or "")
    if params.load(finished / "params.yaml").backbone.name != "EfficientNetLite0":
        raise LeftOutError("its weights are EfficientNetLite0's")
    if "fine_tuned" in parts and not (block and resolve(block[0], points) == cut):
        raise LeftOutError(f"it thaws whole blocks, and {cut or 'the input'} ends none")
    from thaw.backbones import registry  # takes seconds

    weights = registry.package_file(*registry.PACKAGES["EfficientNetLite0"])
    thaw_from = block[0].removeprefix("block") if block else "0"
    return [python, PEERS / "timm_script.py", folder, weights, "--thaw-from", thaw_from]


def timed(command: list) -> Result:
    """Run a peer's script and return the seconds until each part, with the accuracy that it says."""
    start = time.perf_counter()
    found = {}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        for line in process.stdout:
            if line.startswith("{"):  # libraries greet
                said = json.loads(line)
                found[said["part"]] = time.perf_counter() - start, said["accuracy"]
        if process.wait():
            errors.seek(0)
            *_, last = ["it said nothing", *(line.strip() for line in errors if line.strip())]
            raise LeftOutError(f"{command[1].name} ended with status {process.returncode}: {last}")
    return found


def show(results: dict[str, list[Result]], parts: tuple[str, ...]) -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for part in parts:
        print(f"{part}, seconds (least to most) · accuracy on validation · times as long as Thaw")
        for name, runs in results.items():
            seconds = [run[part][0] for run in runs]
            ratios = [run[part][0] / ours[part][0] for run, ours in zip(runs, results["Thaw"], strict=True)]
            print(f"  {name:14} {median(seconds):7.1f} ({min(seconds):.1f} to {max(seconds):.1f})  "
                  f"{median(run[part][1] for run in runs):.1%}  {median(ratios):.1f}")  # fmt: skip


if __name__ == "__main__":
    run(main)
