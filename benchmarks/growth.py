"""Measure the time and the peak memory of each stage with more photographs, and with more classes.

The photographs are drawn, with a side of 256 pixels. First there are 1, 3, 10 and 30 times `--images` of two classes.
Then there are 10 times `--images` of 10 and of 100 classes. The stages run one after the other in a temporary clone.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from clones import fresh
from PIL import Image

from thaw.core.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 3, 10, 30])
    parser.add_argument("--classes", type=int, nargs="*", default=[2, 10, 100])
    parser.add_argument("--size", type=int, default=96, help="of the network's input, in pixels")
    arguments = parser.parse_args()
    runs = [(arguments.images * times, 2) for times in arguments.times]
    runs += [(arguments.images * 10, classes) for classes in arguments.classes if classes != 2]
    for images, classes in runs:
        with tempfile.TemporaryDirectory() as scratch:
            measured = measure(Path(scratch), images, classes, arguments.size)
        print(f"{images:,} photographs of {classes} classes, {arguments.size} pixels")
        for stage, (seconds, megabytes) in measured.items():
            print(f"  {stage:20} {seconds:8.1f} s {megabytes:8,.0f} MB", flush=True)


def measure(scratch: Path, images: int, classes: int, size: int) -> dict[str, tuple[float, float]]:
    """Run all stages. Returns the seconds and the peak memory (resident MB) of each."""
    draw(scratch / "photographs", images, classes)
    source = {"source": "folder", "folder": {"path": str(scratch / "photographs")}}
    clone = fresh(scratch / "clone", download=source, image={"size": size})
    for folder in ("data", "models", "reports"):
        shutil.rmtree(clone / folder, ignore_errors=True)
    measured = {}
    for stage in yaml.safe_load((clone / "dvc.yaml").read_text())["stages"]:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, f"src/{stage}.py"], cwd=clone, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"growth: {stage} failed with {images:,} photographs of {classes} classes")
        measured[stage] = time.perf_counter() - start, usage.ru_maxrss / 1000
    return measured


def draw(folder: Path, images: int, classes: int) -> None:
    """Draw noisy stripes. Each class has its own direction."""
    generator = np.random.default_rng(1)
    y, x = np.mgrid[:256, :256]
    for number in range(images):
        label = number % classes
        angle, period = np.pi * (label + generator.uniform(-0.3, 0.3)) / classes, generator.uniform(8, 24)
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + generator.uniform(0, 6))
        pixels = 127 + 60 * wave[..., None] + generator.normal(0, 30, (256, 256, 3))
        class_folder = folder / f"class{label:03}"
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(class_folder / f"{number:06}.jpg", quality=85)


if __name__ == "__main__":
    run(main)
