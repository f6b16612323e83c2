"""What the numbers in a file mean: which is black, and which is white. A file of more than 8 bits has to say so.

Cameras of 10 to 14 bits are often stored in 16, with values that end at 1,023 to 16,383. Scaled by 65,535 such a
photograph is nearly black. PNG can say how many bits count (sBIT), TIFF in several tags, JPEG 2000 and PPM always do.
Values that use the highest of 16 bits are of 16 bits. What is left is not guessed: see `UnknownDepthError`.
"""

import io
import struct
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from thaw.core.errors import ThawError
from thaw.core.store import Photograph

FULL = 65_535  # white, of 16 bits
LOWEST_OF_16_BITS = 1 << 15  # values from here on need 16 bits
SCALED_BY_PILLOW = ("JPEG2000", "PPM")  # to 16 bits, from the depth that the file has
PNG_SIGNATURE_BYTES = 8
GREY_BITS = {"L;2": 2, "L;4": 4, "L": 8}  # of what Pillow scales to 8 bits
JPEG2000_SIZE, JPEG2000_DEPTH = b"\xff\x4f\xff\x51", 38  # the first markers, and how far behind them the depth is
JPEG2000_HEAD = 1 << 16  # bytes that hold the first markers, behind boxes such as a colour profile
# Tags of TIFF
PLANES, SEPARATE = 284, 2
BITS_PER_SAMPLE, PHOTOMETRIC, MAX_VALUE, SAMPLE_FORMAT, SMIN_VALUE, SMAX_VALUE = 258, 262, 281, 339, 340, 341
MIN_IS_WHITE, SIGNED = 0, 2


class UnknownDepthError(ThawError):
    """The file does not say how many bits its values have, or what else is black and white."""


class Range(NamedTuple):
    """The values of black and white."""

    black: float
    white: float


def is_deep(image: Image.Image) -> bool:
    """Return whether an image that is open, but not loaded yet, has more than 8 bits, or signed values."""
    if image.mode.startswith(("I", "F")) or _is_signed(image):
        return True
    if image.format == "JPEG2000":
        return _jpeg2000_bits(image) > 8
    return any(";16" in str(tile.args) for tile in image.tile)


def refuse_deep_planes(image: Image.Image) -> None:
    """Raise UnknownDepthError for a TIFF, not loaded yet, whose planes of 16 bits Pillow reads as bytes."""
    if _has_deep_planes(image) and image.tile and image.tile[0].codec_name == "raw":
        raise UnknownDepthError(_REMEDY_PLANES)


def _has_deep_planes(image: Image.Image) -> bool:
    if image.format != "TIFF" or image.tag_v2.get(PLANES) != SEPARATE or len(image.getbands()) == 1:
        return False
    return (_number(image.tag_v2.get(BITS_PER_SAMPLE)) or 8) > 8


def read(image: Image.Image, source: Photograph | bytes, bits: int | None) -> Image.Image:
    """Return an image that `is_deep`, not loaded yet, in 8 bits.

    Args:
        image: opened by Pillow.
        source: what it was opened from. Pillow reads only the high byte of colours.
        bits: of the values, where the file does not say it; None if the person did not say it either.

    Returns:
        The image in mode L, RGB or RGBA, with all that Pillow knows about it.

    Raises:
        UnknownDepthError: nobody says what is white.
    """
    said = _said(image)
    several = len(image.getbands()) > 1
    if _is_signed(image) and not several and image.mode == "L":
        raise UnknownDepthError(f"signed values: {_REMEDY_RANGE}")
    image.load()
    if several:
        return _colour(image, source, said, bits)
    values = np.asarray(image)
    if image.mode == "F" and not np.isfinite(values).all():
        raise UnknownDepthError("floating-point pixels that are no number or infinite")
    if image.mode == "F" and said is None:
        raise UnknownDepthError(f"floating-point pixels have no known range: {_REMEDY_RANGE}")
    if image.mode != "F" and values.size and values.min() < 0 and said is None:
        raise UnknownDepthError(f"signed values: {_REMEDY_RANGE}")
    is_clear = values == image.info.get("transparency") if image.format == "PNG" else np.zeros(values.shape, bool)
    visible = values[~is_clear]  # the transparent value is often a mark beyond the others
    known = (
        said if isinstance(said, Range) else Range(0, _white(image, int(visible.max(initial=0)), visible, said, bits))
    )
    grey = scale(values, known)
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == MIN_IS_WHITE:
        grey = 255 - grey
    return Image.fromarray(np.dstack([grey, np.where(is_clear, 0, 255).astype(np.uint8)]) if is_clear.any() else grey)


def scale_transparent_grey(image: Image.Image) -> None:
    """Scale the grey that a PNG calls transparent as Pillow scales its pixels, of an image that is not loaded yet."""
    grey = image.info.get("transparency")
    bits = GREY_BITS.get(str(image.tile[0].args)) if image.tile else None
    if image.format == "PNG" and isinstance(grey, int) and bits:
        white = 2**bits - 1
        image.info["transparency"] = (grey & white) * 255 // white


_REMEDY_PLANES = "16 bits for each colour in separate planes: save it with the colours of a pixel together"
_REMEDY_RANGE = "the file does not say what is black and white; save it with 8 or 16 unsigned bits"


def scale(values: np.ndarray, known: Range) -> np.ndarray:
    """Return values of any type as uint8: black is 0, white is 255, and what lies beyond is cut off."""
    black, white = known
    return ((values.clip(black, white) - black) / ((white - black) / 255)).round().astype(np.uint8)


