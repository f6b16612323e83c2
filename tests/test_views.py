"""A view is what the network receives: the plain one and the augmented ones come from one decoded image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.core.errors import ThawError
from thaw.images import augmentation, decoding, views

SIZE = 24
ROW = {
    "flip_horizontal": 1, "flip_vertical": 0, "quarter_turns": 1, "rotation": 10.0, "zoom": 1.1, "shear": 2.0,
    "translation_x": 0.1, "translation_y": 0.0, "crop": 0.8, "crop_x": 0.5, "crop_y": 0.0,
    "brightness": 0.1, "contrast": 1.1, "saturation": 0.9, "hue": 5.0,
}  # fmt: skip

each_resize = pytest.mark.parametrize("resize", ["crop", "pad", "squash"])


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Image files: two in colour and a grey one."""
    rng = np.random.default_rng(0)
    for name, shape in (("a", (40, 60, 3)), ("b", (90, 30, 3)), ("c", (50, 70))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / f"{name}.png")
    return sorted(tmp_path.glob("*.png"))


@each_resize
def test_the_network_input_is_the_centre_of_the_resized_image(paths, resize):
    for path in paths:
        pixels = np.array(Image.open(path).convert("RGB"))
        expected = decoding.centre_crop(decoding.fit(pixels, SIZE, resize), SIZE)
        view = views.network_input(path, SIZE, resize)
        assert view.shape == (SIZE, SIZE, 3) and view.dtype == np.uint8
        np.testing.assert_array_equal(view, expected)


def test_bytes_give_the_same_network_input_as_their_file(paths):
    view, expected = (views.network_input(source, SIZE, "crop") for source in (paths[0].read_bytes(), paths[0]))
    np.testing.assert_array_equal(view, expected)


def test_the_network_input_does_not_keep_the_canvas_in_memory(paths):
    assert all(views.network_input(path, SIZE, "crop").base is None for path in paths)


def test_the_network_input_of_a_damaged_file_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "damaged.png"
    path.write_bytes(b"none")
    with pytest.raises(ThawError, match=str(path)):
        views.network_input(path, SIZE, "crop")


@each_resize
def test_each_image_has_its_planned_views_in_order(paths, resize):
    plans = [[None, ROW], [ROW], [None]]
    drawn = list(views.draw(paths, plans, SIZE, resize))
    assert [view.shape for view in drawn] == [(len(plan), SIZE, SIZE, 3) for plan in plans]
    for path, plan, image_views in zip(paths, plans, drawn, strict=True):
        canvas = decoding.fit(decoding.decode(path, SIZE), SIZE, resize)
        for row, view in zip(plan, image_views, strict=True):
            expected = augmentation.apply(canvas, SIZE, row) if row else views.network_input(path, SIZE, resize)
            np.testing.assert_array_equal(view, expected)


def test_each_image_is_decoded_once(paths, monkeypatch):
    decoded, decode = [], decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda *arguments: (decoded.append(arguments[0]), decode(*arguments))[1])
    list(views.draw(paths, [[None, ROW, ROW]] * 3, SIZE, "crop"))
    assert sorted(decoded) == paths
