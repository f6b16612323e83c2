"""Thumbnails are small, square and grey, and are read from files in the order of the files."""

import numpy as np
import pytest
from PIL import Image

from thaw.core.errors import ThawError
from thaw.splitting import thumbnails
from thaw.splitting.thumbnails import thumbnail


def test_a_thumbnail_is_small_square_and_grey():
    small = thumbnail(np.full((30, 500, 3), (255, 0, 0), np.uint8))
    assert small.shape == (32, 32) and small.dtype == np.uint8
    assert (small == 76).all()  # 0.299 x 255: red as ITU-R BT.601 weighs it


def test_the_thumbnail_of_a_grey_photograph_is_that_of_three_equal_channels():
    pixels = np.broadcast_to(np.random.default_rng(0).integers(0, 256, (90, 70, 1), np.uint8), (90, 70, 3))
    np.testing.assert_array_equal(thumbnail(pixels), thumbnail(pixels.copy()))


def test_files_have_their_thumbnails_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "BLOCK_IMAGES", 3)
    images = np.random.default_rng(0).integers(0, 256, (7, 40, 50, 3), np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(thumbnails.read(paths), np.stack([thumbnail(pixels) for pixels in images]))


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "damaged.jpg").write_bytes(b"none")
    with pytest.raises(ThawError, match=r"damaged\.jpg"):
        thumbnails.read([tmp_path / "damaged.jpg"])
