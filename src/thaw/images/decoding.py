"""Decode image files of any kind to upright RGB pixels, and resize these to square views."""

import io
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from thaw.core.errors import ThawError
from thaw.images import pixel_values

cv2.setNumThreads(1)  # images are processed in parallel; more threads within one image would only compete

# A header may claim any size: refuse what would take gigabytes to decode. Pillow refuses twice the size at which it
# warns.
MAX_PIXELS = 200_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

UPRIGHT = {  # EXIF orientation → the operation that makes the pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: Path | bytes, min_size: int | None = None, bits: int | None = None) -> np.ndarray:
    """Return an image as (height, width, 3) uint8 RGB, upright by its EXIF orientation.

    Only the first frame of an animation, and the first page of a TIFF, is decoded. Transparent pixels are blended with
    white. More than 8 bits are scaled to 8, as the file says or `bits`: see `pixel_values`. A colour profile is not
    applied. The three channels of a grey image share one channel's memory: see `grey_channel`.

    With `min_size`, a JPEG is decoded at a reduced scale, where each side still has at least `min_size` pixels: this is
    faster. Raises ThawError, with one line, where the file is missing, truncated, empty, too large or not an image;
    UnknownDepthError where neither the file nor `bits` says what is white.
    """
    name = source if isinstance(source, Path) else "image"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if min_size is not None:
                image.draft("RGB", (min_size, min_size))
            return _upright_rgb(image, source, bits)
    except FileNotFoundError:
        raise ThawError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise ThawError(f"{name}: not an image that can be read") from None
    except Image.DecompressionBombError:
        raise ThawError(f"{name}: over {MAX_PIXELS / 1e6:.0f} megapixels") from None
    except pixel_values.UnknownDepthError as error:
        raise pixel_values.UnknownDepthError(f"{name}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise errors of many types on a damaged file
        raise ThawError(f"{name}: damaged ({error})") from None


def _upright_rgb(image: Image.Image, source: Path | bytes, bits: int | None) -> np.ndarray:
    opened = image
    if pixel_values.is_deep(opened):
        image = pixel_values.read(opened, source, bits)
    else:
        pixel_values.scale_transparent_grey(opened)
        image.load()  # makes a TIFF upright, and removes its orientation
    orientation = _orientation(opened)
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
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
        return None  # the EXIF data are damaged, the pixels are not


def _rgb(grey: np.ndarray) -> np.ndarray:
    return np.broadcast_to(grey[:, :, None], (*grey.shape, 3))


def grey_channel(pixels: np.ndarray) -> np.ndarray | None:
    """Return the one channel (h, w) of a grey image (h, w, 3), or None for a colour image.

    An image is grey if its three channels share memory, as `decode` returns a file of one channel. Working on one
    channel takes a third of the time.
    """
    return pixels[:, :, 0] if pixels.strides[2] == 0 else None


# A canvas is at most this many views long. A translation moves a view by less than its side, so this is enough.
MAX_VIEWS_PER_CANVAS = 4


def fit(pixels: np.ndarray, size: int, resize: str) -> np.ndarray:
    """Resize pixels (h, w, 3) to a canvas (h', w', 3), from which `centre_crop` and augmentation take their views.

    `size` is the side of a view, in pixels. The shorter side of the canvas has this size. `resize` is one of:

    - `crop`: the short side becomes `size`. The long side keeps the rest of the image beyond the view, up to
      MAX_VIEWS_PER_CANVAS views, so that a translated view shows the image and not its reflection.
    - `pad`: the long side becomes `size`. Black bars fill the rest.
    - `squash`: both sides become `size`. The aspect ratio is lost.
    """
    grey = grey_channel(pixels)
    pixels = pixels if grey is None else grey
    height, width = pixels.shape[:2]
    if resize == "crop":
        longest = MAX_VIEWS_PER_CANVAS * min(height, width)
        top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
        pixels = pixels[top : top + longest, left : left + longest]
        height, width = pixels.shape[:2]
    scale = size / (max if resize == "pad" else min)(height, width)
    new_width, new_height = (size, size) if resize == "squash" else (round(width * scale), round(height * scale))
    new_width, new_height = max(1, new_width), max(1, new_height)
    if (new_width, new_height) != (width, height):
        # Area averaging does not alias when an image shrinks; when it grows, it would show blocks.
        shrinks = new_width <= width and new_height <= height
        filter = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels = cv2.resize(pixels, (new_width, new_height), interpolation=filter)
    if resize == "pad":
        top, left = (size - new_height) // 2, (size - new_width) // 2
        bottom, right = size - new_height - top, size - new_width - left
        pixels = cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return pixels if grey is None else _rgb(pixels)


def centre_crop(canvas: np.ndarray, size: int) -> np.ndarray:
    """Return the centre (size, size, 3) of a canvas of `fit`: the plain view."""
    top, left = (canvas.shape[0] - size) // 2, (canvas.shape[1] - size) // 2
    view = canvas[top : top + size, left : left + size]
    grey = grey_channel(view)
    return view if grey is None else cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
