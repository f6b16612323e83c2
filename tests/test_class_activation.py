"""Where a model looked: the map adds up to the difference of the logits, and is not made up where there is none."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from thaw.evaluation import models, review
from thaw.evaluation.predictions import Predictions
from thaw.features.examples import Examples
from thaw.heads.linear import LinearHead


@pytest.fixture(scope="module")
def keras():
    from thaw.engines.keras_setup import keras

    return keras


@pytest.fixture(scope="module")
def class_activation():
    from thaw.evaluation import class_activation

    return class_activation


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
PREDICTED, RIVALS = np.arange(20) % 3, (np.arange(20) + 1) % 3


def difference_of_logits(model, keras):
    dense = model.layers[-1]
    features = np.asarray(keras.Model(model.input, model.get_layer("features").output)(PIXELS.astype(np.float32)))
    kernel, bias = dense.get_weights()
    logits = features @ kernel + bias
    rows = np.arange(len(PIXELS))
    return logits[rows, PREDICTED] - logits[rows, RIVALS], bias[PREDICTED] - bias[RIVALS]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_mean_of_a_map_and_the_biases_are_the_difference_of_the_logits(class_activation, keras, build, dropout):
    model = build(dropout=dropout)
    maps = class_activation.activation_maps(model, None, PIXELS, PREDICTED, RIVALS)
    difference, bias = difference_of_logits(model, keras)
    assert maps.shape == (20, 6, 6)
    assert maps.mean(axis=(1, 2)) + bias == pytest.approx(difference, rel=1e-4, abs=1e-4)


def test_without_a_rival_the_mean_of_a_map_and_the_bias_are_the_logit(class_activation, keras, build):
    model = build()
    maps = class_activation.activation_maps(model, None, PIXELS, PREDICTED, None)
    body = keras.Model(model.input, model.get_layer("features").output)
    kernel, bias = model.layers[-1].get_weights()
    logits = np.asarray(body(PIXELS.astype(np.float32))) @ kernel + bias
    expected = logits[np.arange(20), PREDICTED]
    assert maps.mean(axis=(1, 2)) + bias[PREDICTED] == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("conv_blocks", [[], [6]])
def test_a_head_that_is_a_network_has_a_map_too(class_activation, keras, build, tmp_path, conv_blocks, output):
    """Of features that were averaged before it, or of maps that it averages itself."""
    from thaw.engines import model_files
    from thaw.heads import network as network_head

    body = keras.Model((model := build()).input, model.get_layer("block2" if conv_blocks else "features").output)
    options = {"conv_blocks": conv_blocks, "output": output, "hidden": [], "dropout": 0.5, "seed": 1}
    network = network_head.build(body.output.shape[1:], 2, SimpleNamespace(**options))
    model = network_head.NetworkHead(network, ("a", "b")).attach(body, body.layers[-1].name)
    model_files.save(model, tmp_path / "model.keras", {})
    model, _ = model_files.load(tmp_path / "model.keras")
    predicted, rivals = PREDICTED % 2, 1 - PREDICTED % 2
    probabilities = np.asarray(model(PIXELS.astype(np.float32), training=False), float)
    difference = np.log(probabilities[np.arange(20), predicted] / probabilities[np.arange(20), rivals])
    layer = class_activation.map_input(model, "block1")
    assert layer == "block1"
    cached = np.asarray(keras.Model(model.input, model.get_layer("block1").output)(PIXELS.astype(np.float32)))
    for maps in (
        class_activation.activation_maps(model, None, PIXELS, predicted, rivals),
        class_activation.activation_maps(model, layer, cached, predicted, rivals),
    ):
        assert maps.shape == ((20, 3, 3) if conv_blocks else (20, 6, 6))
        assert np.ptp(maps, axis=(1, 2)).min() > 0
        assert maps.mean(axis=(1, 2)) == pytest.approx(difference, rel=1e-3, abs=1e-3)  # biases begin as 0


def test_a_head_with_a_hidden_layer_has_no_map(class_activation, keras, build):
    from thaw.heads import network as network_head

    body = keras.Model((model := build()).input, model.get_layer("features").output)
    options = {"conv_blocks": [], "output": "softmax", "hidden": [4], "dropout": 0.5, "seed": 1}
    network = network_head.build((5,), 2, SimpleNamespace(**options))
    assert class_activation.averaged_map(network_head.NetworkHead(network, ("a", "b")).attach(body, "features")) is None


def test_the_map_from_cached_activations_is_that_from_the_pixels(class_activation, keras, build):
    model = build()
    cached = np.asarray(keras.Model(model.input, model.get_layer("block1").output)(PIXELS.astype(np.float32)))
    from_cached = class_activation.activation_maps(model, "block1", cached, PREDICTED, RIVALS)
    assert from_cached == pytest.approx(
        class_activation.activation_maps(model, None, PIXELS, PREDICTED, RIVALS), rel=1e-4, abs=1e-4
    )


def test_the_map_from_activations_that_are_its_own_features_is_that_from_the_pixels(class_activation, keras, build):
    model = build()
    cached = np.asarray(keras.Model(model.input, model.get_layer("block2").output)(PIXELS.astype(np.float32)))
    assert class_activation.map_input(model, "block2") == "block2"
    maps = class_activation.activation_maps(model, "block2", cached, PREDICTED, RIVALS)
    np.testing.assert_allclose(
        maps, class_activation.activation_maps(model, None, PIXELS, PREDICTED, RIVALS), atol=1e-5
    )


@pytest.mark.parametrize("pooling", ["avg", "cls", "cls_avg", "max"])
def test_patches_that_are_averaged_have_a_map_and_a_class_token_has_none(class_activation, keras, pooling):
    from thaw.backbones.vision_transformer import Architecture, network
    from thaw.engines.transformer_layers import TokenPooling

    keras.utils.set_random_seed(1)
    body = network(Architecture(12, 4, channels=16, blocks=1, heads=2, prefix=2), "tiny")
    features = TokenPooling(pooling, 2, name="features")(body.output)
    head = keras.layers.Dense(3, activation="softmax", bias_initializer="normal", name="probabilities")
    model = keras.Model(body.input, head(features))
    if pooling != "avg":
        assert class_activation.averaged_map(model) is None
        return
    difference, bias = difference_of_logits(model, keras)
    cached = np.asarray(keras.Model(model.input, model.get_layer("block1_add").output)(PIXELS.astype(np.float32)))
    for layer, inputs in ((None, PIXELS), ("block1_add", cached)):
        assert class_activation.map_input(model, layer) == layer
        maps = class_activation.activation_maps(model, layer, inputs, PREDICTED, RIVALS)
        assert maps.shape == (20, 3, 3)
        assert maps.mean(axis=(1, 2)) + bias == pytest.approx(difference, rel=1e-4, abs=1e-4)
    assert class_activation.map_input(model, "features") is None


def test_the_map_shows_the_place_that_speaks_for_the_answer(class_activation, keras, build):
    model = build()
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    pixels[0, 24:28, 4:8] = 255  # all else is black, so that only this place has features
    strength = np.abs(class_activation.activation_maps(model, None, pixels, np.array([0]), np.array([1])))[0]
    assert strength.max() > 0
    assert strength[10:16, :6].sum() == pytest.approx(strength.sum())


def test_the_map_is_computed_from_the_cut_or_from_the_pixels_where_the_cut_lies_behind_it(class_activation, build):
    model = build()
    layers = {cut: class_activation.map_input(model, cut) for cut in (None, "block1", "block2", "features")}
    assert layers == {None: None, "block1": "block1", "block2": "block2", "features": None}


@pytest.mark.parametrize("network", [{"pooling": "GlobalMaxPooling2D"}, {"pooling": "Flatten"}, {"hidden": 4}])
def test_a_network_whose_logits_are_no_mean_over_places_has_no_map(class_activation, keras, build, network):
    if network.get("pooling") == "Flatten":
        image = keras.Input((4, 4, 3))
        model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    else:
        model = build(**network)
    assert class_activation.averaged_map(model) is None


def finished_run(model, cut: str | None, activations: np.ndarray, **others) -> models.TrainedModels:
    """A run of the images of PIXELS; image i stands in row 19 - i of the activations."""
    ids = np.array([f"p{i:02}" for i in range(20)])
    rows = np.arange(20)[::-1]
    fields = {
        "head": LinearHead(np.zeros((5, 3), np.float32), np.zeros(3, np.float32), ("a", "b", "c"), C=1.0),
        "full_model": model,
        "metadata": {"cut": cut},
        "examples": Examples(ids, np.full(20, "test"), rows[:, None], RIVALS, np.ones(20), ids),
        "inputs": (models.Inputs(None, activations),),
        "activation_rows": rows,
        "decided": {"kept": "fine_tuned"},
    }
    unused = dict.fromkeys(field.name for field in dataclasses.fields(models.TrainedModels))
    return models.TrainedModels(**unused | fields | others)


@pytest.mark.parametrize("cut", [None, "block1", "features"])
def test_the_report_maps_cached_activations_or_pixels_and_leaves_out_what_is_gone(class_activation, keras, build, cut):
    model = build()
    activations = PIXELS
    if cut:
        frozen = keras.Model(model.input, model.get_layer(cut).output)
        activations = np.asarray(frozen(PIXELS.astype(np.float32)))
    run = finished_run(model, cut, activations)
    probabilities = np.eye(3)[PREDICTED]
    answers = {"fine_tuned": probabilities}
    predictions = Predictions(run.examples, run.head.classes, answers, np.ones(20), np.zeros(20, int))
    pixels = {3: PIXELS[16], 5: None, 7: PIXELS[12]}
    maps = review.compute_activation_maps(run, predictions, probabilities, pixels)
    assert list(maps) == [3, 7]
    expected = class_activation.activation_maps(model, None, PIXELS[[16, 12]], PREDICTED[[3, 7]], RIVALS[[3, 7]])
    assert np.stack(list(maps.values())) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("cut", ["block1", "features"])
@pytest.mark.parametrize("kept", ["head", "fine_tuned"])
def test_with_folds_a_map_is_of_the_model_that_answers(class_activation, keras, build, tmp_path, kept, cut):
    """The mean of a map and the biases are the difference of the logits of the round that tests the image."""
    from thaw.engines import model_files

    generator = np.random.default_rng(2)
    final, pixels = build(), PIXELS.astype(np.float32)
    network = keras.Model(final.input, final.get_layer("features").output)
    model_files.save(final, tmp_path / "model.keras", {"cut": cut})
    activations = np.asarray(keras.Model(final.input, final.get_layer(cut).output)(pixels))
    rounds, answers, biases = [], [], []
    for _ in range(3):
        head = LinearHead(*(generator.normal(size=s).astype(np.float32) for s in ((5, 3), 3)), ("a", "b", "c"), C=1.0)
        thawed = keras.models.clone_model(model_files.thawed_part(final, cut))
        thawed.set_weights([w + generator.normal(0, 0.1, w.shape) for w in final.get_weights()[-len(thawed.weights) :]])
        rounds.append(models.Trained(head, thawed, run_thawed=None))
        is_head = kept == "head"
        answers.append(head.probabilities(np.asarray(network(pixels))) if is_head else np.asarray(thawed(activations)))
        biases.append(head.bias if is_head else thawed.get_weights()[-1])
    files = SimpleNamespace(model=tmp_path / "model.keras")
    run = finished_run(final, cut, activations[::-1], rounds=rounds, files=files, decided={"kept": kept})
    numbers = np.arange(20) % 3
    run = dataclasses.replace(run, examples=dataclasses.replace(run.examples, folds=numbers[:, None]))
    probabilities = np.stack([answers[number][i] for i, number in enumerate(numbers)]).astype(float)
    predictions = Predictions(run.examples, run.head.classes, {kept: probabilities}, np.ones(20), numbers, kept)
    maps = review.compute_activation_maps(run, predictions, probabilities, dict(enumerate(PIXELS)))
    assert list(maps) == list(range(20))
    predicted, rivals = review.predicted_and_rivals(probabilities, run.examples.labels)
    every = np.arange(20)
    difference = np.log(probabilities[every, predicted] / probabilities[every, rivals])
    bias = np.stack(biases)[numbers]
    difference -= bias[every, predicted] - bias[every, rivals]
    assert np.stack(list(maps.values())).mean(axis=(1, 2)) == pytest.approx(difference, rel=1e-3, abs=1e-3)
