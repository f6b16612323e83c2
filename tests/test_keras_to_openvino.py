"""Layers of Keras as OpenVINO computes them; full networks are compared in test_building.py."""

import locale

import numpy as np
import pytest

from thaw.core.errors import ThawError

CASES = {  # what is built from Keras' layers, and the shape of one input
    "3x3, strided": (lambda layers: layers.Conv2D(6, 3, strides=2, padding="same"), (7, 8, 4)),
    "3x3 in groups": (lambda layers: layers.Conv2D(6, 3, groups=2), (6, 5, 4)),
    "5x3, dilated": (lambda layers: layers.Conv2D(6, (5, 3), dilation_rate=2, padding="same"), (7, 9, 4)),
    "each channel by itself": (lambda layers: layers.DepthwiseConv2D(3, strides=2, padding="same"), (8, 7, 4)),
    "each channel, twice": (lambda layers: layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 5, 4)),
    "separable": (lambda layers: layers.SeparableConv2D(5, 3, depth_multiplier=2, padding="same"), (6, 5, 4)),
    "average at the border": (lambda layers: layers.AveragePooling2D(3, 1, padding="same"), (5, 6, 4)),
    "maximum at the border": (lambda layers: layers.MaxPooling2D(3, 2, padding="same"), (6, 7, 4)),
    "maximum of all": (lambda layers: layers.GlobalMaxPooling2D(), (5, 6, 4)),
    "mean, sides kept": (lambda layers: layers.GlobalAveragePooling2D(keepdims=True), (5, 6, 4)),
    "padded on one side": (lambda layers: layers.ZeroPadding2D(((0, 1), (2, 0))), (4, 5, 4)),
    "cropped on one side": (lambda layers: layers.Cropping2D(((1, 0), (0, 2))), (4, 5, 4)),
    "norm of the channels": (lambda layers: layers.LayerNormalization(epsilon=1e-3), (4, 5, 4)),
    "norm of features": (lambda layers: layers.LayerNormalization(epsilon=1e-3), (4,)),
    "batch norm of features": (lambda layers: layers.BatchNormalization(scale=False), (4,)),
    "dense on a map": (lambda layers: layers.Dense(3, activation="softmax"), (4, 5, 4)),
    "dense on features": (lambda layers: layers.Dense(3, activation="tanh"), (4,)),
    "dense on tokens": (lambda layers: layers.Dense(3, activation="softmax"), (5, 900)),
    "norm of tokens": (lambda layers: layers.LayerNormalization(epsilon=1e-3), (5, 24)),
    "norm of tokens, not scaled": (lambda layers: layers.LayerNormalization(scale=False), (5, 24)),
    "batch norm of tokens": (lambda layers: layers.BatchNormalization(), (5, 4)),
    "flattened": (lambda layers: layers.Flatten(), (2, 3, 4)),
    "features as a map": (lambda layers: layers.Reshape((2, 3, 2)), (12,)),
    "features as a point": (lambda layers: layers.Reshape((1, 1, 4)), (4,)),
    "a map as another": (lambda layers: layers.Reshape((3, 2, 4)), (2, 3, 4)),
    "a value for each channel": (lambda layers: layers.Rescaling([2.0, 3.0], offset=[1.0, 0.5]), (2, 3, 2)),
    "normalised as given": (lambda layers: layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 0.5]), (2, 3, 2)),
}
REFUSED = {
    "a UnitNormalization, which": lambda layers: layers.UnitNormalization(),
    "the activation softplus of": lambda layers: layers.Dense(3, activation="softplus"),
    "a ReLU with a slope": lambda layers: layers.ReLU(negative_slope=0.1),
    "an inverted Normalization": lambda layers: layers.Normalization(mean=0.0, variance=1.0, invert=True),
    "a_row returns neither": lambda layers: layers.Reshape((5, 2, 3, 4), name="a_row"),
    "a_norm has its channels not in the last axis": lambda layers: layers.BatchNormalization(axis=1, name="a_norm"),
    "a_filter has its channels not in the last axis": lambda layers: layers.Conv2D(
        3, 1, data_format="channels_first", name="a_filter"
    ),
}


@pytest.fixture(scope="module")
def keras():
    from thaw.engines.keras_setup import keras

    return keras


