"""What freezing up to a cut point costs."""

import pytest

from thaw.backbones import building, costs
from thaw.engines import openvino_setup
from thaw.engines.keras_setup import keras
from thaw.engines.keras_to_openvino import convert


def test_the_multiply_adds_are_those_of_a_hand_count(tmp_path):
    model, _ = building.build("VGG16", None, 1, "block2_pool", "avg")
    tensors = {layer: model.get_layer(layer).output for layer in ("block1_conv1", "block1_pool", "features")}
    openvino_setup.write(convert(keras.Model(model.input, tensors)), tmp_path / "vgg.xml")
    first, second = 32 * 32 * 9 * 3 * 64, 32 * 32 * 9 * 64 * 64
    third, fourth = 16 * 16 * 9 * 64 * 128, 16 * 16 * 9 * 128 * 128
    assert costs.multiply_adds(tmp_path / "vgg.xml", 32) == {
        "block1_conv1": first, "block1_pool": first + second, "features": first + second + third + fourth,
    }  # fmt: skip


def test_a_map_that_is_not_pooled_costs_as_much_as_its_layer(tmp_path):
    model, _ = building.build("VGG16", None, 1, "block1_pool", None)
    tensors = {layer: model.get_layer(layer).output for layer in ("block1_pool", "features")}
    openvino_setup.write(convert(keras.Model(model.input, tensors)), tmp_path / "vgg.xml")
    counts = costs.multiply_adds(tmp_path / "vgg.xml", 32)
    assert counts["features"] == counts["block1_pool"] > 0


def test_the_multiply_adds_of_grouped_convolutions_and_matrix_products_are_counted(tmp_path):
    image = keras.Input((None, None, 3))
    x = keras.layers.DepthwiseConv2D(3, padding="same")(image)
    x = keras.layers.Dense(7)(x)
    openvino_setup.write(convert(keras.Model(image, {"x": keras.layers.ReLU()(x)})), tmp_path / "x.xml")
    assert set(costs.multiply_adds(tmp_path / "x.xml", 10).values()) == {10 * 10 * 9 * 3 + 10 * 10 * 3 * 7}


def test_training_is_timed_where_something_trains():
    model, _ = building.build("MobileNet", None, 1)
    shapes = {None: (32, 32, 3), "conv_pw_6_relu": (2, 2, 512), "features": (1024,)}
    seconds = costs.training_seconds(model, shapes, [100, 50, 0])
    assert seconds[0] > 0
    assert seconds[1] > 0
    assert seconds[2] == 0


def test_between_the_depths_that_are_timed_the_seconds_follow_the_multiply_adds(monkeypatch):
    timed = {None: 800.0, "b": 600.0, "d": 400.0, "f": 100.0}  # a step of each; any other depth would be a KeyError
    monkeypatch.setattr(costs, "_step_seconds", lambda model, layer, shape: timed[layer])
    behind = {None: 80, "a": 70, "b": 60, "c": 50, "d": 40, "e": 30, "f": 20, "g": 10, "h": 0}
    seconds = costs.training_seconds(None, dict.fromkeys(behind, (1,)), list(behind.values()))
    expected = [800, 700, 600, 500, 400, 250, 100, 50, 0]
    assert [costs.BATCH * s for s in seconds] == pytest.approx(expected)
