"""A network cut anywhere and put together again is the same network."""

import re
from pathlib import Path

import numpy as np
import pytest

from thaw.backbones import cut_points
from thaw.core.errors import ThawError

SIZE = 64


LAYERS = [
    "preprocess", "stem_conv", "stem_activation", "block1a_conv", "block1a_project_bn", "block2a_project_bn",
    "block2b_add", "block10a_add", "top_conv", "top_activation", "features",
]  # fmt: skip


@pytest.mark.parametrize(
    ("freeze_depth", "layer"),
    [
        ("all", "features"), ("none", None), ("block2", "block2b_add"), ("block2a", "block2a_project_bn"),
        ("block1", "block1a_project_bn"), ("block10", "block10a_add"), ("stem", "stem_activation"),
        ("top", "top_activation"), ("block1a_conv", "block1a_conv"), ("preprocess", "preprocess"),
    ],
)  # fmt: skip
def test_a_freeze_depth_is_a_layer_a_block_or_a_part_of_one(freeze_depth, layer):
    assert cut_points.resolve(freeze_depth, LAYERS) == layer


@pytest.mark.parametrize(
    ("freeze_depth", "near"),
    [("blokc2", "block2"), ("block2c", "block2"), ("block2b", None), ("Block2", "block2"), ("non", "none"),
     ("stem_bn", "stem"), ("block", "block1"), ("", "all"), ("block2b_ad", "block2b_add"), ("to", "top"),
     ("ste", "stem"), (".*", "block1")],
)  # fmt: skip
def test_a_freeze_depth_that_is_no_cut_point_comes_with_the_nearest(freeze_depth, near):
    if near is None:
        assert cut_points.resolve(freeze_depth, LAYERS) == "block2b_add"
        return
    with pytest.raises(ThawError) as caught:
        cut_points.resolve(freeze_depth, LAYERS)
    text = str(caught.value)
    assert text.startswith(f"fine_tune.freeze_depth {freeze_depth!r} is no cut point of this backbone (")
    assert re.search(rf"\b{near}\b", text.split("backbone (")[1])
    assert "\n" not in text


# Networks (TensorFlow is imported from here on)


@pytest.fixture(scope="module")
def keras():
    from thaw.engines.keras_setup import keras

    return keras


@pytest.fixture(scope="module")
def drawn(keras):
    """A backbone of random weights, its batch norms not trivial, its output not squeezed by a softmax."""
    from thaw.backbones import building

    model = building.full_network("EfficientNetLite0", None, 1)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            shape = layer.kernel.shape
            inputs = np.prod(shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else shape[:3])
            layer.set_weights([rng.normal(0, np.sqrt(2 / inputs), shape)])  # so that no layer fades the signal out
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            spread = rng.uniform(0.5, 1.5, shape), rng.normal(0, 0.3, shape)
            layer.set_weights([*spread, rng.normal(0, 0.3, shape), rng.uniform(0.5, 1.5, shape)])
    model.get_layer("predictions").activation = keras.activations.linear
    return model


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """(4, SIZE, SIZE, 3) uint8: noise, each image brighter than the one before."""
    noise = np.random.default_rng(1).integers(0, 100, (4, SIZE, SIZE, 3), np.uint8)
    return noise + np.array([0, 50, 100, 155], np.uint8)[:, None, None, None]


@pytest.fixture(scope="module")
def outputs(keras, drawn, pixels) -> dict[str, np.ndarray]:
    """The output of every cut point, and of the full network, as Keras computes it."""
    cuts = cut_points.find_cut_points(drawn, "features")
    tensors = {cut.layer: drawn.get_layer(cut.layer).output for cut in cuts} | {"predictions": drawn.output}
    values = keras.Model(drawn.input, tensors)(pixels.astype(np.float32), training=False)
    return {name: np.asarray(value) for name, value in values.items()}


