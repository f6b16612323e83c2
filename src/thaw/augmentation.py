"""Augmentation as data: a plan of drawn parameters, and the warp and colour step that apply a row of it."""

import hashlib
import math
from collections.abc import Iterable

import cv2
import numpy as np
import polars as pl

from thaw import images
from thaw.params import Augment

# The columns of the plan behind `image_id` and `copy`, in the order in which they are drawn.
COLUMNS = (
    "flip_horizontal",  # 0 or 1
    "flip_vertical",  # 0 or 1
    "quarter_turns",  # 0 to 3, anticlockwise
    "rotation",  # degrees, anticlockwise
    "zoom",  # magnification
    "shear",  # degrees
    "translation_x",  # share of the side, to the right
    "translation_y",  # share of the side, downwards
    "crop",  # share of the area that is kept
    "crop_x",  # where the crop lies: -1 at the left, 1 at the right
    "crop_y",  # -1 at the top, 1 at the bottom
    "brightness",  # added, share of the full range
    "contrast",  # factor around mid-grey
    "saturation",  # factor, 0 is grey
    "hue",  # degrees
)


def draw_plan(image_ids: Iterable[str], augment: Augment) -> pl.DataFrame:
    """Draw `augment.copies` rows an image; columns `image_id`, `copy` (from 1) and COLUMNS.

    Every row has a generator of its own, seeded with the seed, the id and the copy, and draws each parameter from
    its own number: another image, another copy or another parameter's range changes no other value.
    """
    keys = [(image_id, copy) for image_id in sorted(image_ids) for copy in range(1, augment.copies + 1)]
    uniform = np.array([_uniform(augment.seed, *key) for key in keys]).reshape(len(keys), len(COLUMNS))
    u = dict(zip(COLUMNS, uniform.T, strict=True))
    spread = {name: 2 * values - 1 for name, values in u.items()}  # [-1, 1)
    drawn = {
        "flip_horizontal": (u["flip_horizontal"] < 0.5 * augment.flip_horizontal).astype(np.int64),
        "flip_vertical": (u["flip_vertical"] < 0.5 * augment.flip_vertical).astype(np.int64),
        "quarter_turns": np.floor(u["quarter_turns"] * (4 if augment.quarter_turns else 1)).astype(np.int64),
        "rotation": spread["rotation"] * augment.rotation,
        "zoom": 1 + spread["zoom"] * augment.zoom,
        "shear": spread["shear"] * augment.shear,
        "translation_x": spread["translation_x"] * augment.translation,
        "translation_y": spread["translation_y"] * augment.translation,
        "crop": 1 - u["crop"] * (1 - augment.crop),
        "crop_x": spread["crop_x"],
        "crop_y": spread["crop_y"],
        "brightness": spread["brightness"] * augment.brightness,
        "contrast": 1 + spread["contrast"] * augment.contrast,
        "saturation": 1 + spread["saturation"] * augment.saturation,
        "hue": spread["hue"] * augment.hue,
    }
    ids = pl.Series("image_id", [image_id for image_id, _ in keys], dtype=pl.String)
    copies = pl.Series("copy", [copy for _, copy in keys], dtype=pl.Int64)
    # Six decimals are far below a pixel or a grey level and keep the table short.
    values = [pl.Series(name, v.round(6) + 0 if v.dtype.kind == "f" else v) for name, v in drawn.items()]
    return pl.DataFrame([ids, copies, *values])


def _uniform(seed: int, image_id: str, copy: int) -> np.ndarray:
    digest = hashlib.sha256(f"{seed}/{image_id}/{copy}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little")).random(len(COLUMNS))


def apply(canvas: np.ndarray, size: int, row: dict[str, float]) -> np.ndarray:
    """Return a (size, size, 3) uint8 view of a canvas of `images.fit`, as a row of the plan says.

    One warp and one colour step. What lies outside the photograph is reflected, so that no border shows.
    """
    grey = images.grey_of(canvas)
    warped = cv2.warpAffine(
        canvas if grey is None else grey,
        _view_to_canvas(canvas.shape, size, row),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    colour = _colour_matrix(row) if grey is None else _colour_matrix(row | COLOURLESS)[:1, ::3]
    view = warped if np.array_equal(colour, np.eye(*colour.shape)) else cv2.transform(warped, colour)
    return view if grey is None else cv2.cvtColor(view, cv2.COLOR_GRAY2RGB)


def _view_to_canvas(shape: tuple[int, ...], size: int, row: dict[str, float]) -> np.ndarray:
    """The (2, 3) affine map from a pixel of the view to the point of the canvas that it shows."""
    angle = math.radians(row["rotation"]) + row["quarter_turns"] * math.pi / 2
    cosine, sine = (round(f(angle), 12) for f in (math.cos, math.sin))  # a quarter turn is exact
    turn = np.array([[cosine, -sine], [sine, cosine]])
    shear = np.array([[1.0, math.tan(math.radians(row["shear"]))], [0.0, 1.0]])
    flip = np.diag([1.0 - 2 * row["flip_horizontal"], 1.0 - 2 * row["flip_vertical"]])
    side = math.sqrt(row["crop"])
    linear = turn @ shear @ flip * (side / row["zoom"])
    middle = np.array([(shape[1] - size) // 2, (shape[0] - size) // 2]) + (size - 1) / 2
    shift = np.array([row["translation_x"], row["translation_y"]])
    crop = np.array([row["crop_x"], row["crop_y"]]) * (1 - side) / 2
    origin = middle + (crop - shift) * size - linear @ np.full(2, (size - 1) / 2)
    return np.column_stack([linear, origin])


# Rec. 601 luma and the two colour-difference axes (YIQ): hue turns the axes, saturation scales them.
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ)
MID_GREY = 127.5
COLOURLESS = {"hue": 0.0, "saturation": 1.0}  # which say nothing of a grey photograph


def _colour_matrix(row: dict[str, float]) -> np.ndarray:
    """The (3, 4) affine map of RGB 0-255: hue and saturation, then contrast around mid-grey, then brightness."""
    colour = np.eye(3)
    if row["hue"] or row["saturation"] != 1:
        cosine, sine = math.cos(math.radians(row["hue"])), math.sin(math.radians(row["hue"]))
        chroma = row["saturation"] * np.array([[cosine, -sine], [sine, cosine]])
        yiq = np.block([[np.eye(1), np.zeros((1, 2))], [np.zeros((2, 1)), chroma]])
        colour = YIQ_TO_RGB @ yiq @ RGB_TO_YIQ
    bias = MID_GREY * (1 - row["contrast"]) + 255 * row["brightness"]
    return np.column_stack([row["contrast"] * colour, np.full(3, bias)])
