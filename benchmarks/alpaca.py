"""Run the recipe `alpaca` end to end against a replica of Open Images that serves a sample of it.

    python benchmarks/alpaca.py ../shared/open_images [--keep FOLDER]

The sample has its photographs in `images/` and Open Images' own tables in `annotations/`. One photograph in ten is
served turned, with the rotation that undoes it in the table of images. Everything runs in a fresh clone; what was
selected is checked against the tables.
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from replica import Data, Replica  # noqa: E402

SUBSETS = ("train", "validation", "test")
TURNED = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=Path)
    parser.add_argument("--keep", type=Path, help="a folder for the clone, instead of a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        clone = arguments.keep or Path(temporary, "clone")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        replica, turns = serve(arguments.sample)
        with replica:
            subprocess.run([sys.executable, "src/recipe.py", "alpaca"], cwd=clone, check=True)
            path = clone / "params.yaml"
            text = path.read_text()
            for key, value in (
                ("annotations_url", replica.url), ("images_url", replica.url), ("cache_dir", clone.parent / "cache")
            ):  # fmt: skip
                text = re.sub(rf"    {key}: \S+", f"    {key}: {value}", text)
            path.write_text(text)
            subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=clone, check=True)
        check(arguments.sample, clone, turns)
        metrics = json.loads((clone / "reports/metrics.json").read_text())
        for name in ("head", "fine_tuned"):
            test = metrics[name]["test"]
            low, high = test["accuracy_low"], test["accuracy_high"]
            print(f"{name}: accuracy {test['accuracy']:.3f} ({low:.3f} to {high:.3f}) on test")


def serve(sample: Path) -> tuple[Replica, dict[str, int]]:
    """Return a replica of the sample's files, and the rotations by image id."""
    replica = Replica(Data({}, {}))
    turns = {}
    names = {"class-descriptions-boxable.csv": "/v5"}
    for subset in SUBSETS:
        boxable = "-boxable" if subset == "train" else ""
        names[f"{subset}-annotations-human-imagelabels-boxable.csv"] = "/v5"
        names[f"{subset}-images{boxable}-with-rotation.csv"] = f"/2018_04/{subset}"
    for name, folder in names.items():
        body = (sample / "annotations" / name).read_bytes()
        if folder != "/v5":
            table = pl.read_csv(body, infer_schema=False)
            for image_id in table["ImageID"]:
                digest = hashlib.sha256(image_id.encode()).digest()
                turns[image_id] = 90 * (1 + digest[1] % 3) if digest[0] < 26 else 0
                photograph = (sample / "images" / f"{image_id}.jpg").read_bytes()
                replica.data.photographs[f"{folder.split('/')[-1]}/{image_id}"] = turned(photograph, turns[image_id])
            rotation = pl.Series([f"{turns[i]}.0" if turns[i] else "" for i in table["ImageID"]])
            body = table.with_columns(Rotation=rotation).write_csv().encode()
        replica.files[f"{folder}/{name}"] = body
    return replica, turns


def turned(photograph: bytes, turn: int) -> bytes:
    """A JPEG that has to be turned by `turn` degrees counter-clockwise to stand upright again."""
    if not turn:
        return photograph
    out = io.BytesIO()
    with Image.open(io.BytesIO(photograph)) as image:
        image.transpose(TURNED[turn]).save(out, "JPEG", quality=95)
    return out.getvalue()


def check(sample: Path, clone: Path, turns: dict[str, int]) -> None:
    """Compare what was selected with the tables, and each stored photograph with the sample's upright one."""
    labels = pl.concat(
        pl.read_csv(sample / f"annotations/{s}-annotations-human-imagelabels-boxable.csv", infer_schema=False)
        for s in SUBSETS
    ).filter(LabelName="/m/0pcr")
    verified = dict(labels.select("ImageID", "Confidence").iter_rows())
    table = pl.read_csv(clone / "data/raw/images.csv", infer_schema=False)
    expected = {"1": "Alpaca", "0": "not Alpaca"}
    wrong = [i for i, label in table.select("image_id", "label").iter_rows() if expected[verified[i]] != label]
    print(f"selected: {dict(table['label'].value_counts().iter_rows())}, of which wrong by their table: {len(wrong)}")
    differences = []
    for image_id, path in table.select("image_id", "path").iter_rows():
        with Image.open(clone / "data/raw" / path) as stored, Image.open(sample / f"images/{image_id}.jpg") as original:
            distance = 255.0
            if stored.size == original.size:
                distance = np.abs(np.asarray(stored.convert("L"), int) - np.asarray(original.convert("L"), int)).mean()
            differences.append((distance, turns[image_id]))
    rotated = [d for d, turn in differences if turn]
    plain = [d for d, turn in differences if not turn]
    print(f"rotated: {len(rotated)}, of which upright again: {sum(d < 4 for d in rotated)}")
    print(f"not rotated: {len(plain)}, of which as they were sent: {sum(d == 0 for d in plain)}")


if __name__ == "__main__":
    main()
