"""Photographs from files of any kind to square RGB pixels."""

import io
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from thaw.errors import ThawError

cv2.setNumThreads(1)  # photographs are worked on side by side; threads within one would only compete

# A header may claim any size: refuse what would take gigabytes to decode. Pillow refuses twice the size it warns at.
MAX_PIXELS = 200_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}

UPRIGHT = {  # the EXIF orientation and what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: Path | bytes, least: int | None = None) -> np.ndarray:
    """Return a photograph as (height, width, 3) uint8 RGB, upright as its EXIF orientation says.

    A JPEG may be scaled while it is decoded, to no less than `least` pixels on each side. Of an animation the
    first frame counts; transparency is laid over white; 16 bits are scaled to 8; of a grey photograph the channels
    are one in memory, as `grey_of` finds. Raises ThawError with one line where the file is truncated, empty, or no
    image.
    """
    name = source if isinstance(source, Path) else "image"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if least is not None:
                image.draft("RGB", (least, least))
            return _upright_rgb(image)
    except FileNotFoundError:
        raise ThawError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise ThawError(f"{name}: not an image that can be read") from None
    except Image.DecompressionBombError:
        raise ThawError(f"{name}: over {MAX_PIXELS / 1e6:.0f} megapixels") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever damage leads them to
        raise ThawError(f"{name}: damaged ({error})") from None


def _upright_rgb(image: Image.Image) -> np.ndarray:
    image.load()  # a TIFF turns itself now, and forgets its orientation
    orientation = _orientation(image)
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    if image.mode.startswith("I"):  # 16-bit grey: 0-65535 in 16 or 32 bits
        return _rgb((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode == "L":
        return _rgb(np.asarray(image))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(0x0112)
    except (struct.error, OSError, SyntaxError, ValueError, LookupError, TypeError):
        return None  # what the camera said is damaged; the pixels are not


def _rgb(grey: np.ndarray) -> np.ndarray:
    return np.broadcast_to(grey[:, :, None], (*grey.shape, 3))


def grey_of(pixels: np.ndarray) -> np.ndarray | None:
    """Return the one channel, (h, w), of (h, w, 3) pixels that `decode` found to be grey: a third of the work."""
    return pixels[:, :, 0] if pixels.strides[2] == 0 else None


LONGEST = 4  # views that fit along the long side of a canvas; no shift of the plan reaches further from the middle


def fit(pixels: np.ndarray, size: int, resize: str) -> np.ndarray:
    """Scale (h, w, 3) pixels to the canvas that `centre` and augmentation take their (size, size, 3) view from.

    `crop`: the short side becomes `size` and the long side keeps what lies beyond the view, up to LONGEST views, so
    that a shifted view shows the photograph; `pad`: the long side becomes `size`, the rest is black; `squash`: both
    sides become `size`.
    """
    grey = grey_of(pixels)
    pixels = pixels if grey is None else grey
    height, width = pixels.shape[:2]
    if resize == "crop":
        longest = LONGEST * min(height, width)
        top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
        pixels = pixels[top : top + longest, left : left + longest]
        height, width = pixels.shape[:2]
    scale = size / (max if resize == "pad" else min)(height, width)
    new = (size, size) if resize == "squash" else (max(1, round(width * scale)), max(1, round(height * scale)))
    if new != (width, height):
        # Averaging areas is the filter that does not alias when shrinking; when growing it would give blocks.
        shrinks = new[0] <= width and new[1] <= height
        pixels = cv2.resize(pixels, new, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if resize == "pad":
        top, left = (size - new[1]) // 2, (size - new[0]) // 2
        pixels = cv2.copyMakeBorder(
            pixels, top, size - new[1] - top, left, size - new[0] - left, cv2.BORDER_CONSTANT, value=(0, 0, 0)
        )
    return pixels if grey is None else _rgb(pixels)


def centre(canvas: np.ndarray, size: int) -> np.ndarray:
    """Return the middle (size, size, 3) of a canvas of `fit`, as a view."""
    top, left = (canvas.shape[0] - size) // 2, (canvas.shape[1] - size) // 2
    view = canvas[top : top + size, left : left + size]
    grey = grey_of(view)
    return view if grey is None else cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
