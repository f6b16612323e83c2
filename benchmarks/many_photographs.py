"""Measure seconds and CPU of each stage with photographs of 12 megapixels, as phones take them.

They are scaled up from photographs of yours, with grain. The stages of a source tree run one after the other, in a
temporary folder and with an empty cache of Thaw; then `extract_activations` runs once more, with another freeze depth.
Beside them stand the floors: one scaled decode of each photograph, and the frozen backbone alone.
`--source` measures the stages of another checkout.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from clones import ROOT, environment
from PIL import Image

from thaw.core import cache
from thaw.core.errors import run

# isort: split
import numpy as np

from thaw.engines import inference

STAGES = (
    "inputs", "fingerprints", "download", "split", "augment", "backbone", "extract_features", "train_head",
    "extract_activations", "fine_tune", "evaluate",
)  # fmt: skip
SIDES = (4000, 3000)  # pixels
GRAIN = 6  # standard deviation, of values 0-255: the files then have about 4 MB
QUALITY = 90
DECODED_SIDE = 256  # pixels that the shorter side keeps in the floor's decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path, help="folder of JPEG files from which the large ones are made")
    parser.add_argument("--large", type=Path, default=Path("/tmp/thaw_large"), help="where the large ones are kept")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--source", type=Path, default=ROOT, help="checkout whose stages run")
    parser.add_argument("--freeze-depths", nargs=2, default=["block6", "block5"])
    arguments = parser.parse_args()
    folder = arguments.large / str(arguments.images)
    make(sorted(arguments.photographs.glob("*.jpg")), folder, arguments.images)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for name in ("dvc.yaml", "params.yaml"):
            (work / name).write_bytes((arguments.source / name).read_bytes())
        os.environ |= {cache.FOLDER: str(work / "cache"), cache.LIMIT: cache.DEFAULT_LIMIT}
        first, second = arguments.freeze_depths
        edit(work, download={"source": "folder", "folder": {"path": str(folder)}}, fine_tune={"freeze_depth": first})
        edit(work, fine_tune={"epochs": 2, "warmup_epochs": 0, "learning_rate": 1e-4})
        print(f"{'':40} {'seconds':>8} {'CPU s':>8} {'CPU ms an image':>16}")
        for stage in STAGES:
            measure(arguments.source, work, stage, arguments.images)
        edit(work, fine_tune={"freeze_depth": second})
        measure(arguments.source, work, "extract_activations", arguments.images, f", from {second}")
        floors(sorted(folder.rglob("*.jpg")), work)


def make(originals: list[Path], folder: Path, images: int) -> None:
    """Write `images` large photographs of two classes, half of each; those that are there stay."""

    def write(number: int) -> None:
        path = folder / ("even", "odd")[number % 2] / f"{number:05}.jpg"
        if path.exists():
            return
        generator = np.random.default_rng(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(originals[number % len(originals)]) as image:
            image = image.convert("RGB")
        # Another part of the same photograph each time: otherwise they would be near-duplicates.
        side = generator.uniform(0.5, 0.8)
        width, height = (round(side * length) for length in image.size)
        left, top = generator.integers(0, image.width - width), generator.integers(0, image.height - height)
        image = image.crop((left, top, left + width, top + height)).resize(SIDES, Image.Resampling.BICUBIC)
        grain = generator.normal(0, GRAIN, (SIDES[1], SIDES[0], 1)).astype(np.float32)
        pixels = (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path.with_suffix(".partial"), "JPEG", quality=QUALITY)
        path.with_suffix(".partial").replace(path)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(images)))
    sizes = [path.stat().st_size for path in folder.rglob("*.jpg")]
    print(f"{len(sizes):,} photographs of {SIDES[0]}×{SIDES[1]}, {np.mean(sizes) / 1e6:.1f} MB each")


def edit(work: Path, **sections: dict) -> None:
    values = yaml.safe_load((work / "params.yaml").read_text())
    for name, keys in sections.items():
        values[name] |= keys
    (work / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def measure(source: Path, work: Path, stage: str, images: int, what: str = "") -> None:
    """Run a stage, and print its seconds and its CPU."""
    start = time.perf_counter()
    command = [sys.executable, str(source / "src" / f"{stage}.py")]
    process = subprocess.Popen(command, cwd=work, env=environment(), stdout=subprocess.PIPE, text=True)
    said = process.stdout.read().strip()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"many_photographs: {stage} failed")
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{stage + what:40} {time.perf_counter() - start:8.1f} {cpu:8.1f} {1000 * cpu / images:16.1f}")
    print("".join(f"    {line}\n" for line in said.splitlines()), end="", flush=True)


def floors(paths: list[Path], work: Path) -> None:
    """Print the CPU of one scaled decode of each photograph, and of the frozen backbone for as many images."""

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            image.draft("RGB", (DECODED_SIDE, DECODED_SIDE))
            image.load()

    start, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, paths))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{'floor: one scaled decode':40} {seconds:8.1f} {cpu:8.1f} {1000 * cpu / len(paths):16.1f}")
    engine = inference.compile_openvino(work / "models/backbone/backbone.xml", "features", 224)
    images = np.random.default_rng(0).integers(0, 256, (200, 224, 224, 3), np.uint8)
    start, cpu = time.perf_counter(), time.process_time()
    list(engine(inference.rebatch([images])))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{'floor: the frozen backbone, 200 views':40} {seconds:8.1f} {cpu:8.1f} {1000 * cpu / 200:16.1f}")


if __name__ == "__main__":
    run(main)
