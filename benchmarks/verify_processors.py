"""Run every stage under emulated processors, and compare each output with that of this machine.

    python benchmarks/verify_processors.py [--processors Haswell-noTSX EPYC ...] [--stages STAGE ...] [--size 32]
        [--frozen-sizes 224 448]
        [--set backbone.name=DeiTTi16 backbone.weights=null backbone.pooling=cls_avg fine_tune.freeze_depth=block11]

A small run of real photographs, 44 solar cells and the two photographs of scikit-learn, is made here first. Then
`qemu-x86_64` runs each stage as another processor, on what the stage before wrote here. So if every stage writes the
same bytes, a whole run there writes the same `dvc.lock`. The exit status is 1 if an output differs.

The run is small, and libraries choose kernels by the size of maps, too. So the frozen network also computes two
photographs of usual sizes under each processor.

By default these are a Haswell, Intel's first with AVX2 and FMA, and an EPYC, AMD's first Zen. They differ in maker and
caches, by which libraries choose block sizes. Where processors approximate roots and reciprocals, each maker in its
way, qemu computes them exactly. It does not execute AVX-512: a processor that has it is emulated without.

Two faults of qemu 7.2 are kept out of the comparison, here as there. It makes 0 of the smallest halves, which no
processor does: `fine_tune` trains without them. And what NumPy's AVX2 kernel sorts is not sorted: in `evaluate`, NumPy
does without its AVX2 kernels.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import conftest  # noqa: E402
import numpy as np  # noqa: E402
from conftest import Checkout, make_source  # noqa: E402
from torture import error_line  # noqa: E402
from verify import COMPUTES, outputs  # noqa: E402

from thaw.backbones.cut_points import FEATURES  # noqa: E402
from thaw.core import kernels, tables  # noqa: E402
from thaw.core.errors import ThawError, run  # noqa: E402
from thaw.core.hashes import md5  # noqa: E402

QEMU = "qemu-x86_64"
PROCESSORS = ("Haswell-noTSX", "EPYC")
CELLS = 22  # of each class
ACTIVATIONS = "data/activations/activations.npy"
BACKBONE = "models/backbone/backbone.xml"
UNSORTED = {  # the environment of `evaluate`
    kernels.NATIVE: "native",  # the rest is what `thaw` has chosen for this process
    "NPY_DISABLE_CPU_FEATURES": f"X86_V3 {kernels.KERNELS['NPY_DISABLE_CPU_FEATURES']}",
}
EVERY = 29  # of the cells of a class: from all modules
SMALL = conftest.SMALL | {
    "download.source": "table",
    "download.table.path": "photographs/list.csv",
    "download.table.label_column": "label",
    "fine_tune.epochs": 1,
    "fine_tune.patience": None,  # the last epoch is kept: its weights are compared
}
NOISE = "TCG doesn't support requested feature"  # qemu says so for each one


FROZEN = f"""
import sys
from hashlib import sha256
from pathlib import Path
import numpy as np
from thaw.engines import inference
for size in map(int, sys.argv[2:]):
    run = inference.compile_openvino(Path(sys.argv[1]), {FEATURES!r}, size)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    print(size, sha256(np.concatenate([*run([images])]).tobytes()).hexdigest())