def openvino_outputs(model, x):
    """The outputs of a converted model."""
    from thaw.engines.keras_to_openvino import convert
    from thaw.engines.openvino_setup import ov

    return ov.compile_model(convert(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)


def drawn(model):
    generator = np.random.default_rng(1)
    model.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("name", CASES)
def test_a_layer_gives_what_it_gives_in_keras(keras, name):
    build, shape = CASES[name]
    image = keras.Input((*[None] * (len(shape) - 1), shape[-1]) if "map as another" not in name else shape)
    model = drawn(keras.Model(image, build(keras.layers)(image)))
    x = np.random.default_rng(2).normal(size=(3, *shape)).astype(np.float32)
    np.testing.assert_allclose(openvino_outputs(model, x)[0], np.asarray(model(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_converted_is_refused_by_name(keras, message):
    from thaw.engines.keras_to_openvino import convert

    image = keras.Input((5, 6, 4))
    with pytest.raises(ThawError, match=message):
        convert(keras.Model(image, REFUSED[message](keras.layers)(image)))


def test_a_model_among_the_layers_and_one_cut_out_of_another(keras):
    image = keras.Input((None, None, 4))
    inner = keras.Sequential([keras.layers.Conv2D(3, 1), keras.layers.ReLU(max_value=6)])
    x = cut = inner(keras.layers.Conv2D(4, 3, name="first")(image))
    head = keras.Input((3,))
    network = keras.Model(head, keras.layers.Dense(2)(head))
    model = drawn(keras.Model(image, network(keras.layers.GlobalAveragePooling2D()(x))))
    behind = keras.Model(cut, model.output)
    x = np.random.default_rng(2).normal(size=(2, 5, 6, 4)).astype(np.float32)
    y = np.asarray(keras.Model(model.input, cut)(x))
    for outputs in (openvino_outputs(model, x)[0], openvino_outputs(behind, y)[0]):
        np.testing.assert_allclose(outputs, np.asarray(model(x)), rtol=1e-5)


def test_no_part_of_a_model_is_a_matrix_product_whose_bytes_depend_on_the_processors_caches(keras):
    from thaw.engines.keras_to_openvino import convert

    image = keras.Input((5, 6, 4))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Dense(8)(image))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Dense(3, "relu")(x)))
    assert "MatMul" not in [node.get_type_name() for node in convert(model).get_ops()]


def test_bare_sums_and_products_with_a_number_or_one_for_each_channel(keras):
    image = keras.Input((None, None, 3))
    x = 2.0 * (image + np.float32([1, 2, 3])) * image + 3
    model = keras.Model(image, x)
    x = np.random.default_rng(2).normal(size=(2, 5, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(openvino_outputs(model, x)[0], np.asarray(model(x)), rtol=1e-5)


def test_outputs_keep_their_names_and_the_order_of_keras(keras):
    image = keras.Input((None, None, 4), name="image")
    x = keras.layers.Conv2D(3, 1)(image)
    outputs = {"map": x, "mean": keras.layers.GlobalAveragePooling2D()(x), "same": keras.layers.Identity()(x)}
    model = drawn(keras.Model(image, outputs))
    x = np.random.default_rng(2).normal(size=(2, 5, 6, 4)).astype(np.float32)
    actual, expected = openvino_outputs(model, {"image": x}), model(x)
    for name in outputs:
        np.testing.assert_allclose(actual[name], np.asarray(expected[name]), rtol=1e-5)


def test_the_same_model_is_the_same_bytes(keras, tmp_path):
    from thaw.engines import openvino_setup
    from thaw.engines.keras_to_openvino import convert

    image = keras.Input((None, None, 4))
    model = keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(image), name="one")
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        openvino_setup.write(convert(model), tmp_path / name / "network.xml")
        written.append([file.read_bytes() for file in sorted((tmp_path / name).iterdir())])
    assert written[0] == written[1]


@pytest.mark.parametrize("language", ["C", "tr_TR.UTF-8"])
def test_the_users_language_changes_no_byte(keras, tmp_path, language):
    """In Turkish, the lower case of `I64` is another one."""
    from thaw.engines import openvino_setup
    from thaw.engines.keras_to_openvino import convert

    image = keras.Input((None, None, 4))
    network = convert(keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)))
    before = locale.setlocale(locale.LC_CTYPE)
    openvino_setup.write(network, tmp_path / "one.xml")
    assert b'"i64"' in (tmp_path / "one.xml").read_bytes()
    try:
        locale.setlocale(locale.LC_CTYPE, language)
        openvino_setup.write(network, tmp_path / "two.xml")
        assert locale.setlocale(locale.LC_CTYPE) == language
    except locale.Error:
        pytest.skip(f"this machine has no locale {language} (Debian: localedef -i tr_TR -f UTF-8 {language})")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    assert (tmp_path / "two.xml").read_bytes() == (tmp_path / "one.xml").read_bytes()
