"""Measure DVC with many files: runs that change nothing, pushes and pulls, with 20,000 small photographs.

    python benchmarks/remotes.py [--images 20000] [--rounds 3]

The pipeline runs once in a temporary repository, at 32 pixels and with all layers frozen. Then each command is timed
from its start to its end, with its CPU time. Many small files wait for the disk; with TMPDIR=/dev/shm they do not. Each
round pushes into an empty folder and pulls into a new clone.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import ruamel.yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
PARAMETERS = {
    "download": {"source": "folder", "folder": {"path": "photographs"}},
    "augment": {"copies": 0},
    "image": {"size": 32},
    "head": {"strengths": [0.01]},
    "fine_tune": {"freeze_depth": "all", "epochs": 1, "batch_size": 256, "warmup_epochs": 0},
    "evaluate": {"bootstrap": 100},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        isolate(folder / "home")
        first = folder / "first"
        prepare(first, arguments.images)
        seconds = defaultdict(list)
        seconds["dvc repro, from nothing"].append(timed(first, "dvc", "repro", "--quiet"))
        for command in ("git add --all", "git commit --quiet --message run"):
            run(first, *command.split())
        for index in range(arguments.rounds):
            measure(first, folder / f"second-{index}", folder / f"store-{index}", seconds)
        raw = [path for path in (first / "data/raw").rglob("*") if path.is_file()]
        print(f"{len(raw):,} files in data/raw, {sum(path.stat().st_size for path in raw) / 1e6:.0f} MB")
    for name, values in seconds.items():
        wall, cpu = zip(*values, strict=True)
        spread = f"({min(wall):.1f} to {max(wall):.1f}, n = {len(values)})"
        print(f"{name:36} {median(wall):6.1f} s {spread:24} {median(cpu):6.1f} s of CPU")


def measure(first: Path, second: Path, store: Path, seconds: dict[str, list[tuple[float, float]]]) -> None:
    """Run one round: commands that change nothing, a push and pulls.

    Args:
        first: Repository with a finished run.
        second: Folder for clones, which are removed again.
        store: Folder for the remote, which is removed again.
        seconds: Takes the wall and CPU seconds of each command by its name.
    """
    seconds["dvc repro, runs nothing"].append(timed(first, "dvc", "repro"))
    seconds["dvc status"].append(timed(first, "dvc", "status"))
    run(first, "dvc", "remote", "add", "--quiet", "--force", "--default", "store", str(store))
    run(first, "dvc", "remote", "modify", "store", "verify", "true")
    seconds["dvc push, everything"].append(timed(first, "dvc", "push", "--quiet"))
    seconds["dvc push, nothing new"].append(timed(first, "dvc", "push"))
    seconds["dvc status -c"].append(timed(first, "dvc", "status", "-c"))
    for verify in ("false", "true"):
        run(first.parent, "git", "clone", "--quiet", str(first), str(second))
        shutil.copyfile(first / ".dvc/config", second / ".dvc/config")
        run(second, "dvc", "remote", "modify", "store", "verify", verify)
        seconds[f"dvc pull in a clone, verify {verify}"].append(timed(second, "dvc", "pull", "--quiet"))
        if verify == "true":
            seconds["dvc repro in the clone, runs nothing"].append(timed(second, "dvc", "repro"))
        shutil.rmtree(second)
    shutil.rmtree(store)


def isolate(home: Path) -> None:
    """Set the environment so that no settings and caches of the user are used."""
    os.environ |= {f"DVC_{name}_DIR": str(home / name) for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG")}
    os.environ |= {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    os.environ |= {f"GIT_{who}_{what}": "thaw" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def prepare(folder: Path, images: int) -> None:
    """Make a repository with the pipeline of this checkout and `images` drawn photographs of two classes."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copyfile(ROOT / name, folder / name)
    (folder / ".gitignore").write_text("__pycache__/\nphotographs/\n")
    yaml = ruamel.yaml.YAML()
    parameters = yaml.load(ROOT / "params.yaml")
    for section, values in PARAMETERS.items():
        parameters[section].update(values)
    yaml.dump(parameters, folder / "params.yaml")
    generator = np.random.default_rng(0)
    for number in range(images):
        label = ("cold", "warm")[number % 2]
        coarse = generator.uniform(0, 200, (5, 5, 3)) + np.array([55, 0, 0] if label == "warm" else [0, 0, 55])
        pixels = np.asarray(Image.fromarray(coarse.astype(np.uint8)).resize((64, 64), Image.Resampling.BICUBIC))
        pixels = pixels + generator.normal(0, 10, (64, 64, 3))
        path = folder / "photographs" / label / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    for command in ("git init --quiet", "dvc init --quiet", "git add --all", "git commit --quiet --message pipeline"):
        run(folder, *command.split())


def timed(folder: Path, *command: str) -> tuple[float, float]:
    """Run a command. Returns its wall seconds, and the CPU seconds of it and its children."""
    start, before = time.perf_counter(), os.times()
    run(folder, *command)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu


def run(folder: Path, *command: str) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.stderr or result.stdout}")


if __name__ == "__main__":
    main()
