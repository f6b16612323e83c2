"""Measure DVC with small photographs in files, and with the same ones in shards.

    python benchmarks/shards.py [--images 50000]

The photographs are drawn, and collected as the stage `download` does: once with `download.shards: null`, once with
`always`. A pipeline of two stages has their folder as an output and as a dep, as Thaw's has. Each command is timed from
its start to its end. The S3 server is moto's, on loopback; its CPU is not counted.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import remotes
import results
import yaml
from PIL import Image

from thaw.core.errors import run
from thaw.core.files import atomic_entries
from thaw.sources.base import DatasetInfo, Listing, SourceImage
from thaw.sources.collection import collect

SIDE = 48  # pixels
STORES = {"files": None, "shards": "always"}  # what `download.shards` is
RAW = "data/raw"
PIPELINE = {
    "stages": {
        "download": {"cmd": "true", "outs": [{f"{RAW}/images": {"persist": True}}]},
        "split": {"cmd": "true", "deps": [f"{RAW}/images"]},
    }
}
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    arguments = parser.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        remotes.isolate(folder / "home")
        os.environ |= KEYS
        images = draw(folder / "photographs", arguments.images + 1)
        for name, shards in STORES.items():
            measured[name] = measure(folder / name, images, shards)
    columns = [f"{arguments.images:,} photographs of {SIDE} pixels"]
    columns += [(f"{name}, {unit}", "{:.1f}") for name in STORES for unit in ("seconds", "seconds of CPU")]
    columns += [(f"files take, times the {unit}", "{:.1f}") for unit in ("seconds", "CPU")]
    files, shards = measured.values()
    rows = []
    for name in files:
        ratios = [more / less for more, less in zip(files[name], shards[name], strict=True)]
        rows.append([name, *files[name], *shards[name], *ratios])
    results.write("shards", columns, rows)


def draw(folder: Path, count: int) -> list[SourceImage]:
    """Draw photographs of two classes."""
    folder.mkdir()
    generator, images = np.random.default_rng(0), []
    for number in range(count):
        path = folder / f"{number:07}.jpg"
        pixels = generator.integers(0, 256, (SIDE // 4, SIDE // 4, 3), np.uint8)
        Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
        images.append(SourceImage(path.stem, path, ("even", "odd")[number % 2]))
    return images


def measure(work: Path, images: list[SourceImage], shards: str | None) -> dict[str, tuple[float, float]]:
    """Collect all photographs but one in a new repository, use DVC, and add the last. Returns the seconds of each."""
    work.mkdir()
    (work / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    for command in ("git init --quiet", "dvc init --quiet", "git add --all", "git commit --quiet --message pipeline"):
        remotes.run(work, *command.split())
    measured = {"collected and checked": collected(work / RAW, images[:-1], shards)}
    names = [path.name for path in (work / RAW / "images").iterdir()]
    print(f"{len(names):,} files in {RAW}/images", flush=True)

    def timed(name: str, *command: str) -> None:
        measured[name] = remotes.timed(work, "dvc", *command)
        wall, cpu = measured[name]
        print(f"{name:40} {wall:8.1f} s {cpu:8.1f} s of CPU", flush=True)

    timed("`dvc repro`, the first", "repro", "--quiet")
    timed("`dvc repro`, runs nothing", "repro")
    timed("`dvc status`, nothing new", "status")
    remotes.run(work, "dvc", "remote", "add", "--quiet", "folder", str(work / "store"))
    timed("`dvc push` to a folder, the first", "push", "--quiet", "--remote", "folder")
    with s3() as url:
        remotes.run(work, "dvc", "remote", "add", "--quiet", "s3", "s3://team/store")
        remotes.run(work, "dvc", "remote", "modify", "s3", "endpointurl", url)
        timed("`dvc push` to an S3 server, the first", "push", "--quiet", "--remote", "s3")
    collected(work / RAW, images, shards)
    timed("`dvc repro`, one photograph more", "repro", "--quiet")
    timed("`dvc push` to a folder, one photograph more", "push", "--quiet", "--remote", "folder")
    shutil.rmtree(work)
    return measured


def collected(raw: Path, images: list[SourceImage], shards: str | None) -> tuple[float, float]:
    """Collect photographs as `download` does. Returns its seconds, and those of CPU."""
    start, cpu = time.perf_counter(), time.process_time()
    with atomic_entries(raw) as folder:
        collect(Listing(DatasetInfo("drawn", "", "", ("even", "odd")), images), folder, shards=shards)
    return time.perf_counter() - start, time.process_time() - cpu


@contextmanager
def s3() -> Iterator[str]:
    """Run moto's S3 server, which keeps all in memory, with the bucket `team`; yield its address."""
    import boto3

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                sys.exit("shards: moto's server does not run here: run `make setup`")
            time.sleep(0.1)
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="team")
        yield url
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    run(main)
