"""A family of backbones is one module and its registration."""

import json
import subprocess
import sys

import numpy as np
import pytest
from dependencies import ROOT, SRC

from thaw.backbones import registry
from thaw.backbones.base import Family, InputSize
from thaw.backbones.cut_points import FEATURES, find_cut_points
from thaw.core.errors import ThawError
from thaw.parameters.backbone import Backbone  # here: it lists the names of the registry when it is imported

EDIT = """
import sys
from thaw.backbones import base, registry
family = base.Family("Tiny", {"Tiny8": base.InputSize(64, 48)}, build=None)
registry.BACKBONES["Tiny8"] = family
from thaw.core import params
from pathlib import Path
text = Path("params.yaml").read_text().replace("name: EfficientNetLite0", "name: Tiny8")
print(params.parse(text, "params.yaml").backbone.name)
try:
    params.parse(text.replace("  size:", "  size: 40 #", 1), "params.yaml")
except Exception as error:
    print(error)
print(sorted({"keras", "tensorflow", "openvino", "h5py", "numpy"} & set(sys.modules)))
"""

TINY = {"name": "Tiny8", "weights": None, "preprocess": None, "cut": None, "pooling": "avg", "seed": 1}


def build_tiny(name: str, imagenet: bool):
    from thaw.engines.keras_setup import keras

    if imagenet:
        raise ThawError(f"{name} has no ImageNet weights")
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="preprocess")(image)
    x = keras.layers.Conv2D(4, 3, padding="same", name="block1_conv")(x)
    x = keras.layers.Add(name="block1_add")([x, keras.layers.Conv2D(4, 1, name="block1_project")(x)])
    return keras.Model(image, keras.layers.Conv2D(5, 3, strides=2, name="block2_conv")(x), name=name)


def build_tiny_with_top(name: str, imagenet: bool):
    """The same for images of 8 pixels only, with a hidden layer, dropout and 1000 classes."""
    from thaw.engines.keras_setup import keras

    network = build_tiny(name, imagenet)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Flatten(name="flatten")(network(image))
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(7, name="hidden")(x))
    return keras.Model(image, keras.layers.Dense(1000, activation="softmax", name="logits")(x), name=name)


def read_numbers(network, path) -> None:
    values = json.loads(path.read_text())
    network.set_weights([np.full(weight.shape, values[0], np.float32) for weight in network.get_weights()])


@pytest.fixture
def tiny(monkeypatch):
    family = Family(
        "Tiny", {"Tiny8": InputSize(8, 4)}, build_tiny, build_tiny_with_top, readers={".json": read_numbers}
    )
    monkeypatch.setitem(registry.BACKBONES, "Tiny8", family)
    monkeypatch.setattr("thaw.backbones.building.FAMILIES", (*registry.FAMILIES, family))


def test_a_new_family_is_built_cut_and_converted(tiny, tmp_path):
    from thaw.backbones import artifact, building
    from thaw.engines import inference

    network, behind = building.build("Tiny8", None, 1)
    assert [point.layer for point in find_cut_points(network, FEATURES)] == [
        "block1_conv", "block1_add", "block2_conv", FEATURES,
    ]  # fmt: skip
    assert behind == []
    cut, behind = building.build("Tiny8", None, 1, "block1", None)
    assert cut.output.shape[1:] == (None, None, 4)
    assert behind == ["block2_conv"]

    params = Backbone.model_construct(
        name="Tiny8", weights=None, preprocess=None, cut=None, top=False, pooling="avg", seed=1
    )
    artifact.write(params, tmp_path)
    assert json.loads((tmp_path / "backbone.json").read_text())["size"] == 8
    pixels = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    (features,) = inference.compile_openvino(tmp_path / "backbone.xml", FEATURES, 8, np.float32)([pixels])
    np.testing.assert_allclose(features, np.asarray(network(pixels.astype(np.float32))), rtol=1e-4, atol=1e-5)


def test_the_classes_of_a_new_family_are_extended(tiny, tmp_path):
    from thaw.backbones import artifact, cost_table
    from thaw.heads.extended import read_old_head

    params = Backbone.model_construct(
        name="Tiny8", weights=None, preprocess=None, cut=None, pooling="avg", top=True, seed=1
    )
    network = artifact.write(params, tmp_path)
    assert [layer.name for layer in network.layers[-2:]] == [FEATURES, "predictions"]
    old_head = read_old_head(True, tmp_path)
    assert old_head.kernel.shape == (7, 1000) and old_head.classes[0] == "tench"
    assert json.loads((tmp_path / "backbone.json").read_text())["only_size"] == 8
    with pytest.raises(ThawError, match="--size should be 8, not 16: Tiny8 takes images of this size alone"):
        cost_table.cost_table(params, 16)


def test_a_new_family_reads_its_own_files_of_weights_and_no_other_does(tiny, tmp_path):
    from thaw.backbones import building

    (tmp_path / "weights.json").write_text("[0.5]")
    network = building.full_network("Tiny8", str(tmp_path / "weights.json"), 1)
    assert {value for weight in network.get_weights() for value in weight.ravel().tolist()} == {0.5}
    with pytest.raises(ThawError, match=r"a \.json file has weights for Tiny only, not for MobileNet"):
        building.full_network("MobileNet", str(tmp_path / "weights.json"), 1)
    with pytest.raises(ThawError, match="Tiny8 has no ImageNet weights"):
        building.full_network("Tiny8", "imagenet", 1)


def test_a_new_family_is_valid_in_the_parameters_and_no_heavy_package_is_imported():
    result = subprocess.run(
        [sys.executable, "-c", EDIT], cwd=ROOT, env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True
    )
    name, error, heavy = result.stdout.splitlines()
    assert name == "Tiny8", result.stderr
    assert "image.size should be at least 48 for Tiny8, not 40" in error
    assert heavy == "[]"


def test_no_backbone_is_in_two_families():
    assert len(registry.BACKBONES) == sum(len(family.input_sizes) for family in registry.FAMILIES)
    assert registry.input_size("EfficientNetLite0") == (224, 32, 1)
    assert registry.WEIGHT_FILES == (".weights.h5", ".keras", ".h5", ".pth", ".safetensors", ".onnx", ".xml")
