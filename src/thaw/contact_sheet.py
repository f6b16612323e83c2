"""Many small photographs on one sheet."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from thaw.files import whole_file

GAP = 4  # pixels between photographs


def write(rows: Iterable[np.ndarray], path: Path) -> None:
    """Write rows of (columns, size, size, 3) uint8 photographs as one JPEG on white."""
    rows = list(rows)
    columns, size = rows[0].shape[:2]
    step = size + GAP
    sheet = np.full((len(rows) * step + GAP, columns * step + GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, photograph in enumerate(row):
            top, left = GAP + i * step, GAP + j * step
            sheet[top : top + size, left : left + size] = photograph
    # Encoded in memory: on a full disk, Pillow leaves a truncated file and says nothing.
    jpeg = io.BytesIO()
    Image.fromarray(sheet).save(jpeg, "JPEG", quality=88)
    with whole_file(path) as temporary:
        temporary.write_bytes(jpeg.getvalue())
