"""Contact sheets: many small images in rows and columns of one JPEG file."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from thaw.core.files import atomic_file

GAP = 4  # pixels between images


def write(rows: Iterable[np.ndarray], path: Path) -> None:
    """Write a contact sheet on a white background as a JPEG file.

    Each of `rows` is (columns, size, size, 3) uint8 RGB, all of one shape.
    """
    rows = list(rows)
    columns, size = rows[0].shape[:2]
    step = size + GAP
    sheet = np.full((len(rows) * step + GAP, columns * step + GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = GAP + i * step, GAP + j * step
            sheet[top : top + size, left : left + size] = image
    # Encoded in memory first: on a full disk, Pillow would leave a truncated file without an error.
    jpeg = io.BytesIO()
    Image.fromarray(sheet).save(jpeg, "JPEG", quality=88)
    with atomic_file(path) as temporary:
        temporary.write_bytes(jpeg.getvalue())
