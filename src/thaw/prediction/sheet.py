"""A contact sheet of predictions: each image as the network received it, with its label and its name below."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from thaw.core.files import atomic_file
from thaw.prediction import lettering

SIDE, TEXT, GAP = 144, 34, 6  # pixels: the side of an image, the height of its two lines, the space between tiles
FONT_SIZE = 12  # pixels
COLUMNS = 10
MAX_IMAGES = 890  # the sheet is 16,382 pixels high then; a WebP has at most 16,383
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
SOFTWARE_TAG, SOFTWARE = 0x0131, "thaw predict"  # in the Exif data of a sheet


def is_sheet(file: Path) -> bool:
    """Return whether a file is a sheet that `Sheet.write` wrote."""
    if file.suffix.lower() not in ENDINGS or not file.is_file():
        return False
    try:
        with Image.open(file) as image:
            return image.getexif().get(SOFTWARE_TAG) == SOFTWARE
    except Exception:  # Pillow's plugins raise errors of many types on a damaged file
        return False


class Sheet:
    """Keeps small copies of images until the sheet is written. Images after the first MAX_IMAGES are only counted."""

    def __init__(self):
        self._tiles: list[tuple[np.ndarray | None, str, str]] = []
        self.left_out = 0

    def add(self, view: np.ndarray | None, title: str, name: str) -> None:
        """Add a (size, size, 3) uint8 image, or None if it cannot be read, and the two lines below it."""
        if len(self._tiles) == MAX_IMAGES:
            self.left_out += 1
            return
        small = None if view is None else cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        self._tiles.append((small, title, name))

    def write(self, path: Path) -> None:
        """Write the sheet, in the format of the path's ending, one of ENDINGS. At least one image was added."""
        columns = min(COLUMNS, len(self._tiles))
        rows = -(-len(self._tiles) // columns)
        width, height = SIDE + GAP, SIDE + TEXT + GAP
        sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
        draw = ImageDraw.Draw(sheet)
        for number, (image, *lines) in enumerate(self._tiles):
            left, top = GAP + number % columns * width, GAP + number // columns * height
            if image is None:
                draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill="lightgrey")
            else:
                sheet.paste(Image.fromarray(image), (left, top))
            for line, colour in zip(lines, ("black", "dimgrey"), strict=True):
                lettering.draw(draw, (left, top + SIDE), _shorten(line), colour, FONT_SIZE)
                top += TEXT // 2
        # Encoded in memory: on a full disk, Pillow leaves a truncated file without an error.
        encoded, exif = io.BytesIO(), Image.Exif()
        exif[SOFTWARE_TAG] = SOFTWARE
        sheet.save(encoded, Image.registered_extensions()[path.suffix.lower()], quality=88, exif=exif)
        with atomic_file(path) as temporary:
            temporary.write_bytes(encoded.getvalue())


def _shorten(text: str) -> str:
    """Return the text; if it is wider than an image, without its middle."""
    shown, kept = text, min(len(text), SIDE)
    while lettering.length(shown, FONT_SIZE) > SIDE:
        kept -= 1
        shown = f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"
    return shown
