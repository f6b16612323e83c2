"""`image.resize: auto`: validation chooses between crop and squash, and what is chosen is followed."""

import json

import numpy as np
import polars as pl
import pytest
import yaml
from dependencies import ROOT
from PIL import Image as Picture

import extract_activations
import extract_features
from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.engines import openvino_setup
from thaw.engines.keras_setup import keras
from thaw.engines.keras_to_openvino import convert
from thaw.features import examples, extraction, linear_probe, resize_choice
from thaw.features.extraction import Dataset, ImageSettings

AUTO = ImageSettings(size=32, resize="auto", engine="openvino")
COUNT = 60


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A small network."""
    folder = tmp_path_factory.mktemp("backbone")
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="cut")(image)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    openvino_setup.write(convert(keras.Model(image, {"cut": x, "features": features})), folder / "backbone.xml")
    cut_points = [{"layer": "cut"}, {"layer": "features"}]
    description = {"size": 32, "only_size": None, "cut_points": cut_points, "behind_cut": []}
    (folder / "backbone.json").write_text(json.dumps(description))
    return folder


def draw(folder, label_at, size=(96, 32), seed=0):
    """Photographs of noise in two classes, one of which is brighter at these columns."""
    (folder / "raw" / "images").mkdir(parents=True)
    generator, rows, splits = np.random.default_rng(seed), [], []
    for number in range(COUNT):
        label = "ab"[number % 2]
        pixels = generator.integers(60, 120, (size[1], size[0], 3), np.uint8)
        if label == "b":
            pixels[:, label_at] += 60
        name = f"p{number:02}"
        Picture.fromarray(pixels).save(folder / "raw" / "images" / f"{name}.png")
        rows.append(
            {"image_id": name, "path": f"images/{name}.png", "label": label, "weight": 1.0, "source": "drawn",
             "license": "", "author": "", "landing_url": "", "sha256": "0", "width": size[0], "height": size[1]}
        )  # fmt: skip
        split = tables.SPLITS[0 if number < 36 else 1 if number < 56 else 2]
        splits.append({"image_id": name, "label": label, "weight": 1.0, "group": name, "split": split})
    tables.write(pl.DataFrame(rows), folder / "raw" / "images.csv")
    (folder / "raw" / "source.json").write_text(json.dumps({"classes": ["a", "b"]}))
    tables.write(pl.DataFrame(splits), folder / "split.csv")
    tables.write(pl.DataFrame(schema=tables.ROWS), folder / "augmentations.csv")
    return Dataset(folder / "raw", folder / "split.csv", folder / "augmentations.csv")


def choose(dataset, backbone, folder):
    extraction.describe(folder, dataset.raw, extraction.PlannedViews(dataset, AUTO).rows)
    images = examples.read(folder, dataset.split)
    return resize_choice.choose(dataset, images, AUTO, backbone)


def test_squash_wins_where_only_the_ends_show_the_class(tmp_path, backbone):
    choice = choose(draw(tmp_path, np.r_[:20, 76:96]), backbone, tmp_path)
    assert choice.resize == "squash" and choice.change < -5 * choice.standard_error
    assert choice.validation_loss["squash"] < 0.3 < choice.validation_loss["crop"]
    assert f"squash against crop: validation loss {choice.change:+.3f}" in choice.text


def test_features_that_are_too_many_to_hold_are_read_in_blocks_with_the_same_choice(tmp_path, backbone, monkeypatch):
    dataset = draw(tmp_path, np.r_[:20, 76:96])
    held = choose(dataset, backbone, tmp_path)
    monkeypatch.setattr(linear_probe, "MAX_HELD_BYTES", 0)
    read = choose(dataset, backbone, tmp_path)
    assert read.resize == held.resize == "squash"
    assert read.validation_loss == pytest.approx(held.validation_loss, abs=1e-3)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_crop_stays_where_the_middle_shows_the_class_better(tmp_path, backbone):
    choice = choose(draw(tmp_path, np.r_[46:50]), backbone, tmp_path)
    assert choice.resize == "crop" and set(choice.validation_loss) == {"crop", "squash"}


def test_crop_stays_where_nothing_shows_the_class_and_squash_gains_by_chance(tmp_path, backbone):
    choice = choose(draw(tmp_path, np.r_[:0], seed=3), backbone, tmp_path)
    assert choice.resize == "crop" and -choice.standard_error < choice.change < 0


@pytest.mark.parametrize("size", [(40, 40), (51, 50)])
def test_square_photographs_are_cropped_without_a_comparison(tmp_path, backbone, size):
    choice = choose(draw(tmp_path, np.r_[:20], size), backbone, tmp_path)
    assert (choice.resize, choice.reason, choice.validation_loss) == ("crop", "all photographs are square", {})


def test_maps_are_cropped_without_a_comparison(tmp_path, backbone, monkeypatch):
    monkeypatch.setattr(resize_choice, "FEATURES", "cut")  # a layer whose output is a map
    choice = choose(draw(tmp_path, np.r_[:20]), backbone, tmp_path)
    assert choice.resize == "crop" and "backbone.pooling" in choice.text and not choice.validation_loss


def test_the_stage_writes_the_choice_and_others_follow_it(tmp_path, backbone, monkeypatch, capsys):
    dataset = draw(tmp_path, np.r_[:20, 76:96])
    monkeypatch.chdir(tmp_path)
    for name, path in {"RAW": dataset.raw, "SPLIT": dataset.split, "AUGMENTATIONS": dataset.augmentations,
                       "BACKBONE": backbone, "OUTPUT": tmp_path / "features"}.items():  # fmt: skip
        monkeypatch.setattr(extract_features, name, path)
    values, stored = yaml.safe_load((ROOT / "params.yaml").read_text()), {}
    for resize in ("auto", "squash", "crop"):
        values["image"] = {"size": 32, "resize": resize, "engine": "openvino", "precision": "float32"}
        (tmp_path / "params.yaml").write_text(json.dumps(values))
        extract_features.main()
        stored[resize] = {path.name: path.read_bytes() for path in (tmp_path / "features").iterdir()}
        said = capsys.readouterr().out
        assert ("image.resize squash is chosen" in said) == (resize == "auto")
    written, *others = (json.loads(files.pop("image.json")) for files in stored.values())
    assert others == [None, None]
    assert stored["auto"] == stored["squash"] != stored["crop"]
    assert written["resize"] == "squash" and written["change"] < 0


def test_the_activations_follow_the_choice_in_the_features(tmp_path, backbone, monkeypatch):
    dataset = draw(tmp_path, np.r_[:20])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "augmentation.json").write_text('{"preset": null}')
    (tmp_path / "image.json").write_text('{"resize": "squash"}')
    for name, path in {"RAW": dataset.raw, "SPLIT": dataset.split, "AUGMENTATIONS": dataset.augmentations,
                       "BACKBONE": backbone, "EMBEDDINGS": tmp_path, "OUTPUT": tmp_path / "activations",
                       "AUGMENTATION": tmp_path / "augmentation.json"}.items():  # fmt: skip
        monkeypatch.setattr(extract_activations, name, path)
    values, stored = yaml.safe_load((ROOT / "params.yaml").read_text()), {}
    values["fine_tune"] |= {"freeze_depth": "cut", "cache": True}
    for resize in ("auto", "squash", "crop"):
        values["image"] = {"size": 32, "resize": resize, "engine": "openvino", "precision": "float32"}
        (tmp_path / "params.yaml").write_text(json.dumps(values))
        extract_activations.main()
        stored[resize] = {path.name: path.read_bytes() for path in (tmp_path / "activations").iterdir()}
    assert stored["auto"] == stored["squash"] != stored["crop"]
    assert json.loads(stored["auto"]["cut.json"])["image"]["resize"] == "squash"


def test_features_that_are_too_large_are_one_line():
    batch = np.array([[np.inf, 1]], np.float16)
    with pytest.raises(ThawError, match="features: a value is not finite or too large for float16"):
        resize_choice._features(iter([batch]), 1, "crop")


def test_the_choice_is_needed_only_for_auto(tmp_path):
    pad = ImageSettings(32, "pad", "openvino")
    assert extraction.resolved(pad, tmp_path) == pad
    with pytest.raises(ThawError):
        extraction.resolved(AUTO, tmp_path)
