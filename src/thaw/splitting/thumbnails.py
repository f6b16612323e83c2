"""Small grey thumbnails of images, by which near-duplicates are recognised."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from thaw.images import decoding

SIDE = 32  # pixels, so 1 KB an image. 48 and 64 pixels told no more of the solar cells apart.
MIN_DECODED_SIDE = 4 * SIDE  # a JPEG is decoded at a reduced scale, but each pixel still averages at least 4 x 4
BLOCK_IMAGES = 512  # images given to the threads at a time; the results that wait for their turn need memory, too


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return the thumbnail (SIDE, SIDE) uint8 grey of an image (height, width, 3) uint8 RGB.

    Each pixel is the mean of its area. The aspect ratio is not kept.
    """
    grey = decoding.grey_channel(pixels)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if grey is None else grey
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def read(paths: Sequence[Path]) -> np.ndarray:
    """Return the thumbnails (n, SIDE, SIDE) uint8 of image files.

    Shows a progress bar in a terminal. Raises ThawError where a file cannot be decoded.
    """
    thumbnails = np.empty((len(paths), SIDE, SIDE), np.uint8)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(desc="near-duplicates", total=len(paths), disable=None, unit="image") as bar,
    ):
        for start in range(0, len(paths), BLOCK_IMAGES):
            block = paths[start : start + BLOCK_IMAGES]
            for row, small in enumerate(pool.map(_read, block), start):
                thumbnails[row] = small
            bar.update(len(block))
    return thumbnails


def _read(path: Path) -> np.ndarray:
    return thumbnail(decoding.decode(path, MIN_DECODED_SIDE))
