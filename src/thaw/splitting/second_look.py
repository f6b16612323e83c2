"""The second look at a pair of thumbnails: are they one photograph, changed?

The first image is laid over the second one as exactly as an affine change allows. What then differs is compared block
by block, since two photographs that differ in one place only are two photographs: a print on a T-shirt, the cap of a
bottle. Brightness is compared in detail, colour roughly. And the first look is taken once more: it tells the faint
differences of solar cells from the frame and the busbars that they share.

The limits were measured on 116 photographs of clothes that look alike (`look_alikes`: all 6,670 pairs are different
photographs), 2,624 solar cells (elpv-dataset), 2,527 photographs of waste (trashnet) and 125 of Open Images; and on
copies of these: JPEG at quality 30 to 90, other sizes, light, contrast, blur, grey, up to 10 % cut off a side.
`benchmarks/duplicates.py` measures them again.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from thaw.splitting import first_look
from thaw.splitting.thumbnails import COLOUR_SIDE, SIDE

# Largest difference in the worst places, as a fraction of the contrast there, and over the whole image. With both, one
# pair of the 116 different clothes passes. The copies that are above are mostly of very dark or even solar cells.
MAX_WORST = 0.29
MAX_OVERALL = 0.17
# That over the whole image before the alignment, which takes most of the time. It ends half of the second looks at
# different clothes; of 4,694 copies, 99 % are below 0.2 and all below 0.5.
MAX_BEFORE_ALIGNMENT = 0.5
# Largest difference of colour, in levels of Cr and Cb, in the tenth of the image where it is largest.
MAX_COLOUR = 16.0
# An image whose colours are all nearer to grey is a grey one, and may be a copy of one with colours.
MIN_COLOUR = 4.0

BLOCKS = 4  # the image is compared in 4 x 4 blocks
WORST_BLOCKS = 2  # the difference is that of the mean of these: one may be at the border, or hold a reflection
MIN_BLOCKS = 8  # that both images show
NOISE_LEVEL = 2.0  # grey levels, added to the contrast of each block: where there is none, only noise differs
FINE, COARSE = 2.0, 5.0  # Gaussian blurs in pixels: detail finer than the first is not compared, nor shading coarser
MARGIN = 4  # pixels at the border that are not compared: a line that ends there may be cut off
MAX_GAIN = 2.0  # of the contrast of all blocks together
MAX_COLOUR_GAIN = 1.4
MIN_LIGHT, MAX_LIGHT = 3.0, 252.0  # grey levels beyond these are clipped: too dark or too bright for the camera
COLOUR_BLUR = 1.0  # pixels of the colour: where two colours meet, a fraction of a pixel is a large difference

ALIGNING_BLUR, ALIGNING_FINE, ALIGNING_STEPS = 1.2, 1.0, 50
MAX_SHEAR, MAX_SCALE = 0.12, 4 / 3  # an alignment beyond these fits two different images

_IDENTITY = np.eye(2, 3, dtype=np.float32)


def match(first: np.ndarray, second: np.ndarray, placing: np.ndarray) -> np.ndarray | None:
    """Return how the first image lies on the second one, or None if they are different photographs.

    Args:
        first: a thumbnail, () of THUMBNAIL.
        second: another one.
        placing: where to start: (2, 3) float32, affine, from the pixels of the second image to those of the first.

    Returns:
        The placing (2, 3) that was found.
    """
    for forward in (True, False):  # an image that shows more is laid on one that shows less, not the other way round
        pair = (first, second) if forward else (second, first)
        start = placing if forward else cv2.invertAffineTransform(placing).astype(np.float32)
        for found in _placings(*pair, start):
            measured = differences(*pair, found)
            if measured is not None and _is_same(*pair, found, measured):
                return found if forward else cv2.invertAffineTransform(found).astype(np.float32)
            if found is start and (measured is None or measured[1] > MAX_BEFORE_ALIGNMENT):
                break
    return None


def _is_same(first: np.ndarray, second: np.ndarray, placing: np.ndarray, measured: tuple[float, float, float]) -> bool:
    worst, overall, colour = measured
    if worst > MAX_WORST or overall > MAX_OVERALL or colour > MAX_COLOUR:
        return False
    small = (
        first_look.small_image(image["luma"], where)[None] for image, where in ((first, placing), (second, _IDENTITY))
    )
    return bool(first_look.unexplained_difference(*small)[0] <= first_look.MAX_UNEXPLAINED)


def differences(first: np.ndarray, second: np.ndarray, placing: np.ndarray) -> tuple[float, float, float] | None:
    """Return what the limits above are for: the difference in the worst blocks, overall, and of the colour.

    The arguments are those of `match`. The difference of the colour is 0 if one of the images is grey. Returns None
    where the images overlap in too small a part.
    """
    shown = cv2.warpAffine(np.ones((SIDE, SIDE), np.float32), placing, (SIDE, SIDE), flags=first_look.SAMPLING) > 0.99
    shown[:MARGIN], shown[-MARGIN:], shown[:, :MARGIN], shown[:, -MARGIN:] = False, False, False, False
    pixels = _by_block(shown.astype(np.float32))
    blocks = pixels > (SIDE // BLOCKS) ** 2 / 3
    if blocks.sum() < MIN_BLOCKS:
        return None
    a, b = _equally_clipped(first_look.placed(first["luma"], placing), second["luma"].astype(np.float32), shown)
    a, b = _detail(a), _detail(b)
    a[~shown], b[~shown] = 0, 0
    pixels = pixels[blocks]
    energy_a, energy_b, common = (_by_block(product)[blocks] / pixels for product in (a * a, b * b, a * b))
    gain = (np.sqrt(energy_b.mean()) + 0.5) / (np.sqrt(energy_a.mean()) + 0.5)
    gain = np.clip(gain, 1 / MAX_GAIN, MAX_GAIN)
    difference = np.maximum(gain**2 * energy_a + energy_b - 2 * gain * common, 0)
    energy = (gain**2 * energy_a + energy_b) / 2
    worst = np.sort(np.sqrt(difference) / (np.sqrt(energy) + NOISE_LEVEL))[-WORST_BLOCKS:].mean()
    overall = np.sqrt(difference.mean()) / (np.sqrt(energy.mean()) + NOISE_LEVEL)
    return float(worst), float(overall), _colour_difference(first["chroma"], second["chroma"], placing)


def _equally_clipped(a: np.ndarray, b: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clip each of two images where the other one is: what was too bright or too dark there has lost its detail.

    The light of one is that of the other times a factor, plus a shift, by the pixels that neither has clipped.
    """
    lit = shown & (np.minimum(a, b) > MIN_LIGHT) & (np.maximum(a, b) < MAX_LIGHT)
    if not lit.any():
        return a, b
    factor = np.clip((b[lit].std() + 0.5) / (a[lit].std() + 0.5), 1 / MAX_GAIN, MAX_GAIN)
    shift = b[lit].mean() - factor * a[lit].mean()
    bounds = []
    for other, black, white in ((b, -shift / factor, (255 - shift) / factor), (a, shift, 255 * factor + shift)):
        low = black if other[shown].min() <= MIN_LIGHT else -np.inf
        high = white if other[shown].max() >= MAX_LIGHT else np.inf
        bounds.append((low, high))
    return np.clip(a, *bounds[0]), np.clip(b, *bounds[1])


