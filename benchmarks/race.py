"""Measure the time to a trained head and to a fine-tuned model, and compare it with the script that tutorials teach.

    python benchmarks/race.py [--photographs FOLDER …] [--rounds N …] [--head-only] [--torch PYTHON] [--without PEER …]

All use the same photographs, split, size and weights.

- `Thaw` is `dvc repro` on the last commit, in a fresh clone with an empty cache. Its time includes all processes,
  checks and files from the photographs to the trained part.
- `Keras` and `Keras, cached` are `peers/keras_tutorial.py`, timed from its start. Its photographs are in folders by
  split and class already.
- `timm` is the same in PyTorch, `peers/timm_script.py`. It needs a PYTHON that has timm, in a separate environment of
  6 GB: `uv venv peers && uv pip install --python peers/bin/python --require-hashes -r benchmarks/peers/torch.txt`.

They run in turn. The result is the median of each, and the median ratio of the rounds. The accuracy is the best on
validation. FOLDER holds a folder for each class; `default`, or none, are the photographs of `params.yaml`. Several are
measured one after the other, each with its number of rounds. A peer that is missing or fails is left out, with the
reason.
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

import results as results_file
from clones import dvc, environment, fresh

from thaw.backbones import efficientnet_lite
from thaw.backbones.cut_points import resolve
from thaw.core import params, tables
from thaw.core.errors import ThawError, run
from thaw.core.files import read_json

PEERS = Path(__file__).parent / "peers"
IMPORTS = "import timm, torch, torchvision"
PEER_NAMES = ("Keras", "Keras, cached", "timm")
PARTS = ("head", "fine_tuned")
DEFAULT = "default"  # the photographs of params.yaml
Result = dict[str, tuple[float, float]]  # part → seconds, accuracy on validation


class LeftOutError(Exception):
    """A peer does not take part, or no longer; the message is the reason."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--photographs", nargs="+", default=[DEFAULT], metavar="FOLDER", help="with one folder for each class"
    )
    parser.add_argument("--rounds", type=int, nargs="+", default=[3], help="of each FOLDER; one number: of all")
    parser.add_argument("--head-only", action="store_true")
    parser.add_argument("--copies", type=int, help="augmented copies in Thaw; a head can do without (0)")
    parser.add_argument("--torch", type=Path, metavar="PYTHON", help="interpreter with torch, torchvision and timm")
    parser.add_argument("--without", nargs="*", default=[], choices=PEER_NAMES, metavar="PEER", help="to leave out")
    arguments = parser.parse_args()
    parts = PARTS[: 1 if arguments.head_only else 2]
    rounds = arguments.rounds * (len(arguments.photographs) if len(arguments.rounds) == 1 else 1)
    if len(rounds) != len(arguments.photographs):
        parser.error(f"--rounds: {len(rounds)} numbers for {len(arguments.photographs)} folders")
    measured = {}
    for photographs, number in zip(arguments.photographs, rounds, strict=True):
        name, raced = race(photographs, number, parts, arguments)
        show(name, raced, parts)
        measured[name] = raced
    results_file.write("race", *as_table(measured, parts))


def race(
    photographs: str, rounds: int, parts: tuple[str, ...], arguments: argparse.Namespace
) -> tuple[str, dict[str, list[Result]]]:
    """Let all run in turn on one set of photographs.

    Args:
        photographs: Folder, or DEFAULT.
        rounds: How often each runs.
        parts: Which of PARTS to train.
        arguments: Of the command.

    Returns:
        The photographs in words, and the results by the name of the program, round by round.
    """
    with tempfile.TemporaryDirectory() as scratch:
        finished, clone = Path(scratch) / "finished", Path(scratch) / "clone"
        first = thaw(finished, photographs, parts, arguments)  # all peers use its photographs, split and backbone
        folder = lay_out(finished, Path(scratch) / "photographs")
        count = sum(path.is_file() for path in folder.rglob("*"))
        results: dict[str, list[Result]] = {"Thaw": [first]}
        results |= {name: [] for name in PEER_NAMES if name not in arguments.without}
        for round_index in range(rounds):
            if round_index:
                try:
                    results["Thaw"].append(thaw(clone, photographs, parts, arguments))
                except ThawError as error:
                    print(f"race: ended after {round_index} rounds: {error}", flush=True)
                    break
            for name in list(results)[1:]:
                try:
                    results[name].append(peer(name, finished, folder, parts, arguments.torch))
                except LeftOutError as reason:
                    print(f"race: {name} is left out: {reason}", flush=True)
                    del results[name]
    name = "default photographs" if photographs == DEFAULT else f"photographs of {Path(photographs).name}"
    return f"{count:,} {name}, rounds: {len(results['Thaw'])}", results


