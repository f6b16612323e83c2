"""Text in any script as pixels: Pillow's own font has little more than ASCII, and no font has all scripts.

The Noto fonts come as packages. So a text looks the same on every machine, whatever fonts are installed there.
"""

from functools import cache
from importlib.resources import files

from PIL import ImageDraw, ImageFont

REGULAR = [400]  # the weight of a font that has many
FIRST = "NotoSans[wght].ttf"  # Latin, Greek and Cyrillic; what no font has is a box of this one
LAST = "NotoEmoji[wght].ttf"  # has digits too
CJK, SIMPLIFIED_CHINESE = "NotoSansCJK-VF.otf.ttc", 2  # a collection; its characters differ by country
NO_CHARACTER = "\uffff"

Run = tuple[ImageFont.FreeTypeFont, str]


def draw(picture: ImageDraw.ImageDraw, position: tuple[int, int], text: str, colour: str, size: int) -> None:
    """Draw a line of text.

    Args:
        picture: to draw on.
        position: of the left upper corner, in pixels.
        text: without a line break.
        colour: its name.
        size: of the font, in pixels.
    """
    left, top = position
    baseline = top + _fonts(size)[0].getmetrics()[0]
    for font, run in _runs(text, size):
        picture.text((left, baseline), run, fill=colour, font=font, anchor="ls")
        left += font.getlength(run)


def length(text: str, size: int) -> float:
    """Return how many pixels wide a line of text is."""
    return sum(font.getlength(run) for font, run in _runs(text, size))


def _runs(text: str, size: int) -> list[Run]:
    """Split a text into runs of one font each: of the run before as long as that has the character, else the first."""
    fonts, runs = _fonts(size), []
    for character in text:
        shown = character if character.isprintable() or character == "\u200d" else "\ufffd"
        candidates = [font for font, _ in runs[-1:]] + fonts
        font = next((font for font in candidates if _has(font, shown)), fonts[0])
        if runs and runs[-1][0] is font:
            runs[-1] = font, runs[-1][1] + shown
        else:
            runs.append((font, shown))
    return runs


@cache
def _fonts(size: int) -> list[ImageFont.FreeTypeFont]:
    folder = files("manimgx_fonts")
    names = {entry.name for entry in folder.iterdir() if entry.name.endswith(".ttf") and "Italic" not in entry.name}
    ordered = [FIRST, *sorted(names - {FIRST, LAST}), LAST]
    fonts = [ImageFont.truetype(str(folder / name), size) for name in ordered]
    fonts.insert(-1, ImageFont.truetype(str(files("manimgx_fonts_cjk") / CJK), size, index=SIMPLIFIED_CHINESE))
    for font in fonts:
        font.set_variation_by_axes(REGULAR + [axis["default"] for axis in font.get_variation_axes()[1:]])
    return fonts


@cache
def _has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """Return whether a font has a character: it draws a box for those that it has not."""
    return character == "\u200d" or bytes(font.getmask(character)) != bytes(font.getmask(NO_CHARACTER))