@pytest.fixture(scope="module")
def network(keras, drawn, outputs, tmp_path_factory) -> Path:
    """The same as an OpenVINO network with an output at every cut point."""
    from thaw.engines import openvino_setup
    from thaw.engines.keras_to_openvino import convert

    path = tmp_path_factory.mktemp("network") / "backbone.xml"
    tensors = {name: drawn.get_layer(name).output for name in outputs}
    openvino_setup.write(convert(keras.Model(drawn.input, tensors)), path)
    return path


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual.astype(np.float64) - expected).max() / np.abs(expected).max())


def test_a_skip_connection_is_not_cut(keras):
    def dense(name, x):
        return keras.layers.Dense(3, name=name)(x)

    image = keras.Input((3,), name="image")
    a = dense("a", image)
    b = dense("b", a)
    c = dense("c", b)
    joined = keras.layers.Add(name="joined")([a, c])
    d = dense("d", joined)
    both = keras.layers.Concatenate(name="both")([dense("e", d), dense("f", d)])
    model = keras.Model(image, dense("top", both))
    assert [cut.layer for cut in cut_points.find_cut_points(model, "both")] == ["a", "joined", "d", "both"]
    assert [cut.layer for cut in cut_points.find_cut_points(model, "d")] == ["a", "joined", "d"]


def test_a_layer_that_the_input_passes_is_no_cut_point(keras):
    image = keras.Input((3,), name="image")
    a = keras.layers.Dense(3, name="a")(image)
    joined = keras.layers.Add(name="joined")([image, a])
    model = keras.Model(image, keras.layers.Dense(3, name="top")(joined))
    assert [cut.layer for cut in cut_points.find_cut_points(model, "joined")] == ["joined"]


def test_the_cut_points_of_the_backbone_are_those_known(drawn):
    layers = [cut.layer for cut in cut_points.find_cut_points(drawn, "features")]
    assert layers[:3] == ["stem_conv", "stem_bn", "stem_activation"]
    assert layers[-4:] == ["top_conv", "top_bn", "top_activation", "features"]
    inside = [layer for layer in layers if re.match(r"block\d[b-h]_", layer)]
    assert inside == [f"block{block}_add" for block in ["2b", "3b", "4b", "4c", "5b", "5c", "6b", "6c", "6d"]]
    assert all(f"block{n}a_project_bn" in layers for n in range(1, 8))


def test_the_parameters_before_a_cut_and_those_behind_it_add_up(drawn, keras):
    points = cut_points.find_cut_points(drawn, "features")
    for point in points:
        behind = keras.Model(drawn.get_layer(point.layer).output, drawn.output)
        assert point.parameters_before + behind.count_params() == drawn.count_params()
    assert drawn.count_params() - points[-1].parameters_before == 1281 * 1000


def test_the_frozen_part_and_the_thawed_part_are_the_full_network_at_every_cut_point(drawn, outputs):
    from thaw.engines import model_files

    expected = outputs["predictions"]
    assert expected.std(axis=0).min() > 1e-3  # outputs differ between images: equality below proves something
    for layer in [name for name in outputs if name != "predictions"]:
        thawed = model_files.thawed_part(drawn, layer)
        assert relative_error(np.asarray(thawed(outputs[layer], training=False)), expected) < 1e-4, layer


def test_the_engine_computes_what_keras_does_at_every_cut_point(network, outputs, pixels):
    from thaw.engines.openvino_setup import ov

    compiled = ov.Core().compile_model(ov.Core().read_model(network), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    actual = compiled(pixels.astype(np.float32))
    for name, expected in outputs.items():
        assert relative_error(actual[compiled.output(name)], expected) < 1e-4, name


@pytest.mark.parametrize("layer", ["stem_conv", "block2b_add", "block5c_add", "block6a_expand_activation", "features"])
def test_the_frozen_part_on_the_engine_is_keras_in_half_precision(network, outputs, pixels, layer):
    from thaw.engines import inference

    features = np.concatenate(list(inference.compile_openvino(network, layer, SIZE)(inference.rebatch([pixels]))))
    assert features.dtype == np.float16
    assert relative_error(features, outputs[layer]) < 1e-3


def test_random_weights_are_those_of_the_seed(keras):
    from thaw.backbones import building

    first, again, other = (
        building.full_network("EfficientNetLite0", None, seed).get_layer("stem_conv").get_weights()[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.99
