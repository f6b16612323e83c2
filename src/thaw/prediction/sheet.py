"""A contact sheet of predictions: each image as the network received it, with its label and its name below."""

import io
import unicodedata
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thaw.core.files import atomic_file

SIDE, TEXT, GAP = 144, 34, 6  # pixels: the side of an image, the height of its two lines, the space between tiles
COLUMNS = 10
MAX_IMAGES = 890  # the sheet is 16,382 pixels high then; a WebP has at most 16,383
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


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
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
        for number, (image, *lines) in enumerate(self._tiles):
            left, top = GAP + number % columns * width, GAP + number // columns * height
            if image is None:
                draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill="lightgrey")
            else:
                sheet.paste(Image.fromarray(image), (left, top))
            for line, colour in zip(lines, ("black", "dimgrey"), strict=True):
                draw.text((left, top + SIDE + 1), _shorten(_to_ascii(line), font), fill=colour, font=font)
                top += TEXT // 2
        # Encoded in memory: on a full disk, Pillow leaves a truncated file without an error.
        encoded = io.BytesIO()
        sheet.save(encoded, Image.registered_extensions()[path.suffix.lower()], quality=88)
        with atomic_file(path) as temporary:
            temporary.write_bytes(encoded.getvalue())


def _to_ascii(text: str) -> str:
    """Return the text in ASCII, since Pillow's own font has little more: no accents, and ? for all other characters."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in letters)


def _shorten(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the text; if it is wider than an image, without its middle."""
    shown, kept = text, min(len(text), SIDE)
    while font.getlength(shown) > SIDE:
        kept -= 1
        shown = f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"
    return shown
