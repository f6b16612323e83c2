"""Apply a row of the augmentation plan to an image: one affine warp, then one colour transform."""

import math

import cv2
import numpy as np

from thaw.images import decoding

# YIQ: luma as in Rec. 601, and two colour-difference axes. Hue rotates these two axes, saturation scales them.
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ)
MID_GREY = 127.5
UNCHANGED_COLOUR = {"hue": 0.0, "saturation": 1.0}


def apply(canvas: np.ndarray, size: int, row: dict[str, float]) -> np.ndarray:
    """Return the augmented view of a canvas, (size, size, 3) uint8 RGB.

    `canvas` is the (h, w, 3) uint8 result of `decoding.fit`. `row` has the columns of `augmentation_plan`. Pixels
    outside the canvas are its reflection, so that no border shows. On a grey image hue and saturation have no effect.
    """
    grey = decoding.grey_channel(canvas)
    warped = cv2.warpAffine(
        canvas if grey is None else grey,
        _view_to_canvas(canvas.shape, size, row),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    colour = _colour_matrix(row) if grey is None else _colour_matrix(row | UNCHANGED_COLOUR)[:1, ::3]
    view = warped if np.array_equal(colour, np.eye(*colour.shape)) else cv2.transform(warped, colour)
    return view if grey is None else cv2.cvtColor(view, cv2.COLOR_GRAY2RGB)


def _view_to_canvas(shape: tuple[int, ...], size: int, row: dict[str, float]) -> np.ndarray:
    """Return the (2, 3) affine map from a pixel of the view to the point of the canvas that it shows."""
    angle = math.radians(row["rotation"]) + row["quarter_turns"] * math.pi / 2
    cosine, sine = (round(f(angle), 12) for f in (math.cos, math.sin))  # exact at multiples of 90 degrees
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    shear = np.array([[1.0, math.tan(math.radians(row["shear"]))], [0.0, 1.0]])
    flip = np.diag([1.0 - 2 * row["flip_horizontal"], 1.0 - 2 * row["flip_vertical"]])
    crop_side = math.sqrt(row["crop"])  # `crop` is an area
    linear = rotation @ shear @ flip * (crop_side / row["zoom"])
    centre = np.array([(shape[1] - size) // 2, (shape[0] - size) // 2]) + (size - 1) / 2
    translation = np.array([row["translation_x"], row["translation_y"]])
    crop_offset = np.array([row["crop_x"], row["crop_y"]]) * (1 - crop_side) / 2
    origin = centre + (crop_offset - translation) * size - linear @ np.full(2, (size - 1) / 2)
    return np.column_stack([linear, origin])


def _colour_matrix(row: dict[str, float]) -> np.ndarray:
    """Return the (3, 4) affine map of RGB 0-255: hue and saturation, then contrast around mid-grey, then brightness."""
    colour = np.eye(3)
    if row["hue"] or row["saturation"] != 1:
        cosine, sine = math.cos(math.radians(row["hue"])), math.sin(math.radians(row["hue"]))
        chroma = row["saturation"] * np.array([[cosine, -sine], [sine, cosine]])
        yiq = np.block([[np.eye(1), np.zeros((1, 2))], [np.zeros((2, 1)), chroma]])
        colour = YIQ_TO_RGB @ yiq @ RGB_TO_YIQ
    bias = MID_GREY * (1 - row["contrast"]) + 255 * row["brightness"]
    return np.column_stack([row["contrast"] * colour, np.full(3, bias)])
