"""Run the recipe `alpaca` from end to end, against a local server that has a sample of Open Images.

    python benchmarks/alpaca.py ../shared/open_images [--keep FOLDER]

The sample has photographs in `images/` and the tables of Open Images in `annotations/`. The server rotates one
photograph in ten, and its table of images gives the rotation that makes it upright again. The recipe runs in a fresh
clone. Then the selected photographs are compared with the tables.
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
ROTATED = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=Path)
    parser.add_argument("--keep", type=Path, help="put the clone here instead of into a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        clone = arguments.keep or Path(temporary, "clone")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        replica, rotations = serve(arguments.sample)
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
        check(arguments.sample, clone, rotations)
        metrics = json.loads((clone / "reports/metrics.json").read_text())
        for name in ("head", "fine_tuned"):
            test = metrics[name]["test"]
            low, high = test["accuracy_low"], test["accuracy_high"]
            print(f"{name}: accuracy {test['accuracy']:.3f} ({low:.3f} to {high:.3f}) on test")


def serve(sample: Path) -> tuple[Replica, dict[str, int]]:
    """Make a server of the sample's files.

    Returns:
        The server, and the rotation of each image in degrees by its id.
    """
    replica = Replica(Data({}, {}))
    rotations = {}
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
                rotations[image_id] = 90 * (1 + digest[1] % 3) if digest[0] < 26 else 0
                jpeg = (sample / "images" / f"{image_id}.jpg").read_bytes()
                replica.data.photographs[f"{folder.split('/')[-1]}/{image_id}"] = rotate(jpeg, rotations[image_id])
            column = pl.Series([f"{rotations[i]}.0" if rotations[i] else "" for i in table["ImageID"]])
            body = table.with_columns(Rotation=column).write_csv().encode()
        replica.files[f"{folder}/{name}"] = body
    return replica, rotations


def rotate(jpeg: bytes, rotation: int) -> bytes:
    """Rotate a JPEG clockwise, so that a counter-clockwise rotation by `rotation` degrees makes it upright again."""
    if not rotation:
        return jpeg
    output = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as image:
        image.transpose(ROTATED[rotation]).save(output, "JPEG", quality=95)
    return output.getvalue()


def check(sample: Path, clone: Path, rotations: dict[str, int]) -> None:
    """Compare the selected labels with the tables, and each stored photograph with the upright one of the sample."""
    labels = pl.concat(
        pl.read_csv(sample / f"annotations/{s}-annotations-human-imagelabels-boxable.csv", infer_schema=False)
        for s in SUBSETS
    ).filter(LabelName="/m/0pcr")
    verified = dict(labels.select("ImageID", "Confidence").iter_rows())
    table = pl.read_csv(clone / "data/raw/images.csv", infer_schema=False)
    expected = {"1": "Alpaca", "0": "not Alpaca"}
    wrong = [i for i, label in table.select("image_id", "label").iter_rows() if expected[verified[i]] != label]
    counts = dict(table["label"].value_counts().iter_rows())
    print(f"selected: {counts}, {len(wrong)} of them with a label that contradicts the table")
    differences = []
    for image_id, path in table.select("image_id", "path").iter_rows():
        with Image.open(clone / "data/raw" / path) as stored, Image.open(sample / f"images/{image_id}.jpg") as original:
            distance = 255.0
            if stored.size == original.size:
                distance = np.abs(np.asarray(stored.convert("L"), int) - np.asarray(original.convert("L"), int)).mean()
            differences.append((distance, rotations[image_id]))
    rotated = [distance for distance, rotation in differences if rotation]
    plain = [distance for distance, rotation in differences if not rotation]
    print(f"rotated: {len(rotated)}, {sum(d < 4 for d in rotated)} of them upright again")
    print(f"not rotated: {len(plain)}, {sum(d == 0 for d in plain)} of them stored unchanged")


if __name__ == "__main__":
    main()
