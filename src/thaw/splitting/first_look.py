"""The first look at pairs of images: a quick comparison of small grey images, many pairs at a time.

It leaves the second look few pairs, also where the hash calls many alike: of the solar cells (elpv-dataset) less than
1 % of these. It also says where a second look starts.
"""

import cv2
import numpy as np

from thaw.splitting.candidates import SMALL_SIDE
from thaw.splitting.thumbnails import SIDE

# The registration: the standard deviation of a Gaussian blur, in pixels. After it, a shift of 0.64 pixel (2 %) is
# nearly linear in the slopes. 1 and 1.6 fit the cut solar cells worse.
BLUR_SIGMA = 1.3
# Grey levels that weigh as much as a slope of as many per pixel. Between 2 and 8, a few pairs of cells differ.
NOISE_LEVEL = 3.0
# The largest unexplained difference of near-duplicates, as a fraction of the contrast. 99 % of the copies are below it,
# photographs of different things far above. The solar cells determine it: from 0.08 to 0.09, seven more cells that were
# photographed twice are found, and seven pairs of different cells merge; from 0.09 to 0.1 it is six and 16.
MAX_UNEXPLAINED = 0.09
# That of pairs which deserve a second step of registration, since one step explains little of 5 % cut off a side; and,
# after it, that of pairs which deserve a second look: an exact alignment explains more than two steps. Of 73,033
# candidates among the solar cells, 4,064 and 501 are left. With a single step and 0.16 it was 784, and six of 100 cells
# were missed where 5 % was cut off at the top.
MAX_AFTER_ONE_STEP = 0.3
MAX_AFTER_TWO_STEPS = 0.12
# Added to both mean squares. It decides only where there is no contrast: rounding to whole grey levels gives 9e-4.
ROUNDING_VARIANCE = 1e-4

SAMPLING = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # how an image is placed


def unexplained_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the part of each pair's difference that no shift, no stretch and no change of light explains.

    Takes what `register` takes. Returns (n,) float32, as a fraction of the contrast: near 0 for copies, about 1 for
    unrelated images, and 1 for images without contrast.
    """
    return register(first, second)[0]


def register(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay the second image of each pair over the first, by a shift and a stretch.

    `first`, `second`: (n, SMALL_SIDE, SMALL_SIDE) grey levels, 0-255. Returns the unexplained difference (n,) float32,
    and the placings (n, 3, 3) float32, from the pixels of the first thumbnail to those of the second.

    One step of image registration (Lucas and Kanade 1981) with a cubic tone curve. It is a least-squares fit of the
    difference on the powers of the brightness and on the slopes. The slopes also count multiplied by their position,
    because cutting off a side stretches the image. An error of a fraction of a pixel is largest where the slope is
    steep. So a pixel weighs 1 / sqrt(noise² + slope²): then the edges that all solar cells share do not hide the
    differences between cells.
    """
    first, second = first.astype(np.float32), second.astype(np.float32)
    mean = (first + second) / 2
    light, change = _filtered(_BLUR, mean, _BLUR), _filtered(_BLUR, second - first, _BLUR)
    dy, dx = _filtered(_SLOPE, mean, _BLUR), _filtered(_BLUR, mean, _SLOPE)
    light -= light.mean(axis=1, keepdims=True)
    unit = light / (light.std(axis=1, keepdims=True) + 1)
    terms = np.stack([unit**0, unit, unit**2, unit**3, dx, dx * _ACROSS, dy, dy * _DOWN], axis=1)
    weight = 1 / np.sqrt(NOISE_LEVEL**2 + dx**2 + dy**2)
    terms, change, light = terms * weight[:, None], change * weight, light * weight
    ridge = 1e-3 * np.eye(terms.shape[1], dtype=np.float32)  # for images without slopes or contrast
    coefficients = np.linalg.solve(terms @ terms.transpose(0, 2, 1) + ridge, terms @ change[:, :, None])
    residual = change - (coefficients.transpose(0, 2, 1) @ terms)[:, 0]
    unexplained = ((residual**2).mean(axis=1) + ROUNDING_VARIANCE) / ((light**2).mean(axis=1) + ROUNDING_VARIANCE)
    return np.sqrt(unexplained), _placings(coefficients[:, -4:, 0])


def small_image(luma: np.ndarray, placing: np.ndarray) -> np.ndarray:
    """Return the image (SIDE, SIDE) under a placing (2, 3) as (SMALL_SIDE, SMALL_SIDE) float32, means of areas."""
    return cv2.resize(placed(luma, placing), (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA)


def placed(image: np.ndarray, placing: np.ndarray) -> np.ndarray:
    """Return an image (side, side) or (side, side, channels) under a placing (2, 3), as float32."""
    size = image.shape[:2]
    return cv2.warpAffine(image.astype(np.float32), placing, size, flags=SAMPLING, borderMode=cv2.BORDER_REPLICATE)


def _placings(moved: np.ndarray) -> np.ndarray:
    """Return (n, 3, 3) of the (n, 4) pixels of a small image by which the pairs differ: `across`, and more of it at the
    right border than at the left one; `down`, and more of it at the lower border.
    """
    placings = np.zeros((len(moved), 3, 3), np.float32)
    pixel = SIDE / SMALL_SIDE
    for axis in (0, 1):
        shift, stretch = moved[:, 2 * axis], moved[:, 2 * axis + 1] / SMALL_SIDE
        placings[:, axis, axis] = 1 - stretch
        placings[:, axis, 2] = stretch * (pixel - 1) / 2 - shift * pixel
    placings[:, 2, 2] = 1
    return placings


# `unexplained_difference` samples every second pixel, not at the border. _BLUR and _SLOPE, (samples, SMALL_SIDE)
# float32, hold a row of weights for each sampled position: for a Gaussian blur, and for the derivative of the blurred
# image.
_positions = np.arange(2.5, SMALL_SIDE - 3, 2)
_offset = np.arange(SMALL_SIDE) - _positions[:, None]
_BLUR = np.exp(-0.5 * (_offset / BLUR_SIGMA) ** 2)
_BLUR /= _BLUR.sum(axis=1, keepdims=True)
_SLOPE = _BLUR * _offset / BLUR_SIGMA**2
_SLOPE -= _BLUR * _SLOPE.sum(axis=1, keepdims=True)
_BLUR, _SLOPE = _BLUR.astype(np.float32), _SLOPE.astype(np.float32)
_DOWN, _ACROSS = np.repeat(_positions, len(_positions)) / SMALL_SIDE, np.tile(_positions, len(_positions)) / SMALL_SIDE
_DOWN, _ACROSS = _DOWN.astype(np.float32), _ACROSS.astype(np.float32)


def _filtered(down: np.ndarray, images: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return (n, samples²): images (n, SMALL_SIDE, SMALL_SIDE) under a separable filter of `down` and `across`."""
    return (down @ images @ across.T).reshape(len(images), len(_positions) ** 2)
