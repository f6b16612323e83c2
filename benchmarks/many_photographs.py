"""Measure the CPU of each stage with photographs of 12 megapixels, as phones take them.

They are scaled up from photographs of yours, with grain. The stages run one after the other, in a temporary folder and
with an empty cache of Thaw; then `extract_activations` runs once more, with another freeze depth. Beside them stand the
floors: one scaled decode of each photograph, and the frozen backbone alone. `--before` measures the stages of another
checkout, too.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import results
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
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--freeze-depths", nargs=2, default=["block6", "block5"])
    arguments = parser.parse_args()
    originals = sorted(arguments.photographs.glob("*.jpg"))
    if not originals:
        parser.error(f"{arguments.photographs} has no .jpg")
    names = "\n".join(f"{path.name} {path.stat().st_size}" for path in originals)
    folder = arguments.large / f"{arguments.images}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
    make(originals, folder, arguments.images)
    measured = {}
    before = arguments.before and arguments.before.resolve()
    for source in filter(None, (before, ROOT)):
        with tempfile.TemporaryDirectory() as scratch:
            measured[source] = measure(source, Path(scratch), folder, arguments.freeze_depths)
            floor = {} if source != ROOT else floors(sorted(folder.rglob("*.jpg")), Path(scratch) / "models/backbone")
    after = measured[ROOT] | floor
    former = measured.get(before, {})
    columns = ["", ("ms of CPU for a photograph", "{:.0f}"), ("seconds", "{:.1f}")]
    rows = [[name, 1000 * cpu / arguments.images, seconds] for name, (cpu, seconds) in after.items()]
    if before:
        columns.append(("before, ms of CPU", "{:.0f}"))
        rows = [[*row, 1000 * former[row[0]][0] / arguments.images if row[0] in former else None] for row in rows]
    results.write("many_photographs", columns, rows)


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


def measure(source: Path, work: Path, photographs: Path, freeze_depths: list[str]) -> dict[str, tuple[float, float]]:
    """Run all stages of a checkout in the empty folder `work`. Returns the CPU and the seconds of each."""
    print(f"the stages of {source}", flush=True)
    for name in ("dvc.yaml", "params.yaml"):
        (work / name).write_bytes((source / name).read_bytes())
    os.environ |= {cache.FOLDER: str(work / "cache"), cache.LIMIT: cache.DEFAULT_LIMIT}
    first, second = freeze_depths
    edit(work, download={"source": "folder", "folder": {"path": str(photographs)}})
    edit(work, fine_tune={"freeze_depth": first, "epochs": 2, "warmup_epochs": 0, "learning_rate": 1e-4})
    measured = {f"`{stage}`": run_stage(source, work, stage) for stage in STAGES}
    edit(work, fine_tune={"freeze_depth": second})
    measured["`extract_activations`, another freeze depth"] = run_stage(source, work, "extract_activations")
    return measured


def run_stage(source: Path, work: Path, stage: str) -> tuple[float, float]:
    start = time.perf_counter()
    command = [sys.executable, str(source / "src" / f"{stage}.py")]
    process = subprocess.Popen(command, cwd=work, env=environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"many_photographs: {stage} failed")
    cpu, seconds = usage.ru_utime + usage.ru_stime, time.perf_counter() - start
    print(f"{stage:24} {cpu:8.1f} s of CPU {seconds:8.1f} s", flush=True)
    return cpu, seconds


def floors(paths: list[Path], backbone: Path) -> dict[str, tuple[float, float]]:
    """Return the CPU and the seconds of one scaled decode of each photograph, and of a view of each in the backbone."""

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            image.draft("RGB", (DECODED_SIDE, DECODED_SIDE))
            image.load()

    start, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, paths))
    decoding = time.process_time() - cpu, time.perf_counter() - start
    engine = inference.compile_openvino(backbone / "backbone.xml", "features", 224)
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    start, cpu = time.perf_counter(), time.process_time()
    list(engine(images for _ in range(len(paths) // 2)))
    network = time.process_time() - cpu, time.perf_counter() - start
    return {"one scaled decode alone": decoding, "the frozen backbone alone, one view": network}


if __name__ == "__main__":
    run(main)
