"""Measure how fast `predict.py` is: its rate, and the time until its first line.

The rate is compared with decoding alone and with the engine alone, on 1,000 JPEGs of 1024 × 768. They are scaled from
those of a folder (`--photographs`) or drawn. `predict` goes from paths to predictions as the script does. `decoding` is
the same without the network. `engine` gets the same pixels from memory. The three run in turn; the result is the median
of each, and the median ratio of the rounds. Decoding and the engine share the cores, so the CPU time of `predict` is at
least the sum of theirs.

Then the process is timed from its start, without and with `--far` in turn. The converted model is there already. Needs
a finished `dvc repro`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from thaw.engines import inference
from thaw.prediction import deployed_model, stream

MODEL = Path("models/model.keras")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=Path, help="folder of JPEGs to scale, repeated if there are too few")
    arguments = parser.parse_args()
    description = deployed_model.read_description(MODEL)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_photographs(folder / "photographs", arguments.images, arguments.photographs)
        network = deployed_model.converted_network(MODEL, folder / "networks")
        engine = inference.compile_openvino(network, deployed_model.OUTPUT, description.size, np.float32)

        def load_images():
            return stream.load_images(
                stream.expand([str(folder / "photographs")]), description.size, description.resize
            )

        views = np.stack([image.view for image in load_images()])
        contestants = {
            "predict": lambda: sum(1 for _ in stream.predict(load_images(), engine)),
            "decoding": lambda: sum(1 for _ in load_images()),
            "engine": lambda: sum(len(batch) for batch in engine(inference.rebatch([views]))),
        }
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        costs: dict[str, list[float]] = {name: [] for name in contestants}
        for round_index in range(arguments.rounds + 1):
            for name, run in contestants.items():
                start, cpu_start = time.perf_counter(), time.process_time()
                count = run()
                if round_index:  # the first round only warms up
                    rates[name].append(count / (time.perf_counter() - start))
                    costs[name].append((time.process_time() - cpu_start) / count)
        ratios = [predict / min(others) for predict, *others in zip(*rates.values(), strict=True)]
        for name, values in rates.items():
            spread = f"({min(values):.0f} to {max(values):.0f})"
            print(
                f"{name:10} {median(values):6.0f} photographs/s {spread:14}{1000 * median(costs[name]):6.2f} ms of CPU"
            )
        print(f"predict is {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of the slower of the two")

        waits: dict[str, list[tuple[float, float, float]]] = {"": [], "--far=0.99": []}
        for _ in range(arguments.rounds + 1):
            for option, times in waits.items():
                times.append(script(folder, option))
        for option, times in waits.items():
            firsts, totals, cpu = zip(*times[1:], strict=True)
            print(
                f"predict.py {option:10} first line after {median(firsts):.2f} s "
                f"({min(firsts):.2f} to {max(firsts):.2f}) from the start, all {arguments.images:,} after "
                f"{median(totals):.2f} s ({arguments.images / median(totals):.0f} a second), "
                f"{median(cpu):.1f} s of CPU"
            )


def write_photographs(folder: Path, count: int, source: Path | None) -> None:
    folder.mkdir()
    sources = sorted(source.rglob("*.jpg")) if source else []
    generator = np.random.default_rng(1)
    for number in range(count):
        if number < len(sources) or not sources:
            image = Image.open(sources[number]).convert("RGB") if sources else draw(generator)
            image.resize((1024, 768)).save(folder / f"{number:05}.jpg", quality=90)
        else:
            os.link(folder / f"{number % len(sources):05}.jpg", folder / f"{number:05}.jpg")


def draw(generator: np.random.Generator) -> Image.Image:
    """Draw shapes of all sizes with some grain. The JPEG has about as many bytes as a photograph of a scene."""
    pixels = generator.normal(128, 8, (768, 1024, 3))
    for cells in (4, 16, 64, 256):
        coarse = generator.integers(0, 256, (cells * 3 // 4, cells, 3)).astype(np.uint8)
        pixels += (np.asarray(Image.fromarray(coarse).resize((1024, 768)), np.float32) - 128) / np.sqrt(cells)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def script(folder: Path, option: str) -> tuple[float, float, float]:
    """Run the real script. Returns the seconds to its first line, the seconds to its end, and its CPU seconds."""
    command = [sys.executable, "src/predict.py", "--json", "--cache", folder / "networks", folder / "photographs"]
    command += [option] * bool(option)
    before, start = os.times(), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        line = process.stdout.readline()
        first = time.perf_counter() - start
        lines = [line, *process.stdout]
    total, after = time.perf_counter() - start, os.times()
    if process.returncode or not line or any(b'"error"' in line for line in lines):
        sys.exit(f"predict.py ended with status {process.returncode} after {len(lines):,} lines; the first: {line}")
    return first, total, after[2] + after[3] - before[2] - before[3]


if __name__ == "__main__":
    main()
