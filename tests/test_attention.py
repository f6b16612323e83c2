"""Where a model looked: the map adds up to the difference of the logits, and is not made up where there is none."""

from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="module")
def keras():
    from thaw.keras import keras

    return keras


@pytest.fixture(scope="module")
def attention():
    from thaw import attention

    return attention


@pytest.fixture
def build(keras):
    """A function that builds a network of two convolutions, pooled, with a head of three classes."""

    def build(pooling="GlobalAveragePooling2D", dropout=0.0, hidden=0):
        keras.utils.set_random_seed(1)
        image = keras.Input((None, None, 3), name="image")
        x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="block1")(image)
        x = keras.layers.Conv2D(5, 3, padding="same", activation="relu", name="block2")(x)
        x = getattr(keras.layers, pooling)(name="features")(x)
        if hidden:
            x = keras.layers.Dense(hidden, activation="relu")(x)
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
        x = keras.layers.Dense(3, activation="softmax", bias_initializer="normal", name="probabilities")(x)
        return keras.Model(image, x)

    return build


PIXELS = np.random.default_rng(1).integers(0, 256, (20, 12, 12, 3), np.uint8)
ANSWERS, OTHERS = np.arange(20) % 3, (np.arange(20) + 1) % 3


def difference_of_logits(model, keras):
    dense = model.layers[-1]
    features = np.asarray(keras.Model(model.input, model.get_layer("features").output)(PIXELS.astype(np.float32)))
    kernel, bias = dense.get_weights()
    logits = features @ kernel + bias
    rows = np.arange(len(PIXELS))
    return logits[rows, ANSWERS] - logits[rows, OTHERS], bias[ANSWERS] - bias[OTHERS]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_mean_of_a_map_and_the_biases_are_the_difference_of_the_logits(attention, keras, build, dropout):
    model = build(dropout=dropout)
    maps = attention.evidence(model, None, PIXELS, ANSWERS, OTHERS)
    difference, bias = difference_of_logits(model, keras)
    assert maps.shape == (20, 6, 6)
    assert maps.mean(axis=(1, 2)) + bias == pytest.approx(difference, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("conv_blocks", [[], [6]])
def test_a_head_that_is_a_network_has_a_map_too(attention, keras, build, tmp_path, conv_blocks, output):
    """Of features that were averaged before it, or of maps that it averages itself."""
    from thaw import models, network_head

    body = keras.Model((model := build()).input, model.get_layer("block2" if conv_blocks else "features").output)
    options = {"conv_blocks": conv_blocks, "output": output, "hidden": [], "dropout": 0.5, "seed": 1}
    network = network_head.build(body.output.shape[1:], 2, SimpleNamespace(**options))
    model = network_head.NetworkHead(network, ("a", "b")).attach(body, body.layers[-1].name)
    models.save(model, tmp_path / "model.keras", {})
    model, _ = models.load(tmp_path / "model.keras")
    answers, others = ANSWERS % 2, 1 - ANSWERS % 2
    probabilities = np.asarray(model(PIXELS.astype(np.float32), training=False), float)
    difference = np.log(probabilities[np.arange(20), answers] / probabilities[np.arange(20), others])
    start = attention.start_of_map(model, "block1")
    assert start == "block1"
    cached = np.asarray(keras.Model(model.input, model.get_layer("block1").output)(PIXELS.astype(np.float32)))
    for maps in (
        attention.evidence(model, None, PIXELS, answers, others),
        attention.evidence(model, start, cached, answers, others),
    ):
        assert maps.shape == ((20, 3, 3) if conv_blocks else (20, 6, 6))
        assert np.ptp(maps, axis=(1, 2)).min() > 0
        assert maps.mean(axis=(1, 2)) == pytest.approx(difference, rel=1e-3, abs=1e-3)  # biases begin as 0


def test_a_head_with_a_hidden_layer_has_no_map(attention, keras, build):
    from thaw import network_head

    body = keras.Model((model := build()).input, model.get_layer("features").output)
    options = {"conv_blocks": [], "output": "softmax", "hidden": [4], "dropout": 0.5, "seed": 1}
    network = network_head.build((5,), 2, SimpleNamespace(**options))
    assert attention.averaged_map(network_head.NetworkHead(network, ("a", "b")).attach(body, "features")) is None


def test_the_map_from_cached_activations_is_that_from_the_pixels(attention, keras, build):
    model = build()
    cached = np.asarray(keras.Model(model.input, model.get_layer("block1").output)(PIXELS.astype(np.float32)))
    from_cached = attention.evidence(model, "block1", cached, ANSWERS, OTHERS)
    assert from_cached == pytest.approx(attention.evidence(model, None, PIXELS, ANSWERS, OTHERS), rel=1e-4, abs=1e-4)


def test_the_map_from_activations_that_are_its_own_features_is_that_from_the_pixels(attention, keras, build):
    model = build()
    cached = np.asarray(keras.Model(model.input, model.get_layer("block2").output)(PIXELS.astype(np.float32)))
    assert attention.start_of_map(model, "block2") == "block2"
    found = attention.evidence(model, "block2", cached, ANSWERS, OTHERS)
    np.testing.assert_allclose(found, attention.evidence(model, None, PIXELS, ANSWERS, OTHERS), atol=1e-5)


def test_the_map_shows_the_place_that_speaks_for_the_answer(attention, keras, build):
    model = build()
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    pixels[0, 24:28, 4:8] = 255  # all else is black, so that only this place has features
    found = np.abs(attention.evidence(model, None, pixels, np.array([0]), np.array([1])))[0]
    assert found.max() > 0
    assert found[10:16, :6].sum() == pytest.approx(found.sum())


def test_the_map_starts_at_the_cut_or_at_the_pixels_where_the_cut_lies_behind_it(attention, build):
    model = build()
    starts = {cut: attention.start_of_map(model, cut) for cut in (None, "block1", "block2", "features")}
    assert starts == {None: None, "block1": "block1", "block2": "block2", "features": None}


@pytest.mark.parametrize("network", [{"pooling": "GlobalMaxPooling2D"}, {"pooling": "Flatten"}, {"hidden": 4}])
def test_a_network_whose_logits_are_no_mean_over_places_has_no_map(attention, keras, build, network):
    if network.get("pooling") == "Flatten":
        image = keras.Input((4, 4, 3))
        model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    else:
        model = build(**network)
    assert attention.averaged_map(model) is None


@pytest.mark.parametrize("cut", [None, "block1", "features"])
def test_the_stage_looks_from_the_cache_or_from_the_pixels_and_leaves_out_what_is_gone(attention, keras, build, cut):
    import evaluate
    from thaw.predictions import Photographs

    model = build()
    activations = PIXELS
    if cut:
        frozen = keras.Model(model.input, model.get_layer(cut).output)
        activations = np.asarray(frozen(PIXELS.astype(np.float32)))
    rows = np.arange(20)[::-1]  # photograph i stands in row 19 - i
    ids = np.array([f"p{i:02}" for i in range(20)])
    photographs = Photographs(ids, np.full(20, "test"), rows, OTHERS, np.ones(20), ids)
    seen = {3: PIXELS[16], 5: None, 7: PIXELS[12]}
    maps = evaluate.where_it_looked(
        model, cut, photographs, [3, 5, 7], np.eye(3)[ANSWERS], seen, activations, lambda labels, at: labels
    )
    assert list(maps) == [3, 7]
    expected = attention.evidence(model, None, PIXELS[[16, 12]], ANSWERS[[3, 7]], OTHERS[[3, 7]])
    assert np.stack(list(maps.values())) == pytest.approx(expected, rel=1e-3, abs=1e-3)