def _said(image: Image.Image) -> Range | int | None:
    """Return what the file says: black and white, or how many bits count; None if nothing."""
    if image.format == "JPEG2000" and len(image.getbands()) > 1:
        return Range(0, 2 ** _jpeg2000_bits(image) - 1)
    if image.format in SCALED_BY_PILLOW and image.mode != "F":
        return Range(0, FULL)
    if image.format == "PNG":
        return _significant_bits(image)
    if image.format != "TIFF":
        return None
    tags = image.tag_v2
    low, high = (_number(tags.get(tag)) for tag in (SMIN_VALUE, SMAX_VALUE))
    if high is not None and high > (low or 0):
        return Range(low or 0, high)
    bits = _number(tags.get(BITS_PER_SAMPLE))
    if bits and 8 < bits < 16:
        return Range(0, 2**bits - 1)
    # Often it is only the largest value that occurs: of a depth it speaks where no other number would do.
    highest = _number(tags.get(MAX_VALUE))
    return Range(0, highest) if highest in {2**n - 1 for n in range(8, 16)} else None


def _white(image: Image.Image, brightest: int, values: np.ndarray, said: int | None, bits: int | None) -> int:
    """Return the value of white.

    Args:
        image: what the values are of.
        brightest: of the values.
        values: unsigned.
        said: the bits that count, by sBIT. By the specification of PNG they are the highest of the 16; some programs
            write them as the lowest, and then the lowest are not all 0.
        bits: what the person says.
    """
    if said is not None:
        is_low = brightest < 2**said and bool((values & (2 ** (16 - said) - 1)).any())
        return 2**said - 1 if is_low else FULL
    if bits is not None:
        if brightest >= 2**bits:
            raise UnknownDepthError(f"values up to {brightest:,} do not fit into {bits} bits")
        return 2**bits - 1
    is_of_16_bits = image.mode != "I" or "16" in str(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, 16))
    if brightest == 0 or (is_of_16_bits and LOWEST_OF_16_BITS <= brightest <= FULL):
        return FULL
    # Without the value itself: this way many files have the same reason, which is counted.
    raise UnknownDepthError(
        f"{16 if is_of_16_bits else 32}-bit values that need {max(8, brightest.bit_length())} bits: the file does not "
        "say what is white; set download.bits, or --bits for a prediction"
    )


def _colour(image: Image.Image, source: Photograph | bytes, said: Range | int | None, bits: int | None) -> Image.Image:
    """Return a colour image in 8 bits; the high bytes, which Pillow has read, are right where white has 16 bits.

    Not so where one colour is transparent: only all of its 16 bits tell it from similar ones. Nor of JPEG 2000: there
    Pillow rounds, and white becomes black.
    """
    colours = image.getextrema()[:3] if image.mode.startswith(("RGB", "LA")) else ()
    has_range = isinstance(said, Range)
    uses_all = not (colours or has_range) or max((high for _, high in colours), default=0) >= LOWEST_OF_16_BITS >> 8
    is_full = said == Range(0, FULL) if has_range else uses_all
    one_is_clear = "transparency" in image.info
    pillow_is_right = not one_is_clear and image.format != "JPEG2000"
    if is_full and bits in (None, 16) and pillow_is_right:
        return image
    if _has_deep_planes(image):  # OpenCV mixes them up
        raise UnknownDepthError(_REMEDY_PLANES)
    data = np.frombuffer(source if isinstance(source, bytes) else source.read_bytes(), np.uint8)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise UnknownDepthError(f"16 bits for each colour, which are hardly used: {_REMEDY_RANGE}")
    has_alpha = one_is_clear or image.mode.endswith("A")  # a fourth band may be something else, such as infrared
    colours, alpha = values[:, :, 2::-1], values[:, :, 3 : 4 if has_alpha else 3]
    visible = colours[alpha[:, :, 0] > 0] if one_is_clear else colours
    known = said if has_range else Range(0, _white(image, int(visible.max(initial=0)), visible, said, bits))
    if known == Range(0, FULL) and pillow_is_right:
        return image
    opaque = known.white if alpha.max(initial=0) <= known.white else FULL
    return Image.fromarray(np.concatenate([scale(colours, known), scale(alpha, Range(0, opaque))], axis=2))


def _jpeg2000_bits(image: Image.Image) -> int:
    """Return the bits of the first component, which the marker SIZ of the code stream has; 8 if there is none."""
    file = image.fp
    position = file.tell()
    try:
        file.seek(0)
        head = file.read(JPEG2000_HEAD)
    finally:
        file.seek(position)
    start = head.find(JPEG2000_SIZE)
    place = start + len(JPEG2000_SIZE) + JPEG2000_DEPTH
    return (head[place] & 0x7F) + 1 if start >= 0 and place < len(head) else 8


def _significant_bits(image: Image.Image) -> int | None:
    """Return the bits that count in a PNG (sBIT, before its pixels), or None if it does not say."""
    file = image.fp
    position = file.tell()
    try:
        file.seek(PNG_SIGNATURE_BYTES)
        while len(header := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", header)
            if name == b"sBIT":
                bits = max(file.read(length)[: 3 if length > 2 else 1], default=0)  # without that of alpha
                return bits if 8 <= bits <= 16 else None
            if name == b"IDAT":
                return None
            file.seek(length + 4, io.SEEK_CUR)
        return None
    finally:
        file.seek(position)


def _is_signed(image: Image.Image) -> bool:
    return image.format == "TIFF" and _number(image.tag_v2.get(SAMPLE_FORMAT)) == SIGNED


def _number(value: object) -> float | None:
    """Return the first number of a tag, or None if it has none."""
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int | float) else None
