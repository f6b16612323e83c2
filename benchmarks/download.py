"""Measure the source `open_images` with a local server: tables of full size, and photographs with failing requests.

    python benchmarks/download.py [--rows 9000000] [--photographs 2000] [--kills 10] [--fiftyone PYTHON]

`tables`: generates 9 million labels (420 MB) and their table of images (590 MB) with the columns of Open Images. They
are downloaded, cached and queried. With `--fiftyone PYTHON`, an interpreter that has FiftyOne, functions of FiftyOne
run the same query on the same files on disk.

`photographs`: 5 % of the requests fail, in all ways of tests/replica.py. The stage runs once without a break, and once
killed many times. The two results are compared byte by byte.
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from replica import FAULTS, Data, Replica  # noqa: E402

LABELS = "v5/train-annotations-human-imagelabels-boxable.csv"
IMAGES = "2018_04/train/train-images-boxable-with-rotation.csv"
TARGET = "/m/0pcr"

QUERY = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from thaw.core import params
from thaw.sources import open_images
from thaw.sources.annotations import Annotations
from thaw.sources.fetching import Fetcher
start = time.perf_counter()
url, cache = sys.argv[2:]
if len(list(Path(cache).rglob("labels-*"))) == 0:
    Annotations(url, Path(cache), Fetcher()).labels("train")
    print(f"  labels fetched and cached {time.perf_counter() - start:6.2f} s")
start = time.perf_counter()
default = params.load(Path(sys.argv[1], "../params.yaml")).download.open_images
changes = {"annotations_url": url, "images_url": url, "cache_dir": cache, "subsets": ["train"]}
images = open_images.find(default.model_copy(update=changes)).images
print(f"  found and selected        {time.perf_counter() - start:6.2f} s, {len(images):,} candidates")
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # getrusage has the parent's too
print(f"  peak memory               {int(peak.split()[1]) / 1024:6.0f} MiB")
"""

