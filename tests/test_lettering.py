"""Names in any script are drawn with a font that has them; what no font has is a box."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from thaw.prediction import lettering


def drawn(text, size=24):
    picture = Image.new("L", (400, 48), "white")
    lettering.draw(ImageDraw.Draw(picture), (4, 4), text, "black", size)
    return np.asarray(picture)


BOX = drawn("\U000f0000")  # of a private area: no font has it


@pytest.mark.parametrize("text", ["Größe", "太阳能", "日本語", "한국어", "خلية", "कुत्ता", "ไทย", "שלום", "🦙", "Ж", "Ω"])
def test_each_script_has_characters_of_its_own(text):
    columns = np.flatnonzero((drawn(text) < 128).any(axis=0))
    assert len(columns) > 5
    assert not (drawn(text) == BOX).all() and not (drawn(text) == drawn("?" * len(text))).all()
    assert columns[-1] <= 4 + lettering.length(text, 24) + 2
    first = text[0]
    assert not (drawn(first) == BOX).all()


def test_what_no_font_has_is_a_box_and_a_control_character_cannot_break_the_line():
    assert (BOX < 128).any()
    assert (drawn("a\nb") == drawn("a\ufffdb")).all()


def test_characters_that_are_joined_are_one_run():
    """The letters of an Arabic word join, and a vowel sign of Devanagari stands on its letter."""
    for word in ("خلية", "कुत्ता"):
        assert lettering.length(word, 24) < sum(lettering.length(character, 24) for character in word)


def test_the_same_text_is_the_same_pixels():
    assert (drawn("太阳能 a") == drawn("太阳能 a")).all()