def _colour_difference(first: np.ndarray, second: np.ndarray, placing: np.ndarray) -> float:
    """Return the difference of two images' colours, (COLOUR_SIDE, COLOUR_SIDE, 2), stronger ones allowed for."""
    placing = placing.copy()  # from the pixels of `luma` to the larger ones here, whose middles lie elsewhere
    ratio = SIDE // COLOUR_SIDE
    placing[:, 2] = (placing[:, 2] + (placing[:, :2].sum(axis=1) - 1) * (ratio - 1) / 2) / ratio
    ones = np.ones((COLOUR_SIDE, COLOUR_SIDE), np.float32)
    shown = cv2.warpAffine(ones, placing, ones.shape, flags=first_look.SAMPLING) > 0.99
    if not shown.any():
        return np.inf
    a, b = (
        _blurred(first_look.placed(first, placing), COLOUR_BLUR)[shown] - 128,
        _blurred(second.astype(np.float32), COLOUR_BLUR)[shown] - 128,
    )
    if min(_strongest(np.abs(colours).max(axis=1)) for colours in (a, b)) < MIN_COLOUR:
        return 0.0
    gain = np.clip((a * b).sum() / ((a * a).sum() + 1e-6), 1 / MAX_COLOUR_GAIN, MAX_COLOUR_GAIN)
    return _strongest(np.sqrt(((gain * a - b) ** 2).sum(axis=1)))


def _strongest(values: np.ndarray) -> float:
    """Return the mean of the largest tenth of the values."""
    return float(np.sort(values)[-max(1, len(values) // 10) :].mean())


def _placings(first: np.ndarray, second: np.ndarray, start: np.ndarray) -> Iterator[np.ndarray]:
    """Yield how the first image may lie on the second: as at the start, then aligned from there.

    Detail is aligned exactly, but only if the start is near. Brightness may start farther away; it is then led astray
    by what has entered at a border.
    """
    yield start
    images = first["luma"].astype(np.float32), second["luma"].astype(np.float32)
    brightness = [_blurred(image, ALIGNING_BLUR) for image in images]
    detail = [_detail(image, ALIGNING_FINE) for image in images]
    aligned = _aligned(*detail, start)
    if aligned is not None:
        yield aligned
    rough = _aligned(*brightness, start)
    if rough is not None:
        yield rough
        aligned = _aligned(*detail, rough)
        if aligned is not None:
            yield aligned


def _aligned(first: np.ndarray, second: np.ndarray, placing: np.ndarray) -> np.ndarray | None:
    """Return a placing near `placing` that maximises the correlation (Evangelidis and Psarakis 2008), or None."""
    end = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ALIGNING_STEPS, 1e-5)
    try:
        _, found = cv2.findTransformECC(second, first, placing.copy(), cv2.MOTION_AFFINE, end, None, 1)
    except cv2.error:  # it does not converge
        return None
    scales, shears = np.abs(np.diag(found)), np.abs([found[0, 1], found[1, 0]])
    is_plausible = shears.max() <= MAX_SHEAR and scales.max() <= MAX_SCALE and scales.min() >= 1 / MAX_SCALE
    return found if is_plausible else None


def _detail(luma: np.ndarray, finest: float = FINE) -> np.ndarray:
    fine = _blurred(luma, finest)
    return fine - _blurred(fine, COARSE)


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def _by_block(values: np.ndarray) -> np.ndarray:
    """Return the sum (BLOCKS, BLOCKS) of the values (SIDE, SIDE) of each block."""
    size = SIDE // BLOCKS
    return values.reshape(BLOCKS, size, BLOCKS, size).sum(axis=(1, 3))