"""


class Row(NamedTuple):
    """A stage under an emulated processor."""

    processor: str
    stage: str
    differing: list[str]  # its outputs whose bytes are others
    count: int  # of its outputs
    seconds: float
    error: str  # the last line of a stage that failed; else empty


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processors", nargs="+", default=PROCESSORS, help="names of `qemu-x86_64 -cpu help`")
    parser.add_argument("--size", type=int, default=SMALL["image.size"], help="of the network's input, in pixels")
    parser.add_argument("--stages", nargs="+", help="only these")
    parser.add_argument("--frozen-sizes", nargs="*", type=int, default=(224, 448), help="of the frozen network alone")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other parameters of the small run")
    parser.add_argument("--keep", type=Path, help="a new folder that the runs are kept in")
    arguments = parser.parse_args()
    check_emulator(arguments.processors)
    stages = arguments.stages or list(COMPUTES)
    with nullcontext(arguments.keep) if arguments.keep else tempfile.TemporaryDirectory() as name:
        folder = Path(name).absolute()
        os.environ |= conftest.surroundings(folder / "home")
        start = time.perf_counter()
        native = native_run(folder / "native", {"image.size": arguments.size} | changed(arguments.set))
        seconds = time.perf_counter() - start
        print(f"this machine: {len(outputs_by_stage(native.path))} stages in {seconds:.0f} s", flush=True)
        sizes = list(map(str, arguments.frozen_sizes))
        here = frozen_outputs(native.path, sizes)

        def emulate(name: str) -> list[Row]:
            return [*frozen_rows(native.path, name, here), *emulated_run(native, name, stages)]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            rows = [row for stages in pool.map(emulate, arguments.processors) for row in stages]
    print_table(rows)
    sys.exit(any(row.differing or row.error for row in rows))


def check_emulator(processors: list[str]) -> None:
    """Raise ThawError if qemu cannot emulate these processors here."""
    if platform.machine() != "x86_64":
        raise ThawError(f"processors are emulated on x86-64 only, and this one is {platform.machine()}")
    if not shutil.which(QEMU):
        raise ThawError(f"{QEMU} is missing: install qemu-user, such as with `apt install qemu-user`")
    listing = subprocess.run([QEMU, "-cpu", "help"], capture_output=True, text=True).stdout  # it exits with 1
    known = re.findall(r"^x86 (\S+)", listing, re.MULTILINE)
    for name in processors:
        if name not in known:
            raise ThawError(f"{QEMU} knows no processor {name}: see `{QEMU} -cpu help`")


def changed(settings: Sequence[str]) -> dict[str, object]:
    """Return the parameters of settings such as `backbone.name=DeiTTi16`, whose values are read as YAML."""
    return {name: yaml.safe_load(value) for name, _, value in (setting.partition("=") for setting in settings)}


def native_run(path: Path, changes: dict[str, object]) -> Checkout:
    """Make a repository with real photographs, and run its pipeline with changed parameters on this machine."""
    parameters = {name: value for name, value in SMALL.items() if not name.startswith("download.folder")}
    checkout = make_source(path, parameters | changes, copy_photographs)
    result = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=path, capture_output=True, text=True)
    if result.returncode:
        raise ThawError(f"the run on this machine failed: {error_line(result)}")
    stored = (path / ACTIVATIONS).read_bytes()
    for stage in ("fine_tune", "evaluate"):
        result = run_stage(path, stage)
        if result.returncode:
            raise ThawError(f"{stage} on this machine failed: {error_line(result)}")
    (path / ACTIVATIONS).write_bytes(stored)
    return checkout


def run_stage(path: Path, stage: str, emulator: Sequence[str] = ()) -> subprocess.CompletedProcess:
    """Run the script of a stage in a repository, without what qemu does wrongly."""
    if stage == "fine_tune":
        values = np.load(path / ACTIVATIONS, mmap_mode="r+")
        values[np.abs(values) < np.finfo(np.float16).smallest_normal] = 0
        values.flush()
    environment = os.environ | (UNSORTED if stage == "evaluate" else {})
    command = [*emulator, sys.executable, f"src/{stage}.py"]
    return subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True)


def frozen_outputs(path: Path, sizes: Sequence[str], emulator: Sequence[str] = ()) -> dict[str, str]:
    """Return a hash of what the frozen network of a repository computes at each size, in pixels."""
    command = [*emulator, sys.executable, "-c", FROZEN, str(path / BACKBONE), *sizes]
    environment = os.environ | {"PYTHONPATH": str(path / "src")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise ThawError(f"the frozen network failed: {error_line(result)}")
    return dict(line.split() for line in result.stdout.splitlines())


def frozen_rows(path: Path, processor: str, here: dict[str, str]) -> Iterator[Row]:
    """Compare what the frozen network computes at each size under an emulated processor with what it computes here."""
    for size, digest in here.items():
        start = time.perf_counter()
        there = frozen_outputs(path, [size], [QEMU, "-cpu", processor])
        differing = [] if there[size] == digest else [f"features of {size} pixels"]
        row = Row(processor, f"frozen, {size} pixels", differing, 1, time.perf_counter() - start, "")
        print(line_of(row), flush=True)
        yield row


def copy_photographs(folder: Path) -> None:
    """Copy solar cells, grey PNG files of which every third becomes a JPEG file, and two colour photographs."""
    import elpv_dataset
    import polars as pl
    import sklearn.datasets
    from PIL import Image

    folder.mkdir()
    data, rows = Path(elpv_dataset.__path__[0], "data"), []
    cells = [line.split() for line in (data / "labels.csv").read_text().splitlines()]
    for label, defective in (("functional", False), ("defective", True)):
        chosen = [(data / name, float(p)) for name, p, _ in cells if (float(p) > 0.5) == defective]
        for number, (source, probability) in enumerate(chosen[::EVERY][:CELLS]):
            target = folder / source.with_suffix(".png" if number % 3 else ".jpg").name
            if number % 3:
                shutil.copyfile(source, target)
            else:
                Image.open(source).save(target, quality=90)
            rows.append((target.name, label, abs(2 * probability - 1)))
    for name, label in (("china.jpg", "functional"), ("flower.jpg", "defective")):
        shutil.copyfile(Path(sklearn.datasets.__path__[0], "images", name), folder / name)
        rows.append((name, label, 1.0))
    tables.write(pl.DataFrame(rows, ["path", "label", "weight"], orient="row"), folder / "list.csv")


def outputs_by_stage(path: Path) -> dict[str, list[str]]:
    """Return the paths of the outputs of each stage of a repository."""
    stages = {}
    for stage, output in outputs(yaml.safe_load((path / "dvc.yaml").read_text())):
        stages.setdefault(stage, []).append(output)
    return stages


def emulated_run(native: Checkout, processor: str, only: list[str]) -> Iterator[Row]:
    """Run the stages in a copy under an emulated processor, each on the outputs of the native run."""
    copy = native.path.with_name(processor)
    shutil.copytree(native.path, copy, symlinks=True, ignore=shutil.ignore_patterns("cache"))
    for stage, paths in outputs_by_stage(native.path).items():
        if stage not in only:
            continue
        for path in paths:
            remove(copy / path)
        start = time.perf_counter()
        result = run_stage(copy, stage, [QEMU, "-cpu", processor])
        seconds = time.perf_counter() - start
        lines = [line for line in result.stderr.splitlines() if line.strip() and NOISE not in line]
        error = (lines or [f"status {result.returncode}"])[-1] if result.returncode else ""
        differing = [path for path in paths if hash_of(copy / path) != hash_of(native.path / path)]
        row = Row(processor, stage, differing, len(paths), seconds, error)
        print(line_of(row), flush=True)
        yield row
        for path in differing:  # the next stage begins as the native one did
            if (copy / path).exists():
                shutil.move(copy / path, copy / f"{path}.differs")
            (shutil.copytree if (native.path / path).is_dir() else shutil.copyfile)(native.path / path, copy / path)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def hash_of(path: Path) -> str | None:
    return md5(path) if path.exists() else None


def line_of(row: Row) -> str:
    what = row.error or ("DIFFERS: " + ", ".join(row.differing) if row.differing else "identical")
    return f"{row.processor:16} {row.stage:20} {row.seconds:5.0f} s  {what}"


def print_table(rows: list[Row]) -> None:
    """Print how many outputs of each stage are identical under each processor."""
    processors = list(dict.fromkeys(row.processor for row in rows))
    print(f"\n{'identical outputs of':20}" + "".join(f"{name:>16}" for name in processors))
    for stage in dict.fromkeys(row.stage for row in rows):
        cells = [f"{r.count - len(r.differing)} of {r.count}" for r in rows if r.stage == stage]
        print(f"{stage:20}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    run(main)
