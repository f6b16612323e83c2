"""Small thumbnails of images, by which near-duplicates are recognised."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from thaw.core import progress
from thaw.core.cache import Cache
from thaw.core.machine import usable_cores
from thaw.core.store import Photograph
from thaw.images import decoding

SIDE = 64  # pixels. With 32, the prints of two T-shirts look the same.
COLOUR_SIDE = 16  # pixels: colour needs no detail, and JPEG keeps little of it
MIN_DECODED_SIDE = 4 * SIDE  # a JPEG is decoded at a reduced scale, but each pixel still averages at least 4 x 4
BLOCK_IMAGES = 512  # images given to the threads at a time; the results that wait for their turn need memory, too

# Brightness and colour (Cr and Cb of ITU-R BT.601; 128: grey) of one image: 4.6 KB.
THUMBNAIL = np.dtype([("luma", np.uint8, (SIDE, SIDE)), ("chroma", np.uint8, (COLOUR_SIDE, COLOUR_SIDE, 2))])


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return the thumbnail, an array () of THUMBNAIL, of an image (height, width, 3) uint8 RGB.

    Each pixel is the mean of its area. The aspect ratio is not kept.
    """
    small = np.empty((), THUMBNAIL)
    grey = decoding.grey_channel(pixels)
    if grey is not None:
        small["luma"], small["chroma"] = _resized(grey, SIDE), 128
        return small
    colours = cv2.cvtColor(_resized(pixels, SIDE), cv2.COLOR_RGB2YCrCb)
    small["luma"], small["chroma"] = colours[:, :, 0], _resized(colours[:, :, 1:], COLOUR_SIDE)
    return small


def read(paths: Sequence[Photograph], folder: Path, cache: Cache | None = None, bits: int | None = None) -> np.ndarray:
    """Return the thumbnails of photographs, (n,) of THUMBNAIL, read-only. Shows its progress.

    Args:
        paths: the photographs.
        folder: where the thumbnails lie, in a file without a name that is gone when the process ends. Those of a
            million images need 4.6 GB there, and no memory.
        cache: of decoded pixels.
        bits: of values in 16 bits, where a file does not say it.

    Raises:
        ThawError: An image cannot be decoded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile(dir=folder) as file,
        ThreadPoolExecutor(usable_cores()) as pool,
        progress.bar("near-duplicates", len(paths)) as bar,
    ):
        for start in range(0, len(paths), BLOCK_IMAGES):
            block = paths[start : start + BLOCK_IMAGES]
            file.writelines(small.tobytes() for small in pool.map(partial(_read, cache=cache, bits=bits), block))
            bar.update(len(block))
        file.flush()
        return np.memmap(file, THUMBNAIL, mode="r", shape=(len(paths),)) if len(paths) else np.empty(0, THUMBNAIL)


def _read(path: Photograph, cache: Cache | None, bits: int | None) -> np.ndarray:
    if bits is not None:
        return thumbnail(decoding.decode(path, MIN_DECODED_SIDE, bits))
    return thumbnail(decoding.read(path, MIN_DECODED_SIDE, cache))


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