def as_table(measured: dict[str, dict[str, list[Result]]], parts: tuple[str, ...]) -> tuple[list, list]:
    """Return the columns and rows of the results: medians of the seconds and of the accuracies.

    Args:
        measured: Results by the name of the program, by the photographs.
        parts: Which of PARTS were trained.
    """
    form, names = "{:.4g} ({:.1f} %)", {"Keras, cached": "Keras, features cached by hand"}
    programs = [name for name in ("Thaw", *PEER_NAMES) if any(name in results for results in measured.values())]
    columns = ["seconds, and accuracy on validation", *((names.get(name, name), form) for name in programs)]
    rows = []
    for photographs, results in measured.items():
        for part in parts:
            row: list = [f"{photographs}: {part.replace('_', '-')}"]
            for name in programs:
                runs = [run[part] for run in results.get(name, [])]
                row.append([median(s for s, _ in runs), 100 * median(a for _, a in runs)] if runs else None)
            rows.append(row)
    return columns, rows


def thaw(clone: Path, photographs: str, parts: tuple[str, ...], arguments: argparse.Namespace) -> Result:
    """Run the pipeline in a fresh clone. Returns the seconds until each part is trained, and its accuracy.

    Args:
        clone: Where to clone.
        photographs: Folder, or DEFAULT.
        parts: Which of PARTS to train.
        arguments: Of the command.
    """
    shutil.rmtree(clone, ignore_errors=True)
    changes = {}
    if photographs != DEFAULT:
        changes["download"] = {"source": "folder", "folder": {"path": str(Path(photographs).resolve())}}
    if arguments.copies is not None:
        changes["augment"] = {"copies": arguments.copies}
    fresh(clone, **changes)
    seconds, results = 0.0, {}
    for part in parts:
        start = time.perf_counter()
        dvc(clone, "repro", {"head": "train_head", "fine_tuned": "fine_tune"}[part])
        seconds += time.perf_counter() - start
        results[part] = seconds, accuracy(clone, part)
    return results


def accuracy(clone: Path, part: str) -> float:
    """Return the accuracy of a trained part on validation, without weights, since the peers have none."""
    from thaw.core import arrays
    from thaw.engines import model_files
    from thaw.features import examples, extraction
    from thaw.heads import registry
    from thaw.training import loop

    validation = examples.read(clone / "data" / "features", clone / "data" / "split.csv").split("validation")
    if part == "head":
        features = arrays.open_rows(clone / "data" / "features" / "features.npy")
        probabilities = registry.load_packed(clone / "models/head/head.zip").probabilities(features[validation.rows])
    else:
        model, metadata = model_files.load(clone / "models" / "model.keras")
        backbone = clone / "models" / "backbone"
        files = [clone / "data" / name for name in ("raw", "split.csv", "augmentations.csv")]
        activations = extraction.open_activations(clone / "data" / "activations", extraction.Dataset(*files), backbone)
        thawed = model_files.thawed_part(model, metadata["cut"])
        probabilities = loop.predictor(thawed, activations)(validation.rows)
    return float((probabilities.argmax(axis=1) == validation.labels).mean())


def lay_out(clone: Path, folder: Path) -> Path:
    """Copy the photographs of a run into `folder/split/class`, the layout of `image_dataset_from_directory`."""
    raw = clone / "data" / "raw"
    rows = tables.read(clone / "data" / "split.csv", tables.SPLIT).select("image_id", "label", "split")
    for path, label, split in rows.join(tables.read_images(raw), on="image_id").select("path", "label", "split").rows():
        target = folder / split / label / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(raw / path, target)
    return folder


