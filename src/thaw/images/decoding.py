"""Decode image files of any kind to upright RGB pixels, and resize these to square views.

The pixels of a large JPEG can be kept in a cache. Of 12 megapixels, decoding takes twelve times as long as reading them
there. They are told apart by the content of the file, by the scale, and by the code that decodes.
"""

import contextlib
import hashlib
import inspect
import io
import math
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError, features

from thaw.core import store
from thaw.core.cache import LIMIT, Cache, say, size_text
from thaw.core.errors import ThawError
from thaw.core.store import Photograph
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
TRANSPOSED = (5, 6, 7, 8)  # the orientations of an image whose sides change places

CHECKED_SIDE = 256  # pixels that the shorter side keeps where an image is only checked
MIN_KEPT_BYTES = 250_000  # of a file: decoding a smaller one takes at most 2 ms, and its pixels are larger than itself
JPEG_START = b"\xff\xd8\xff"
SHAPE = struct.Struct("<III")  # height, width and channels, before the pixels in the cache
SAMPLED = 50  # images by which the size of the pixels of all is estimated
CODE = hashlib.sha256(
    b"".join(Path(file).read_bytes() for file in (__file__, pixel_values.__file__))
    + inspect.getsource(store.open_image).encode()
    + f"{PIL.__version__} {features.version('jpg')}".encode()
).hexdigest()[:16]


def decode(source: Photograph | bytes, min_size: int | None = None, bits: int | None = None) -> np.ndarray:
    """Return an image as (height, width, 3) uint8 RGB, upright by its EXIF orientation.

    Only the first frame of an animation, and the first page of a TIFF, is decoded. Transparent pixels are blended with
    white. More than 8 bits are scaled to 8, as the file says or `bits`: see `pixel_values`. A colour profile is not
    applied. The three channels of a grey image share one channel's memory: see `grey_channel`.

    With `min_size`, a JPEG is decoded at a reduced scale, where each side still has at least `min_size` pixels: this is
    faster. Raises ThawError, with one line, where the file is missing, truncated, empty, too large or not an image;
    UnknownDepthError where neither the file nor `bits` says what is white.
    """
    with _opened(source) as image:
        if min_size is not None:
            _reduce(image, min_size)
        return _upright_rgb(image, source, bits)


class Reduced(NamedTuple):
    """How large an image is that is decoded at a reduced scale."""

    upright: tuple[int, int]  # height and width of the whole image
    decoded: tuple[int, int]  # width and height of what is decoded, before it is made upright


def reduced_size(source: Photograph | bytes, min_size: int) -> Reduced | None:
    """Return how large an image is, by its header; None if `decode` with this `min_size` does not reduce it.

    Raises ThawError if it cannot be opened.
    """
    with _opened(source) as image:
        return _reduce(image, min_size)


def _reduce(image: Image.Image, min_size: int) -> Reduced | None:
    """Have an image loaded at the smallest scale with `min_size` pixels; None if this is that of the image itself."""
    width, height = image.size
    image.draft("RGB", (min_size, min_size))
    if image.size == (width, height):
        return None
    return Reduced((width, height) if _orientation(image) in TRANSPOSED else (height, width), image.size)


@contextlib.contextmanager
def _opened(source: Photograph | bytes) -> Iterator[Image.Image]:
    """Open an image; raises ThawError where this, or what is done with it, fails."""
    name = "image" if isinstance(source, bytes) else source
    try:
        with Image.open(io.BytesIO(source)) if isinstance(source, bytes) else store.open_image(source) as image:
            yield image
    except store.DamagedShardError:
        raise
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


def _upright_rgb(image: Image.Image, source: Photograph | bytes, bits: int | None) -> np.ndarray:
    opened = image
    pixel_values.refuse_deep_planes(opened)
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
    # Area averaging does not alias a side that shrinks; of a side that grows, it would show blocks.
    shrunk = min(new_width, width), min(new_height, height)
    for side, filter in ((shrunk, cv2.INTER_AREA), ((new_width, new_height), cv2.INTER_LINEAR)):
        if side != pixels.shape[1::-1]:
            pixels = cv2.resize(pixels, side, interpolation=filter)
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