FIFTYONE = """
import sys, time
import fiftyone.utils.openimages as oi
start = time.perf_counter()
ids, _ = oi._load_all_image_ids(sys.argv[1], split="train", download=False)
print(f"  image ids loaded          {time.perf_counter() - start:6.2f} s")
start = time.perf_counter()
_, matches, _, _ = oi._get_label_data(sys.argv[1], ids, "classifications", classes=["Alpaca"], oi_classes=[sys.argv[2]],
                                    ids_only=True, track_all_ids=False, download=False)
print(f"  labels parsed and selected {time.perf_counter() - start:5.2f} s, {len(matches):,} images")
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # getrusage has the parent's too
print(f"  peak memory               {int(peak.split()[1]) / 1024:6.0f} MiB")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=9_000_000)
    parser.add_argument("--photographs", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--fiftyone", metavar="PYTHON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.rows:
            measure_tables(Path(folder), arguments.rows, arguments.fiftyone)
        if arguments.photographs:
            measure_photographs(Path(folder), arguments.photographs, arguments.kills)


def measure_tables(folder: Path, rows: int, fiftyone: str | None) -> None:
    server, cache = folder / "server", folder / "cache"
    generate(server, rows)
    size = (server / LABELS).stat().st_size / 1e6
    print(f"tables: {rows:,} labels, {size:.0f} MB")
    process = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", server, "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        url = process.stdout.readline().split("(")[1].split(")")[0].rstrip("/")
        for name in ("empty cache", "from the cache"):
            print(f" Thaw, {name}")
            subprocess.run([sys.executable, "-c", QUERY, ROOT / "src", url, cache], check=True)
        print(f"  cache                     {sum(p.stat().st_size for p in cache.rglob('*.parquet')) / 1e6:6.0f} MB")
    finally:
        process.terminate()
    if fiftyone:
        print(" FiftyOne, from files on disk")
        for name, source in (("labels/classifications.csv", LABELS), ("metadata/image_ids.csv", IMAGES)):
            (folder / "fiftyone" / name).parent.mkdir(parents=True)
            (folder / "fiftyone" / name).symlink_to(server / source)
        subprocess.run([fiftyone, "-c", FIFTYONE, folder / "fiftyone", TARGET], check=True)
    shutil.rmtree(server)


def generate(server: Path, rows: int) -> None:
    """Write tables of `rows` labels, for a fifth as many images and 601 classes, most of them rare."""
    rng = np.random.default_rng(0)
    for name in (LABELS, IMAGES):
        (server / name).parent.mkdir(parents=True)
    classes = pl.Series([TARGET, *(f"/m/0{number:05x}" for number in range(1, 601))])
    names = "".join(f"{label},{'Alpaca' if label == TARGET else label}\n" for label in classes)
    (server / "v5/class-descriptions-boxable.csv").write_text(names)
    ids = pl.Series("ImageID", [f"{n:016x}" for n in rng.integers(0, 2**64, rows // 5, np.uint64)]).unique().sort()
    frequency = rng.permutation(1 / np.arange(20, 621))
    pl.DataFrame(
        {
            "ImageID": ids.gather(np.sort(rng.integers(0, len(ids), rows))),
            "Source": pl.Series(["verification", "crowdsource-verification"]).gather(rng.integers(0, 2, rows)),
            "LabelName": classes.gather(rng.choice(601, rows, p=frequency / frequency.sum())),
            "Confidence": rng.integers(0, 2, rows),
        }
    ).write_csv(server / LABELS)
    start = pl.col("ImageID").str.slice(0, 4)
    pl.DataFrame(ids).select(
        "ImageID",
        Subset=pl.lit("train"),
        OriginalURL="https://farm1.staticflickr.com/5615/" + pl.col("ImageID") + "_o.jpg",
        OriginalLandingURL="https://www.flickr.com/photos/someone/" + pl.col("ImageID"),
        License=pl.lit("https://creativecommons.org/licenses/by/2.0/"),
        AuthorProfileURL="https://www.flickr.com/people/" + start + "/",
        Author="Author " + start,
        Title="A day, with " + pl.col("ImageID").str.slice(4, 5),
        OriginalSize=pl.lit(211079),
        OriginalMD5=pl.lit("0Sad+xMj2ttXM1U8meEJ0A=="),
        Thumbnail300KURL="https://c1.staticflickr.com/5/" + pl.col("ImageID") + "_z.jpg",
        Rotation=pl.lit("0.0"),
    ).write_csv(server / IMAGES)


def measure_photographs(folder: Path, count: int, kills: int) -> None:
    rng = random.Random(0)
    ids = [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(count + count // 50)]
    data = Data({TARGET: "Alpaca"}, {"train": [(id, TARGET, str(n % 2)) for n, id in enumerate(ids)]})
    missing = set(rng.sample(ids, count // 100))
    with Replica(data) as replica:

        def fault(path: str, _: int) -> str | None:
            if path.split("/")[-1].removesuffix(".jpg") in missing:
                return "404"
            return rng.choice(FAULTS) if path.endswith(".jpg") and rng.random() < 0.05 else None

        replica.fault = fault
        replica.delay = 0.05
        print(f"photographs: {count:,}, {len(missing)} of them missing on the server; 5 % of the requests fail")
        start = time.perf_counter()
        stage(folder / "undisturbed", replica).wait()
        seconds, requests = time.perf_counter() - start, sum(replica.requests.values())
        print(f"  not interrupted           {seconds:6.2f} s, {requests:,} requests")
        killed = 0
        while killed < kills:
            process = stage(folder / "killed", replica)
            time.sleep(rng.uniform(1.5, 3.0))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            if process.returncode == 0:
                break
        arrived = len(list((folder / "killed/cache").rglob("*.jpg")))
        print(f"  killed {killed} times; {arrived:,} photographs were there after the last kill")
        stage(folder / "killed", replica).wait()
    expected, files = (contents(folder / name / "data/raw") for name in ("undisturbed", "killed"))
    table = pl.read_csv(folder / "undisturbed/data/raw/images.csv")
    complete = set(table["image_id"]) == set(ids) - missing and table["image_id"].is_unique().all()
    images = zip(table["image_id"], table["path"], strict=True)
    intact = all(expected[Path(path)] == data.photograph(f"train/{image_id}") for image_id, path in images)
    print(f"  every existing photograph arrived once: {complete}; with the bytes that were sent: {intact}")
    print(f"  both runs gave the same bytes: {expected == files}")


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stage(folder: Path, replica: Replica) -> subprocess.Popen:
    """Start the stage `download` in `folder`."""
    folder.mkdir(exist_ok=True)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["download"]["source"] = "open_images"
    values["download"]["open_images"] |= {
        "annotations_url": replica.url, "images_url": replica.url, "cache_dir": str(folder / "cache"),
        "subsets": ["train"], "max_per_class": None,
    }  # fmt: skip
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return subprocess.Popen([sys.executable, ROOT / "src/download.py"], cwd=folder)


if __name__ == "__main__":
    main()
