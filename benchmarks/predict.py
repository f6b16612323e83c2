"""How fast `predict.py` answers: its rate against decoding alone and the engine alone, and the wait for the first line.

1,000 photographs of 1024 × 768, scaled from those of a folder (`--photographs`) or drawn, as JPEGs. `predict` is the
way of the script from paths to answers; `decoding` the same without the network; the engine is given the same views
in memory. The three alternate; medians count, and the ratio of each round. Where decoding and the engine share all
cores, no more than the sum of their CPU time can be hoped for. The process is timed from its start, with the converted
model there, without and with `--far`, in turn. Wants a finished `dvc repro`.
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

from thaw import answers, deployed, inference

MODEL = Path("models/model.keras")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=Path, help="a folder of JPEGs to scale, each as often as is needed")
    arguments = parser.parse_args()
    description = deployed.describe(MODEL)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_photographs(folder / "photographs", arguments.images, arguments.photographs)
        network = deployed.network(MODEL, folder / "networks")
        engine = inference.openvino(network, deployed.OUTPUT, description.size, np.float32)

        def look():
            return answers.look(answers.expand([str(folder / "photographs")]), description.size, description.resize)

        views = np.stack([seen.view for seen in look()])
        contestants = {
            "predict": lambda: sum(1 for _ in answers.answer(look(), engine)),
            "decoding": lambda: sum(1 for _ in look()),
            "engine": lambda: sum(len(batch) for batch in engine(inference.rebatch([views]))),
        }
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        costs: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(arguments.rounds + 1):
            for name, work in contestants.items():
                start, used = time.perf_counter(), time.process_time()
                done = work()
                if turn:  # the first round warms up
                    rates[name].append(done / (time.perf_counter() - start))
                    costs[name].append((time.process_time() - used) / done)
        ratios = [ours / min(others) for ours, *others in zip(*rates.values(), strict=True)]
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
            firsts, wholes, used = zip(*times[1:], strict=True)
            print(
                f"predict.py {option:10} first answer after {median(firsts):.2f} s "
                f"({min(firsts):.2f} to {max(firsts):.2f}) from the start, all {arguments.images:,} after "
                f"{median(wholes):.2f} s ({arguments.images / median(wholes):.0f} a second), "
                f"{median(used):.1f} s of CPU"
            )


def write_photographs(folder: Path, count: int, source: Path | None) -> None:
    folder.mkdir()
    found = sorted(source.rglob("*.jpg")) if source else []
    generator = np.random.default_rng(1)
    for number in range(count):
        if number < len(found) or not found:
            image = Image.open(found[number]).convert("RGB") if found else drawn(generator)
            image.resize((1024, 768)).save(folder / f"{number:05}.jpg", quality=90)
        else:
            os.link(folder / f"{number % len(found):05}.jpg", folder / f"{number:05}.jpg")


def drawn(generator: np.random.Generator) -> Image.Image:
    """Shapes of all sizes with some grain, about as many bytes as a photograph of a scene."""
    pixels = generator.normal(128, 8, (768, 1024, 3))
    for cells in (4, 16, 64, 256):
        coarse = generator.integers(0, 256, (cells * 3 // 4, cells, 3)).astype(np.uint8)
        pixels += (np.asarray(Image.fromarray(coarse).resize((1024, 768)), np.float32) - 128) / np.sqrt(cells)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def script(folder: Path, option: str) -> tuple[float, float, float]:
    """Return the seconds to the first line of the real script, to its end, and of CPU."""
    command = [sys.executable, "src/predict.py", "--json", "--cache", folder / "networks", folder / "photographs"]
    command += [option] * bool(option)
    before, start = os.times(), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        first = time.perf_counter() - start
        process.stdout.read()
    whole, after = time.perf_counter() - start, os.times()
    return first, whole, after[2] + after[3] - before[2] - before[3]


if __name__ == "__main__":
    main()
