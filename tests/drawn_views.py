"""Seven drawn images with a table, a split, and a plan of two augmented views of five of them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from thaw.core import tables
from thaw.features.extraction import Dataset, ImageSettings
from thaw.images import augmentation_plan
from thaw.parameters.augment import Augment

IMAGE = ImageSettings(size=32, resize="crop", engine="openvino")
AUGMENT = Augment(
    preset="none", copies=2, seed=1, flip_horizontal=True, flip_vertical=False, quarter_turns=False, rotation=10,
    zoom=0.1, shear=0, translation=0.1, crop=1, brightness=0.1, contrast=0, saturation=0, hue=0,
)  # fmt: skip


def draw(folder: Path) -> None:
    """Write the images and tables into a folder."""
    (folder / "raw" / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    ids = [f"p{number}" for number in range(7)]
    for image_id in ids:
        pixels = generator.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "raw" / "images" / f"{image_id}.png")
    rows = [
        {"image_id": i, "path": f"images/{i}.png", "label": "a", "weight": 1.0, "source": "drawn", "license": "",
         "author": "", "landing_url": "", "sha256": "0", "width": 50, "height": 40}
        for i in ids
    ]  # fmt: skip
    tables.write(pl.DataFrame(rows), folder / "raw" / "images.csv")
    (folder / "raw" / "source.json").write_text(json.dumps({"classes": ["a", "b"]}))
    parts = ["train"] * 5 + ["test"] * 2
    split = pl.DataFrame({"image_id": ids, "label": "a", "weight": 1.0, "group": ids, "split": parts})
    tables.write(split, folder / "split.csv")
    tables.write(augmentation_plan.draw(ids[:5], AUGMENT), folder / "augmentations.csv")


def dataset(folder: Path) -> Dataset:
    return Dataset(folder / "raw", folder / "split.csv", folder / "augmentations.csv")
