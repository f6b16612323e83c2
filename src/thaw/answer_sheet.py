"""A contact sheet of answers: each photograph as the network saw it, with what it was taken for below it."""

import io
import unicodedata
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thaw.files import whole_file

SIDE, TEXT, GAP = 144, 34, 6  # pixels: a photograph, the two lines below it, and what lies between
COLUMNS = 10
MOST = 890  # photographs on a sheet, which is 16,382 pixels long then: a WebP ends at 16,383
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class Sheet:
    """Photographs as they come, kept small until the sheet is written; those after the first MOST are only counted."""

    def __init__(self):
        self._tiles: list[tuple[np.ndarray | None, str, str]] = []
        self.left_out = 0

    def add(self, view: np.ndarray | None, title: str, name: str) -> None:
        """Add a (size, size, 3) uint8 photograph, or None where there is none to show, and its two lines."""
        if len(self._tiles) == MOST:
            self.left_out += 1
            return
        small = None if view is None else cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        self._tiles.append((small, title, name))

    def write(self, path: Path) -> None:
        """Write the sheet in the format that the ending of `path` names, one of ENDINGS; at least one was added."""
        columns = min(COLUMNS, len(self._tiles))
        rows = -(-len(self._tiles) // columns)
        width, height = SIDE + GAP, SIDE + TEXT + GAP
        sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
        for number, (photograph, *lines) in enumerate(self._tiles):
            left, top = GAP + number % columns * width, GAP + number // columns * height
            if photograph is None:
                draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill="lightgrey")
            else:
                sheet.paste(Image.fromarray(photograph), (left, top))
            for line, colour in zip(lines, ("black", "dimgrey"), strict=True):
                draw.text((left, top + SIDE + 1), _shortened(_plain(line), font), fill=colour, font=font)
                top += TEXT // 2
        # Encoded in memory: on a full disk, Pillow leaves a truncated file and says nothing.
        encoded = io.BytesIO()
        sheet.save(encoded, Image.registered_extensions()[path.suffix.lower()], quality=88)
        with whole_file(path) as temporary:
            temporary.write_bytes(encoded.getvalue())


def _plain(text: str) -> str:
    """Return the text in ASCII, for Pillow's own font has little more: letters without their accents, ? for others."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in letters)


def _shortened(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the text with its middle left out where it is wider than a photograph."""
    shown, kept = text, min(len(text), SIDE)
    while font.getlength(shown) > SIDE:
        kept -= 1
        shown = f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"
    return shown