def peer(name: str, finished: Path, folder: Path, parts: tuple[str, ...], torch: Path | None) -> Result:
    """Run a peer with the backbone and the freeze depth of a finished run.

    Args:
        name: One of PEER_NAMES.
        finished: Clone with a finished run.
        folder: Photographs by split and class.
        parts: Which of PARTS to train.
        torch: Interpreter for timm.

    Returns:
        The seconds until each part is trained, and its accuracy on validation.

    Raises:
        LeftOutError: If the peer cannot take part, or fails.
    """
    from thaw.features import extraction

    backbone, frozen_layer = finished / "models" / "backbone", None
    image = extraction.sized(params.load(finished / "params.yaml").image, backbone)
    options = ["--size", str(image.size)]
    if "fine_tuned" in parts:
        frozen_layer = read_json(finished / "data" / "activations" / "cut.json")["layer"]
    else:
        options.append("--head-only")
    if name == "timm":
        command = timm(finished, folder, parts, frozen_layer, torch)
    else:
        command = [sys.executable, PEERS / "keras_tutorial.py", folder, backbone / "backbone.keras"]
        options += [*(["--cut", frozen_layer] if frozen_layer else []), *["--cached"] * (name == "Keras, cached")]
    return timed([*command, *options])


def timm(finished: Path, folder: Path, parts: tuple[str, ...], frozen_layer: str | None, python: Path | None) -> list:
    """Return the command of the script in PyTorch. timm counts blocks from 0; Thaw counts them from 1.

    Args:
        finished: Clone with a finished run.
        folder: Photographs by split and class.
        parts: Which of PARTS to train.
        frozen_layer: Last frozen layer of fine-tuning; None if all layers are trained.
        python: Interpreter that has timm.

    Raises:
        LeftOutError: If timm is missing, or cannot train the same layers.
    """
    try:
        if not python or subprocess.run([python, "-c", IMPORTS], capture_output=True).returncode:
            raise LeftOutError("no Python with torch, torchvision and timm was named (--torch)")
    except OSError as error:
        raise LeftOutError(f"{python}: {error.strerror}") from None
    points = [point["layer"] for point in read_json(finished / "models" / "backbone" / "backbone.json")["cut_points"]]
    block = re.match(r"block\d+", frozen_layer or "")
    if params.load(finished / "params.yaml").backbone.name != "EfficientNetLite0":
        raise LeftOutError("its weights are EfficientNetLite0's")
    if "fine_tuned" in parts and not (block and resolve(block[0], points) == frozen_layer):
        raise LeftOutError(f"it thaws whole blocks, and {frozen_layer or 'the input'} ends none")
    weights = efficientnet_lite.weights_file("EfficientNetLite0")
    thaw_from = block[0].removeprefix("block") if block else "0"
    return [python, PEERS / "timm_script.py", folder, weights, "--thaw-from", thaw_from]


def timed(command: list) -> Result:
    """Run the script of a peer. Returns the seconds until each part, and the accuracy that the script printed."""
    start = time.perf_counter()
    results = {}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        for line in process.stdout:
            if line.startswith("{"):  # other lines come from libraries
                result = json.loads(line)
                results[result["part"]] = time.perf_counter() - start, result["accuracy"]
        if process.wait():
            errors.seek(0)
            *_, last = ["it printed nothing", *(line.strip() for line in errors if line.strip())]
            raise LeftOutError(f"{command[1].name} ended with status {process.returncode}: {last}")
    return results


def show(photographs: str, results: dict[str, list[Result]], parts: tuple[str, ...]) -> None:
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{photographs}: {machine}, Python {platform.python_version()}")
    for part in parts:
        print(f"{part}: seconds (lowest to highest) · accuracy on validation · times as long as Thaw")
        for name, runs in results.items():
            seconds = [run[part][0] for run in runs]
            ratios = [run[part][0] / thaw_run[part][0] for run, thaw_run in zip(runs, results["Thaw"], strict=True)]
            print(f"  {name:14} {median(seconds):7.1f} ({min(seconds):.1f} to {max(seconds):.1f})  "
                  f"{median(run[part][1] for run in runs):.1%}  {median(ratios):.1f}")  # fmt: skip


if __name__ == "__main__":
    run(main)
