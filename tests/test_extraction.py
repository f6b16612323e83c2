"""The extraction: known in size before it begins, and the same where its output is computed when it is asked for."""

import json
from collections import namedtuple

import numpy as np
import polars as pl
import pytest
from PIL import Image as Picture

from thaw import augmentation, extraction, inference, openvino, tables
from thaw.conversion import convert
from thaw.errors import ThawError
from thaw.keras import keras
from thaw.params import Augment, Image

IMAGE = Image(size=32, resize="crop", engine="openvino")
AUGMENT = Augment(
    copies=2, seed=1, flip_horizontal=True, flip_vertical=False, quarter_turns=False, rotation=10, zoom=0.1, shear=0,
    translation=0.1, crop=1, brightness=0.1, contrast=0, saturation=0, hue=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven drawn photographs with a table, a split, a plan of two copies of five of them, and a small network."""
    folder = tmp_path_factory.mktemp("extraction")
    (folder / "raw" / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    ids = [f"p{number}" for number in range(7)]
    for image_id in ids:
        pixels = generator.integers(0, 256, (40, 50, 3), np.uint8)
        Picture.fromarray(pixels).save(folder / "raw" / "images" / f"{image_id}.png")
    rows = [
        {"image_id": i, "path": f"images/{i}.png", "label": "a", "weight": 1.0, "source": "drawn", "license": "",
         "author": "", "landing_url": "", "sha256": "0", "width": 50, "height": 40}
        for i in ids
    ]  # fmt: skip
    tables.write(pl.DataFrame(rows), folder / "raw" / "images.csv")
    (folder / "raw" / "source.json").write_text(json.dumps({"classes": ["a", "b"]}))
    parts = ["train"] * 5 + ["test"] * 2
    split = pl.DataFrame({"image_id": ids, "label": "a", "weight": 1.0, "group": ids, "split": parts})
    tables.write(split, folder / "split.csv")
    tables.write(augmentation.draw_plan(ids[:5], AUGMENT), folder / "augmentations.csv")

    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="cut")(image)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    openvino.write(convert(keras.Model(image, {"cut": x, "features": features})), folder / "backbone.xml")
    return folder


@pytest.fixture(scope="module")
def seen(folder):
    return extraction.Views(folder / "raw", folder / "split.csv", folder / "augmentations.csv", IMAGE)


def test_every_photograph_is_seen_plain_and_as_planned(seen):
    rows = seen.rows.group_by("image_id", maintain_order=True).agg("copy")
    assert rows["image_id"].to_list() == [f"p{number}" for number in range(7)]
    assert rows["copy"].to_list() == [[0, 1, 2]] * 5 + [[0]] * 2


@pytest.mark.parametrize("layer", ["cut", None])
def test_what_is_computed_when_asked_for_is_what_the_array_holds(folder, seen, tmp_path, layer):
    run = extraction.engine(folder, layer, IMAGE)
    shape = extraction.extract(seen, run, tmp_path / "activations.npy")
    cut = {"layer": layer, "image": IMAGE.model_dump()}
    (tmp_path / "cut.json").write_text(json.dumps(cut))
    sources = folder / "raw", folder / "split.csv", folder / "augmentations.csv", folder
    cached = extraction.open_activations(tmp_path, *sources)
    (tmp_path / "activations.npy").unlink()
    recomputed = extraction.open_activations(tmp_path, *sources)
    assert recomputed.shape == cached.shape == shape
    assert recomputed.dtype == cached.dtype
    rows = np.array([16, 2, 0, 1, 1, 5, 12, 15])
    np.testing.assert_array_equal(recomputed[rows], cached[rows], strict=True)


@pytest.mark.parametrize("axes", [(2,), (1,), (1, 2)])
def test_what_is_turned_round_is_the_view(folder, seen, axes):
    rows = np.array([4, 0, 9])
    turned = extraction.Recomputed(seen, folder, None, IMAGE).turned(axes)
    views = np.concatenate(list(seen.draw(rows)))
    np.testing.assert_array_equal(turned[rows], np.flip(views, axes), strict=True)
    run = extraction.engine(folder, "cut", IMAGE)
    outputs = np.concatenate(list(run(inference.rebatch([np.flip(views, axes)]))))
    turned = extraction.Recomputed(seen, folder, "cut", IMAGE).turned(axes)
    np.testing.assert_array_equal(turned[rows], outputs, strict=True)


def test_a_size_that_is_not_named_is_that_of_the_backbone(tmp_path):
    (tmp_path / "backbone.json").write_text('{"size": 299}')
    assert extraction.sized(IMAGE.model_copy(update={"size": None}), tmp_path).size == 299
    assert extraction.sized(IMAGE, tmp_path).size == 32


SHAPES = {None: (100, 100, 3), "early": (50, 50, 8), "middle": (10, 10, 40), "late": (100,)}


def with_free_bytes(monkeypatch, free):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda _: usage(10**12, 0, free))


def test_the_bytes_are_known_before_the_work(tmp_path, monkeypatch):
    with_free_bytes(monkeypatch, 10**12)
    assert extraction.check_space(tmp_path, 1000, "middle", SHAPES, "") == "8 MB"
    assert extraction.check_space(tmp_path, 1000, None, SHAPES, "") == "30 MB"
    assert extraction.check_space(tmp_path, 1000, "late", SHAPES, "") == "200 kB"


def test_too_little_disk_says_what_is_needed_and_free_and_which_deeper_cut_fits(tmp_path, monkeypatch):
    with_free_bytes(monkeypatch, 9_000_000)
    with pytest.raises(ThawError) as caught:
        extraction.check_space(tmp_path, 1000, "early", SHAPES, "freeze deeper")
    assert str(caught.value) == (
        "1,000 outputs of early, 50×50×8 each, need 40 MB of disk, and 9 MB are free: "
        "middle would need 8 MB; freeze deeper"
    )


def test_where_no_deeper_cut_fits_none_is_named(tmp_path, monkeypatch):
    with_free_bytes(monkeypatch, 1000)
    with pytest.raises(ThawError, match=r"1,000 outputs of the input, .* are free: freeze deeper$"):
        extraction.check_space(tmp_path, 1000, None, SHAPES, "freeze deeper")


def test_shapes_come_in_the_order_asked_for(folder):
    shapes = inference.output_shapes(folder / "backbone.xml", ["features", "cut"], 32)
    assert shapes == {None: (32, 32, 3), "features": (4,), "cut": (16, 16, 4)}
    assert list(shapes) == [None, "features", "cut"]
