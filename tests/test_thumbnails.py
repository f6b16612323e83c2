"""Thumbnails are small and square, have brightness and colour, and are read in the order of the files."""

import numpy as np
import pytest
from PIL import Image

from thaw.core.errors import ThawError
from thaw.splitting import thumbnails
from thaw.splitting.thumbnails import thumbnail


def test_a_thumbnail_is_small_and_square():
    small = thumbnail(np.full((30, 500, 3), (255, 0, 0), np.uint8))
    assert small.dtype == thumbnails.THUMBNAIL and small.shape == ()
    assert (small["luma"] == 76).all()  # 0.299 x 255: red as ITU-R BT.601 weighs it
    assert (small["chroma"] == (255, 85)).all()


def test_a_grey_photograph_has_no_colour():
    assert (thumbnail(np.full((30, 50, 3), 90, np.uint8))["chroma"] == 128).all()


def test_the_thumbnail_of_a_grey_photograph_is_that_of_three_equal_channels():
    pixels = np.broadcast_to(np.random.default_rng(0).integers(0, 256, (90, 70, 1), np.uint8), (90, 70, 3))
    assert thumbnail(pixels) == thumbnail(pixels.copy())


def test_files_have_their_thumbnails_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "BLOCK_IMAGES", 3)
    images = np.random.default_rng(0).integers(0, 256, (7, 40, 50, 3), np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    found = thumbnails.read(paths, tmp_path / "data")
    assert found.tobytes() == np.stack([thumbnail(pixels) for pixels in images]).tobytes()
    assert not list((tmp_path / "data").iterdir())


def test_the_number_of_cores_changes_no_byte(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (7, 40, 50, 3), np.uint8)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    read = []
    for cores in (1, 5):
        monkeypatch.setattr(thumbnails, "usable_cores", lambda cores=cores: cores)
        read.append(thumbnails.read([tmp_path / f"{number}.jpg" for number in range(7)], tmp_path).tobytes())
    assert read[0] == read[1]


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "damaged.jpg").write_bytes(b"none")
    with pytest.raises(ThawError, match=r"damaged\.jpg"):
        thumbnails.read([tmp_path / "damaged.jpg"], tmp_path)