def read(path: Photograph, min_size: int, cache: Cache | None) -> np.ndarray:
    """Return the pixels of an image file as `decode` does: from the cache, if it has them; else it keeps them."""
    content = _large_jpeg(path) if cache else None
    return decode(path, min_size) if content is None else _read(path, content, min_size, cache)


def check(source: Photograph | bytes, cache: Cache | None = None) -> tuple[int, int]:
    """Return the height and width of an image, upright, after all of it was decoded; raises as `decode` does.

    A JPEG is decoded at a reduced scale, in a third of the time: the decoder reads every byte and finds the same
    faults. The cache keeps the pixels of a file for later stages.
    """
    content = _large_jpeg(source) if cache else None
    if content is None:
        with _opened(source) as image:
            reduced = _reduce(image, CHECKED_SIDE)
            pixels = _upright_rgb(image, source, bits=None)
    else:
        pixels = _read(source, content, CHECKED_SIDE, cache)
        reduced = reduced_size(content, CHECKED_SIDE)
    return reduced.upright if reduced else pixels.shape[:2]


def announce(paths: Sequence[Photograph], cache: Cache | None) -> None:
    """Tell the person, before the work, if the pixels of these image files are more than the cache may hold."""
    if cache is None or not paths:
        return
    sample = paths[:: -(-len(paths) // SAMPLED)]
    needed = len(paths) * sum(map(_kept_bytes, sample)) // len(sample)
    if needed > cache.limit:
        say(
            f"the pixels of {len(paths):,} photographs need about {size_text(needed)}, and the cache {cache.folder} "
            f"holds up to {size_text(cache.limit)} ({LIMIT}): each stage decodes those again that do not fit"
        )


def _read(path: Photograph, content: bytes, min_size: int, cache: Cache) -> np.ndarray:
    try:
        reduced = reduced_size(content, min_size)
        name = _name(content, reduced) if reduced else ""
        kept = cache.get(name) if reduced else None
        if kept is not None:
            return _unpacked(kept)
        pixels = decode(content, min_size)
    except ThawError:
        return decode(path, min_size)  # raises the same error, with the name of the file
    if reduced:
        cache.put(name, _packed(pixels))
    return pixels


def _name(content: bytes, reduced: Reduced) -> str:
    digest, (width, height) = hashlib.sha256(content).hexdigest(), reduced.decoded
    return f"pixels/{digest[:2]}/{digest[2:]}-{width}x{height}-{CODE}"


def _packed(pixels: np.ndarray) -> bytes:
    grey = grey_channel(pixels)
    channels = pixels if grey is None else grey[:, :, None]
    return SHAPE.pack(*channels.shape) + channels.tobytes()


def _unpacked(kept: bytes) -> np.ndarray:
    shape = SHAPE.unpack_from(kept)
    pixels = np.frombuffer(kept, np.uint8, offset=SHAPE.size).reshape(shape)
    return pixels if shape[2] == 3 else _rgb(pixels[:, :, 0])


def _large_jpeg(path: Photograph) -> bytes | None:
    """Return the content of a JPEG file that is large enough; None of any other file, or of one that is not there."""
    try:
        if store.byte_count(path) < MIN_KEPT_BYTES:
            return None
        with path.open("rb") as file:
            start = file.read(len(JPEG_START))
            return start + file.read() if start == JPEG_START else None
    except OSError:  # decoding it gives the reason
        return None


def _kept_bytes(path: Photograph) -> int:
    """Return how many bytes the cache would keep of an image file."""
    try:
        reduced = reduced_size(path, CHECKED_SIDE) if store.byte_count(path) >= MIN_KEPT_BYTES else None
    except (OSError, ThawError):
        return 0
    return 3 * math.prod(reduced.decoded) if reduced else 0
