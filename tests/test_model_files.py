"""A model in a file: the same model is the same bytes, the file holds its metadata, damage is one line."""

import json
import os
import subprocess
import sys
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from dependencies import ROOT

from thaw.core.errors import ThawError

METADATA = {"class_names": ["é漢", 'a"b'], "cut": None, "image": {"size": 64, "resize": "crop"}, "rate": 1e-4}


@pytest.fixture(scope="module")
def model_files():
    from thaw.engines import model_files

    return model_files


@pytest.fixture(scope="module")
def build():
    """A function that builds a network in which several layers share an object, with weights drawn from a seed."""
    from thaw.engines.keras_setup import keras

    def build(seed: int):
        keras.utils.set_random_seed(seed)
        image = keras.Input((None, None, 3), name="image")
        shared = keras.regularizers.L2(0.1)
        x = image
        for i in range(3):
            x = keras.layers.Conv2D(3, 3, kernel_regularizer=shared, name=f"conv_{i}")(x)
            x = keras.layers.BatchNormalization(name=f"bn_{i}")(x)
        x = keras.layers.GlobalAveragePooling2D(name="features")(x)
        return keras.Model(image, keras.layers.Dense(2, activation="softmax", name="probabilities")(x), name="net")

    return build


@pytest.fixture
def saved(model_files, build, tmp_path):
    model_files.save(build(1), tmp_path / "model.keras", METADATA)
    return tmp_path / "model.keras"


def test_a_model_saved_twice_is_the_same_bytes(model_files, build, tmp_path, monkeypatch):
    model_files.save(build(1), tmp_path / "one.keras", METADATA)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    model_files.save(build(1), tmp_path / "two.keras", METADATA)
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()


def test_a_model_saved_where_little_memory_is_free_is_the_same_bytes(model_files, build, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    model_files.save(build(1), tmp_path / "short.keras", METADATA)
    assert (tmp_path / "short.keras").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("engine", ["thaw.engines.tensorflow_setup", "thaw.engines.keras_without_tensorflow"])
def test_a_persons_own_settings_of_keras_are_not_taken_and_scikit_learn_comes_later(tmp_path, engine):
    own = {"floatx": "float64", "epsilon": 1e-4, "image_data_format": "channels_first", "backend": "jax"}
    (tmp_path / "keras.json").write_text(json.dumps(own))
    script = f"import sys; import {engine}; from thaw.engines.keras_setup import keras as k; c = k.config; "
    script += "print(c.floatx(), c.epsilon(), c.image_data_format(), 'sklearn' in sys.modules); import sklearn.base; "
    script += "import gc; assert gc.isenabled()"
    environment = os.environ | {"KERAS_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert run.stdout.split() == ["float32", "1e-07", "channels_last", "False"], run.stderr
    assert run.returncode == 0, run.stderr


def test_a_model_loaded_twice_and_saved_again_is_the_same_bytes(model_files, saved, tmp_path):
    for name in ("one", "two"):
        model_files.save(model_files.load(saved)[0], tmp_path / f"{name}.keras", METADATA)
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()


def test_other_weights_and_other_metadata_are_other_bytes(model_files, build, saved, tmp_path):
    model_files.save(build(2), tmp_path / "weights.keras", METADATA)
    model_files.save(build(1), tmp_path / "metadata.keras", METADATA | {"rate": 2e-4})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 3


def test_a_model_reads_back_with_its_weights_and_metadata(model_files, build, saved):
    model, metadata = model_files.load(saved)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
    for one, two in zip(model.get_weights(), build(1).get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(model(pixels, training=False), build(1)(pixels, training=False))
    assert {key: metadata[key] for key in METADATA} == METADATA


def test_keras_alone_reads_the_file(saved):
    from thaw.engines.keras_setup import keras

    assert keras.models.load_model(saved).name == "net"


def test_the_class_names_can_be_read_without_keras(saved):
    with zipfile.ZipFile(saved) as file:
        assert json.loads(file.read("metadata.json"))["class_names"] == METADATA["class_names"]


def test_nothing_but_the_model_is_left_beside_it(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["model.keras"]


def test_a_save_that_fails_leaves_the_old_model_and_nothing_else(model_files, build, saved):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        model_files.save(build(2), saved, {"class_names": object()})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model.keras"]


def refusal(model_files, path) -> str:
    with pytest.raises(ThawError) as caught:
        model_files.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(1000), b"PK\x03\x04" + bytes(100)])
def test_a_file_of_another_kind_is_one_line(model_files, tmp_path, content):
    (tmp_path / "model.keras").write_bytes(content)
    assert "not a model of Thaw's" in refusal(model_files, tmp_path / "model.keras")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_model_is_one_line(model_files, saved, kept):
    os.truncate(saved, int(saved.stat().st_size * kept))
    refusal(model_files, saved)


@pytest.mark.parametrize(
    ("part", "content"),
    [(part, content) for part in ("metadata.json", "config.json", "model.weights.h5") for content in (None, b"", b"{")]
    + [("config.json", b"{}"), ("model.weights.h5", b"\x89HDF\r\n\x1a\n")],
)
def test_a_model_with_a_missing_or_damaged_part_is_one_line(model_files, saved, tmp_path, part, content):
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(tmp_path / "damaged.keras", "w") as target:
        for name in source.namelist():
            if name != part:
                target.writestr(name, source.read(name))
            elif content is not None:
                target.writestr(name, content)
    refusal(model_files, tmp_path / "damaged.keras")


def test_a_missing_model_is_one_line_that_says_how_to_make_it(model_files, tmp_path):
    assert "is missing: run `dvc repro`" in refusal(model_files, tmp_path / "model.keras")
