"""The augmentation plan: the parameters of every augmented view, drawn at random before any image is decoded."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from thaw.parameters.augment import Augment

# The columns after those of `tables.ROWS`, in the order in which they are drawn. `images.augmentation` applies them.
COLUMNS = (
    "flip_horizontal",  # 0 or 1
    "flip_vertical",  # 0 or 1
    "quarter_turns",  # 0 to 3, anticlockwise
    "rotation",  # degrees, anticlockwise
    "zoom",  # magnification
    "shear",  # degrees
    "translation_x",  # fraction of the side, to the right
    "translation_y",  # fraction of the side, downwards
    "crop",  # fraction of the area that is kept
    "crop_x",  # position of the crop: -1 at the left, 1 at the right
    "crop_y",  # -1 at the top, 1 at the bottom
    "brightness",  # added, as a fraction of the full range
    "contrast",  # factor around mid-grey
    "saturation",  # factor, 0 is grey
    "hue",  # degrees
)


def draw(image_ids: Iterable[str], augment: "Augment") -> pl.DataFrame:
    """Return a plan with `augment.copies` rows for each image and candidate, sorted by `image_id` and `copy`.

    The columns are those of `tables.ROWS` and COLUMNS. The copies of an image are counted from 1; those of the first
    candidate come first. Every row has its own random generator, seeded with `augment.seed`, the id, and the number of
    the copy within its candidate. It draws one uniform number for each column. So a new image, one more copy, or
    another range of one parameter leaves all other values as they are. A preset draws the same values alone and among
    others.
    """
    ids = sorted(image_ids)
    plans = [
        _draw_candidate(ids, candidate, number * augment.copies) for number, candidate in enumerate(augment.candidates)
    ]
    return pl.concat(plans).sort("image_id", "copy")


def _draw_candidate(image_ids: list[str], augment: "Augment", copies_before: int) -> pl.DataFrame:
    keys = [(image_id, index) for image_id in image_ids for index in range(1, augment.copies + 1)]
    uniform = np.array([_uniform(augment.seed, *key) for key in keys]).reshape(len(keys), len(COLUMNS))
    u = dict(zip(COLUMNS, uniform.T, strict=True))  # [0, 1)
    symmetric = {name: 2 * values - 1 for name, values in u.items()}  # [-1, 1)
    drawn = {
        "flip_horizontal": (u["flip_horizontal"] < 0.5 * augment.flip_horizontal).astype(np.int64),
        "flip_vertical": (u["flip_vertical"] < 0.5 * augment.flip_vertical).astype(np.int64),
        "quarter_turns": np.floor(u["quarter_turns"] * (4 if augment.quarter_turns else 1)).astype(np.int64),
        "rotation": symmetric["rotation"] * augment.rotation,
        "zoom": 1 + symmetric["zoom"] * augment.zoom,
        "shear": symmetric["shear"] * augment.shear,
        "translation_x": symmetric["translation_x"] * augment.translation,
        "translation_y": symmetric["translation_y"] * augment.translation,
        "crop": 1 - u["crop"] * (1 - augment.crop),
        "crop_x": symmetric["crop_x"],
        "crop_y": symmetric["crop_y"],
        "brightness": symmetric["brightness"] * augment.brightness,
        "contrast": 1 + symmetric["contrast"] * augment.contrast,
        "saturation": 1 + symmetric["saturation"] * augment.saturation,
        "hue": symmetric["hue"] * augment.hue,
    }
    ids = pl.Series("image_id", [image_id for image_id, _ in keys], dtype=pl.String)
    copies = pl.Series("copy", [copies_before + index for _, index in keys], dtype=pl.Int64)
    preset = pl.repeat(augment.preset, len(keys), dtype=pl.String, eager=True).alias("preset")
    # Six decimals are far below a pixel or a grey level, and keep the table small. Adding 0 makes -0.0 a 0.0.
    values = [pl.Series(name, v.round(6) + 0 if v.dtype.kind == "f" else v) for name, v in drawn.items()]
    return pl.DataFrame([ids, copies, preset, *values])


def _uniform(seed: int, image_id: str, augmentation_index: int) -> np.ndarray:
    digest = hashlib.sha256(f"{seed}/{image_id}/{augmentation_index}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little")).random(len(COLUMNS))
