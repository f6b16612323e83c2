"""Fine-tuning changes what it should, by as much as it should, and nothing else; twice it is the same."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import needs_bfloat16
from pydantic import ValidationError

from thaw.core.errors import ThawError
from thaw.features.examples import NO_VIEW, Examples, weighted_scores
from thaw.heads.linear import LinearHead
from thaw.parameters.fine_tune import FineTune
from thaw.training.schedule import learning_rate

CHANNELS = 4
KERNEL = np.random.default_rng(0).normal(0, 1, (CHANNELS, 2)).astype(np.float32)
BIAS = np.array([0.1, -0.1], np.float32)


def parameters(**changes) -> FineTune:
    defaults = {
        "freeze_depth": "block1", "epochs": 3, "patience": 10, "batch_size": 8, "learning_rate": 0.01,
        "warmup_epochs": 0.0, "layer_decay": 1.0, "weight_decay": 0.0, "label_smoothing": 0.0, "ema": None,
        "focusing": None, "cache": True, "gradients": "float32", "class_weight": None, "prune_above": [],
        "keep": "auto", "seed": 1,
    }  # fmt: skip
    return FineTune(**defaults | changes)


class Recorded(np.memmap):
    """An array on disk that notes which rows are read."""

    def __getitem__(self, rows):
        if isinstance(rows, np.ndarray) and hasattr(self, "read"):
            self.read.append(rows.copy())
        return super().__getitem__(rows)


def on_disk(path, array: np.ndarray) -> Recorded:
    mapped = np.memmap(path, array.dtype, "w+", shape=array.shape)
    mapped[:] = array
    recorded = Recorded(path, array.dtype, "r", shape=array.shape)
    recorded.read = []
    return recorded


def examples(first: int, count: int, augmented: int, weights=None) -> Examples:
    """Images with so many augmented views, whose rows follow one another from `first` on; odd ones are of class 1."""
    return Examples(
        image_ids=np.array([f"image-{i}" for i in range(count)]),
        splits=np.full(count, "train"),
        views=first + np.arange(count * (1 + augmented)).reshape(count, 1 + augmented),
        labels=np.arange(count) % 2,
        weights=np.ones(count) if weights is None else np.asarray(weights, float),
        groups=np.array([f"image-{i}" for i in range(count)]),
    )


@pytest.fixture(scope="module")
def tf():
    from thaw.engines.keras_setup import keras
    from thaw.engines.tensorflow_setup import tf
    from thaw.training import loop

    return SimpleNamespace(keras=keras, tf=tf, loop=loop)


@pytest.fixture
def build(tf):
    """A function that builds a small network of three blocks and a head, its batch norms not trivial."""

    def build(seed: int = 0, kernel: int = 3):
        layers = tf.keras.layers
        tf.keras.utils.set_random_seed(seed)
        x = image = tf.keras.Input((None, None, 3), name="image")
        x = layers.Rescaling(1 / 255, name="preprocess")(x)
        for block in ("block1", "block2a", "block2b"):
            x = layers.Conv2D(CHANNELS, kernel, padding="same", name=f"{block}_conv")(x)
            x = layers.BatchNormalization(name=f"{block}_bn")(x)
            x = layers.ReLU(6, name=f"{block}_activation")(x)
        x = layers.GlobalAveragePooling2D(name="features")(x)
        backbone = tf.keras.Model(image, layers.Dense(10, activation="softmax", name="predictions")(x))
        for i, block in enumerate(("block1", "block2a", "block2b")):
            values = (1.5, 0.2, 0.3, 2.0 + i)
            backbone.get_layer(f"{block}_bn").set_weights([np.full(CHANNELS, v, np.float32) for v in values])
        return LinearHead(KERNEL, BIAS, ("a", "b"), 1.0).attach(backbone, "features")

    return build


@pytest.fixture
def data(tmp_path):
    """A function that gives cached activations of block1, with examples to train and to validate on."""

    def data(augmented: int = 0, count: int = 16, noise: bool = False):
        rng = np.random.default_rng(0)
        train, validation = examples(0, count, augmented), examples(count * (1 + augmented), 8, 0)
        rows = validation.views.max() + 1
        array = rng.uniform(0, 1, (rows, 4, 4, CHANNELS)).astype(np.float16)
        for part in (train, validation):
            labels = rng.permutation(part.labels) if noise else part.labels
            # Not on all channels: what all inputs of a kernel share is taken out of its gradient, see `centring`.
            array[part.views, ..., ::2] += labels[:, None, None, None, None].astype(np.float16)
        return on_disk(tmp_path / "activations", array), train, validation

    return data


def weights_of(model) -> dict[str, np.ndarray]:
    return {variable.path: np.asarray(variable).copy() for variable in model.weights}


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {path for path in before if not np.array_equal(before[path], after[path])}


def train(
    tf, model, data, frozen_layer="block1_activation", depths=None, **changes
) -> tuple[int, list[dict[str, float]]]:
    """Train what lies behind the frozen layer; return the best epoch and what was logged."""
    logged = []
    best = tf.loop.fit(
        model,
        tf.loop.TrainingData(*data, frozen_layer, depths or (frozen_layer,)),
        parameters(**changes),
        logged.append,
    )
    return best, logged


# The model and its parts


def test_the_head_is_attached_with_its_weights(tf, build):
    model = build()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)
    features = tf.keras.Model(model.input, model.get_layer("features").output)(pixels, training=False).numpy()
    logits = np.exp(features @ KERNEL + BIAS)
    np.testing.assert_allclose(model(pixels, training=False), logits / logits.sum(1, keepdims=True), rtol=1e-5)


def test_the_thawed_part_shares_its_weights_with_the_whole(tf, build):
    model = build()
    thawed = tf.loop.thawed_part(model, "block2a_activation")
    thawed.get_layer("block2b_conv").bias.assign(np.full(CHANNELS, 7.0))
    assert (np.asarray(model.get_layer("block2b_conv").bias) == 7).all()
    assert tf.loop.thawed_part(model, None) is model


def test_predictions_are_those_of_the_thawed_part_for_any_number_of_rows(tf, build, data):
    activations, *_ = data(count=150)
    thawed = tf.loop.thawed_part(build(), "block1_activation")
    predict = tf.loop.predictor(thawed, activations)
    rows = np.random.default_rng(0).permutation(len(activations))[:147]
    expected = thawed(np.asarray(activations)[rows].astype(np.float32), training=False)
    np.testing.assert_allclose(predict(rows), expected, rtol=1e-5)
    for count in (67, 65, 3, 1):
        np.testing.assert_allclose(predict(rows[:count]), expected[:count], rtol=1e-5)


# What moves


def test_only_what_lies_behind_the_frozen_layer_moves_and_no_statistics_do(tf, build, data):
    model = build()
    before = weights_of(model)
    train(tf, model, data())
    changed = moved(before, weights_of(model))
    assert changed == {path for path in before if not path.startswith("block1") and "moving" not in path}
    assert any("gamma" in path for path in changed)


def test_the_head_alone_moves_where_all_is_frozen(tf, build, tmp_path):
    model = build()
    before = weights_of(model)
    training, validation = examples(0, 16, 0), examples(16, 8, 0)
    features = np.random.default_rng(0).uniform(0, 1, (24, CHANNELS)).astype(np.float16)
    for part in (training, validation):
        features[part.rows, ::2] += part.labels[:, None].astype(np.float16)
    train(tf, model, (on_disk(tmp_path / "f", features), training, validation), "features")
    assert moved(before, weights_of(model)) == {"probabilities/kernel", "probabilities/bias"}


def test_pixels_train_the_whole_network_where_nothing_is_frozen(tf, build, tmp_path):
    model = build()
    before = weights_of(model)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    data = on_disk(tmp_path / "p", pixels), examples(0, 16, 0), examples(16, 8, 0)
    best, logged = train(tf, model, data, frozen_layer=None, epochs=1, learning_rate=1e-3)
    assert np.isfinite([scores["validation_loss"] for scores in logged]).all()
    if best:
        assert moved(before, weights_of(model)) == {path for path in before if "moving" not in path}


def test_training_learns(tf, build, data):
    _, logged = train(tf, build(), data(), epochs=10, learning_rate=0.03)
    assert logged[-1]["validation_loss"] < 0.5 * logged[0]["validation_loss"]


def step_sizes(tf, build, data, **changes) -> dict[str, float]:
    """How far each variable moves, in the mean, in one single step."""
    model = build()
    before = weights_of(model)
    activations, *rest = data()
    one_step(tf, model, activations, rest[0], **changes)
    after = weights_of(model)
    return {path: float(np.abs(after[path] - before[path]).mean()) for path in moved(before, after)}


def one_step(tf, model, activations, part, **changes) -> float:
    """Take one step on the plain views of all images; return its loss."""
    params = parameters(**changes)
    data = tf.loop.TrainingData(activations, part, part, "block1_activation", ("block1_activation",))
    variables = tf.loop.trainable_variables(model, data.depths, params)
    step = tf.loop._training_step(model, data, variables, 0, params)
    ones = np.ones(len(part.labels), np.float32)
    return float(step(np.asarray(activations)[part.rows], part.labels, ones, params.learning_rate, 0.0))


def blocks(groups) -> list[tuple[float, set[str]]]:
    """Of each group the factor and what stands before the first `_` in the names of its layers."""
    return [(round(g.factor, 6), {v.path.split("/")[-2].split("_")[0] for v in g.variables}) for g in groups]


def test_blocks_are_grouped_from_the_head_down_with_their_factors(tf, build):
    groups = tf.loop.rate_groups(build(), ["block1_activation"], 0.1)
    assert blocks(groups) == [(1, {"probabilities"}), (0.1, {"block2b"}), (0.01, {"block2a"})]


def test_variables_of_a_block_that_thaw_at_different_times_are_groups_of_their_own(tf, build):
    groups = tf.loop.rate_groups(build(), ["features", "block2b_conv", "block1_activation"], 0.1)
    layers = [(round(g.factor, 6), sorted({v.path.split("/")[0] for v in g.variables}), g.phases) for g in groups]
    assert layers == [
        (1, ["probabilities"], (True, True, True)),
        (0.1, ["block2b_bn"], (False, True, True)),
        (0.1, ["block2b_conv"], (False, False, True)),
        (0.01, ["block2a_bn", "block2a_conv"], (False, False, True)),
    ]


def headed(backbone) -> object:
    """A backbone of keras.applications, which ends in its pooled features, with a head of two classes."""
    channels = backbone.output.shape[-1]
    kernel = np.zeros((channels, 2), np.float32)
    return LinearHead(kernel, BIAS, ("a", "b"), 1.0).attach(backbone, backbone.layers[-1].name)


def test_blocks_of_efficientnet_lite_are_those_of_its_names(tf):
    from thaw.backbones import efficientnet_lite

    backbone = efficientnet_lite.build("EfficientNetLite0", imagenet=False)
    kernel = np.zeros((1280, 2), np.float32)
    model = LinearHead(kernel, BIAS, ("a", "b"), 1.0).attach(backbone, "features")
    actual = blocks(tf.loop.rate_groups(model, [None], 0.5))
    assert [block for _, block in actual] == [
        {name} for name in [
            "probabilities", "top", "block7a", "block6d", "block6c", "block6b", "block6a", "block5c", "block5b",
            "block5a", "block4c", "block4b", "block4a", "block3b", "block3a", "block2b", "block2a", "block1a", "stem",
        ]
    ]  # fmt: skip
    assert [factor for factor, _ in actual] == [round(0.5**depth, 6) for depth in range(19)]
    behind = tf.loop.rate_groups(model, ["block5c_add"], 0.5)
    assert blocks(behind) == actual[:7]


def test_blocks_of_mobilenet_are_those_between_its_cut_points(tf):
    backbone = tf.keras.applications.MobileNetV2((32, 32, 3), 0.35, include_top=False, weights=None, pooling="avg")
    groups = tf.loop.rate_groups(headed(backbone), ["block_12_add"], 0.5)
    layers = [sorted({v.path.split("/")[0] for v in group.variables}) for group in groups]
    parts = ["depthwise", "depthwise_BN", "expand", "expand_BN", "project", "project_BN"]
    assert layers == [
        ["probabilities"],
        ["Conv_1", "Conv_1_bn"],
        *([f"block_{number}_{part}" for part in parts] for number in (16, 15, 14, 13)),
    ]
    assert [group.factor for group in groups] == [0.5**depth for depth in range(6)]


def test_blocks_of_resnet_are_those_between_its_cut_points(tf):
    backbone = tf.keras.applications.ResNet50(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")
    groups = tf.loop.rate_groups(headed(backbone), ["conv4_block5_out"], 0.5)
    names = [{"_".join(v.path.split("/")[0].split("_")[:2]) for v in group.variables} for group in groups]
    assert names == [
        {"probabilities"}, {"conv5_block3"}, {"conv5_block2"}, {"conv5_block1"}, {"conv4_block6"},
    ]  # fmt: skip
    every = {v.path for group in tf.loop.rate_groups(headed(backbone), [None], 0.5) for v in group.variables}
    assert {v.path for v in backbone.trainable_variables} <= every


@pytest.mark.parametrize("images", [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6], [3, 4, 3, 4]])
def test_a_step_follows_the_gradient_of_the_whole_batch(tf, build, data, images):
    activations, *parts = data()
    labels, weights = np.arange(16)[images] % 2, np.linspace(0.1, 2, 16, dtype=np.float32)[images]
    x = np.asarray(activations)[images]
    model = build()
    thawed = tf.loop.thawed_part(model, "block1_activation")
    variables = thawed.trainable_variables
    with tf.tf.GradientTape() as tape:
        cross_entropy = tf.keras.losses.sparse_categorical_crossentropy(labels, thawed(x.astype(np.float32)))
        expected = tf.tf.reduce_mean(weights * cross_entropy)
    actual = tape.gradient(expected, variables)
    axes = tf.loop.input_axes(model.layers)
    wanted = [v.numpy() - tf.loop.centre(g, axes[v.path]).numpy() for v, g in zip(variables, actual, strict=True)]
    groups = tf.loop.rate_groups(model, ["block1_activation"], 1.0)
    descent = [tf.keras.optimizers.SGD() for _ in groups]
    for optimizer, group in zip(descent, groups, strict=True):
        optimizer.build(group.variables)
    given = tf.loop.TrainingData(activations, *parts, "block1_activation", ("block1_activation",))
    step = tf.loop._training_step(model, given, tf.loop.TrainableVariables(groups, descent, []), 0, parameters())
    assert float(step(x, labels, weights, 1.0, 0.0)) == pytest.approx(float(expected), rel=1e-5)
    for variable, after in zip(variables, wanted, strict=True):
        np.testing.assert_allclose(variable.numpy(), after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("images", "batch"), [(9, 8), (11, 8), (3, 1), (1, 4)])
def test_a_batch_of_very_few_images_trains(tf, images, batch):
    layers = tf.keras.layers  # which TensorFlow fuses, and then does not compute of no images
    x = image = tf.keras.Input((None, None, 3))
    for block, layer in enumerate((layers.Conv2D(8, 1, use_bias=False), layers.DepthwiseConv2D(3, padding="same"))):
        x = layers.ReLU(6, name=f"block{block}_activation")(layers.BatchNormalization()(layer(x)))
    x = layers.GlobalAveragePooling2D(name="features")(x)
    model = LinearHead(np.ones((8, 2), np.float32), BIAS, ("a", "b"), 1.0).attach(tf.keras.Model(image, x), "features")
    pixels = np.random.default_rng(0).integers(0, 256, (images, 16, 16, 3), np.uint8)
    whole = examples(0, images, 0)
    _, logged = train(
        tf, model, (pixels, whole, whole), frozen_layer=None, batch_size=batch, learning_rate=1e-3, epochs=2
    )
    assert np.isfinite([value for scores in logged for value in scores.values()]).all()


def test_a_layer_with_a_tenth_of_the_rate_moves_a_tenth_as_far(tf, build, data):
    whole, tenth = (step_sizes(tf, build, data, layer_decay=decay) for decay in (1.0, 0.1))
    factors = {"probabilities": 1, "block2b": 0.1, "block2a": 0.01}
    assert whole.keys() == tenth.keys()
    for path in whole:
        expected = whole[path] * factors[path.split("/")[0].split("_")[0]]
        assert tenth[path] == pytest.approx(expected, rel=0.02), path


def test_a_kernel_whose_inputs_are_all_the_same_has_nothing_to_learn(tf, build, data):
    activations, training, validation = data()
    array = np.array(activations)
    array[:] = array.mean(axis=(1, 2, 3), keepdims=True)  # then all inputs of block2a_conv have the same gradient
    model = build(kernel=1)
    before = weights_of(model)
    train(tf, model, (array, training, validation), epochs=1, patience=None)
    changed = moved(before, weights_of(model))
    assert "block2a_conv/bias" in changed and "block2a_conv/kernel" not in changed


def test_weight_decay_pulls_at_kernels_and_spares_biases_and_norms(tf, build, data):
    plain, decayed = (step_sizes(tf, build, data, weight_decay=decay) for decay in (0.0, 0.9))
    differ = {path for path in plain if plain[path] != pytest.approx(decayed[path], rel=1e-5)}
    assert differ == {path for path in plain if path.endswith("kernel")}


@pytest.mark.parametrize("warmup", [0.0, 5.0, 9.0])
def test_a_warm_up_of_any_length_trains(tf, build, data, warmup):
    _, logged = train(tf, build(), data(), warmup_epochs=warmup, epochs=2)
    assert np.isfinite(logged[-1]["train_loss"])


# Which epoch is kept, and when it stops


def test_the_weights_are_those_of_the_best_epoch(tf, build, data):
    model = build()
    activations, part, validation = data(noise=True)
    best, logged = train(tf, model, (activations, part, validation), epochs=20, learning_rate=0.1)
    losses = [scores["validation_loss"] for scores in logged]
    assert best == int(np.argmin([scores["validation_loss_calibrated"] for scores in logged]))
    assert 0 < best < len(losses) - 1
    predict = tf.loop.predictor(tf.loop.thawed_part(model, "block1_activation"), activations)
    p = predict(validation.rows)
    assert -np.log(p[np.arange(8), validation.labels]).mean() == pytest.approx(losses[best], rel=1e-5)


def test_training_that_makes_it_worse_leaves_the_model_as_it_was(tf, build, data):
    model = build()
    activations, part, validation = data()
    train(tf, model, (activations, part, validation), epochs=10, learning_rate=0.03)
    before = weights_of(model)
    opposite = dataclasses.replace(part, labels=1 - part.labels)
    best, logged = train(tf, model, (activations, opposite, validation), epochs=3, learning_rate=0.03)
    assert best == 0
    assert logged[-1]["validation_loss"] > 2 * logged[0]["validation_loss"]
    assert not moved(before, weights_of(model))


def test_an_epoch_that_is_too_sure_may_be_the_best(tf, build, data):
    """Of labels of which a quarter is wrong, a network that grows surer has the higher loss, and confuses no more."""
    activations, part, validation = data()
    doubted = dataclasses.replace(
        validation, labels=np.where(np.arange(8) < 2, 1 - validation.labels, validation.labels)
    )
    best, logged = train(tf, build(), (activations, part, doubted), epochs=12, learning_rate=0.05)
    assert best > int(np.argmin([scores["validation_loss"] for scores in logged]))
    assert logged[best]["validation_loss_calibrated"] < logged[best]["validation_loss"]


def probabilities_of(logits: np.ndarray, temperature: float) -> np.ndarray:
    odds = np.exp(logits / temperature)
    return odds / odds.sum(axis=1, keepdims=True)


def test_the_calibrated_loss_is_the_lowest_of_all_temperatures_from_1_on(tf, data):
    *_, validation = data()
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(8, 2)) + np.eye(2)[validation.labels]
    for sure in (0.25, 0.5, 1.0, 4.0):
        cooler = [probabilities_of(logits, sure * temperature) for temperature in np.geomspace(1, 10, 500)]
        losses = [weighted_scores(p, validation)[0] for p in cooler]
        scores = tf.loop.validation_scores(probabilities_of(logits, sure), validation)
        assert scores["validation_loss"] == pytest.approx(losses[0])
        assert scores["validation_loss_calibrated"] == pytest.approx(min(losses), abs=1e-4)


def test_one_wrong_label_that_a_network_is_quite_sure_of_does_not_rule_the_calibrated_loss(tf):
    labels = np.zeros(100, int)
    labels[0] = 1
    one = examples(0, 100, 0)
    wrong = dataclasses.replace(one, labels=labels)
    p = probabilities_of(np.tile([5.0, 0.0], (100, 1)), 1)
    p[0] = [1, 0]
    scores = tf.loop.validation_scores(p.astype(np.float32), wrong)
    assert scores["validation_loss_calibrated"] <= scores["validation_loss"]


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_patience_ends(tf, build, data, patience):
    best, logged = train(tf, build(), data(noise=True), epochs=40, learning_rate=0.05, patience=patience)
    assert len(logged) == best + patience + 1
    assert len(logged) < 41


def test_without_patience_the_last_epoch_is_kept(tf, build, data):
    examples = data(noise=True)
    best, whole = train(tf, build(), examples, epochs=20, learning_rate=0.1)
    model = build()
    kept, logged = train(tf, model, examples, epochs=20, learning_rate=0.1, patience=None)
    assert best < 20, "the best epoch is the last: nothing is told apart"
    assert (kept, logged[: len(whole)]) == (20, whole)
    activations, _, validation = examples
    predict = tf.loop.predictor(tf.loop.thawed_part(model, "block1_activation"), activations)
    assert tf.loop.validation_scores(predict(validation.rows), validation)["validation_loss"] == (
        pytest.approx(logged[-1]["validation_loss"], rel=1e-5)
    )


def test_without_patience_the_limits_are_held_against_the_lowest_loss_still(tf, build, data):
    _, whole = train(tf, build(), data(noise=True), epochs=8, learning_rate=0.1, patience=None)
    losses = np.array([scores["validation_loss_calibrated"] for scores in whole])
    lowest = np.minimum.accumulate(losses)
    rises = int(np.argmax(losses > lowest))
    assert 0 < rises < 8, "each loss is the lowest: nothing is told apart"
    limits = [None] * (rises - 1) + [(lowest[rises] + losses[rises]) / 2, lowest[rises + 1] - 1e-6]
    kept, pruned = train(tf, build(), data(noise=True), epochs=8, learning_rate=0.1, patience=None, prune_above=limits)
    assert (kept, pruned) == (rises + 1, whole[: rises + 2])


def test_training_ends_at_the_first_epoch_whose_best_loss_lies_above_its_limit(tf, build, data):
    _, whole = train(tf, build(), data(noise=True), epochs=6, learning_rate=0.03)
    best = np.minimum.accumulate([scores["validation_loss_calibrated"] for scores in whole])
    limits = [None, best[2] + 1e-6, best[3] - 1e-6]  # of epochs 1, 2 and 3
    _, pruned = train(tf, build(), data(noise=True), epochs=6, learning_rate=0.03, prune_above=limits)
    assert pruned == whole[:4]


def test_limits_that_hold_change_nothing(tf, build, data):
    _, whole = train(tf, build(), data(), epochs=3)
    _, limited = train(tf, build(), data(), epochs=3, prune_above=[100.0, 100.0])
    assert limited == whole


def test_every_epoch_and_the_start_are_logged(tf, build, data):
    _, logged = train(tf, build(), data(), epochs=3)
    assert len(logged) == 4
    assert "train_loss" not in logged[0]
    for scores in logged[1:]:
        kinds = {"validation_loss", "validation_loss_calibrated", "validation_accuracy_weighted", "train_loss"}
        assert set(scores) == kinds


# Smoothing and averages


def test_smoothed_labels_are_shared_out_over_the_classes(tf, build, data):
    activations, part, _ = data()
    model = build()
    predict = tf.loop.predictor(tf.loop.thawed_part(model, "block1_activation"), activations)
    p = predict(part.rows).astype(np.float64)
    targets = 0.8 * np.eye(2)[part.labels] + 0.1
    loss = one_step(tf, model, activations, part, label_smoothing=0.2)
    assert loss == pytest.approx(-(targets * np.log(p)).sum(axis=1).mean(), rel=1e-5)


def test_the_average_of_the_weights_is_what_is_kept(tf, build, data):
    plain, averaged = build(), build()
    before, cached = weights_of(plain), data()
    changes = {"epochs": 1, "batch_size": 16, "learning_rate": 0.003}
    assert [train(tf, plain, cached, **changes)[0], train(tf, averaged, cached, ema=0.99, **changes)[0]] == [1, 1]
    after, kept = weights_of(plain), weights_of(averaged)
    for path in moved(before, after):  # after one step the average holds a tenth of the start
        np.testing.assert_allclose(kept[path], 0.1 * before[path] + 0.9 * after[path], rtol=1e-4, atol=1e-6)


def test_the_average_of_the_weights_is_what_is_validated(tf, build, data):
    model = build()
    activations, part, validation = data()
    best, logged = train(tf, model, (activations, part, validation), ema=0.5, epochs=2, learning_rate=0.003)
    assert best == 2
    predict = tf.loop.predictor(tf.loop.thawed_part(model, "block1_activation"), activations)
    p = predict(validation.rows)
    assert -np.log(p[np.arange(8), validation.labels]).mean() == pytest.approx(logged[2]["validation_loss"], rel=1e-5)


def test_an_error_while_the_average_is_validated_leaves_the_trained_weights(tf, build):
    """Such as one of the disk, in `log`."""
    model = build()
    before = weights_of(model)
    variables = tf.loop.trainable_variables(model, ("block1_activation",), parameters(ema=0.9))
    for average in variables.averages:
        average.assign(average + 1)
    with pytest.raises(OSError, match="full"), tf.loop.averaged(variables):
        assert moved(before, weights_of(model))
        raise OSError("the disk is full")
    assert not moved(before, weights_of(model))


def test_an_average_does_not_touch_the_training(tf, build, data):
    cached = data()
    plain, averaged = (train(tf, build(), cached, ema=ema)[1] for ema in (None, 0.9))
    assert [scores["train_loss"] for scores in plain[1:]] == [scores["train_loss"] for scores in averaged[1:]]
    assert [s["validation_loss"] for s in plain[1:]] != [s["validation_loss"] for s in averaged[1:]]


@needs_bfloat16
def test_gradients_in_bfloat16_train_nearly_as_those_in_float32(tf, build, data):
    cached = data()
    long, short = (train(tf, build(kernel=1), cached, gradients=dtype)[1] for dtype in ("float32", "bfloat16"))
    assert short[0] == long[0]
    assert short[1] != long[1]
    for actual, expected in zip(short, long, strict=True):
        assert actual["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-2)


# Gradual thawing


@pytest.mark.parametrize(
    ("depths", "trained"),
    [
        (("features", "block2a_activation", "block1_activation"), [{}, {"block2b"}, {"block2b", "block2a"}]),
        (("block1_activation", "features", "block2a_activation"), [{"block2b", "block2a"}, {}, {"block2b"}]),
    ],
)
def test_each_phase_trains_what_lies_behind_its_depth(tf, build, data, depths, trained):
    model, history = build(), []
    given = tf.loop.TrainingData(*data(), "block1_activation", depths)
    tf.loop.fit(model, given, parameters(epochs=6), lambda _: history.append(weights_of(model)))
    for epoch in range(6):
        blocks = {path.split("/")[0].split("_")[0] for path in moved(history[epoch], history[epoch + 1])}
        assert blocks == {"probabilities", *trained[epoch // 2]}


def test_a_block_that_thaws_late_begins_with_steps_of_the_common_size(tf, build, data):
    """Adam's first step is as long as its rate; moments that had waited would make it more than three times that."""
    model, history = build(), []
    params = parameters(epochs=2, batch_size=16, warmup_epochs=0.0)
    given = tf.loop.TrainingData(*data(), "block1_activation", ("features", "block1_activation"))
    tf.loop.fit(model, given, params, lambda _: history.append(weights_of(model)))
    step = np.abs(history[2]["block2a_conv/kernel"] - history[1]["block2a_conv/kernel"])
    assert np.median(step) == pytest.approx(learning_rate(1, 1, params), rel=0.01)


def test_one_schedule_spans_all_phases(tf, build, data):
    """The head, which trains in both, moves as it does without phases as long as nothing else trains."""
    plain, phased, cached = build(), build(), data()
    train(tf, plain, cached, depths=("features",), epochs=4)
    train(tf, phased, cached, depths=("features", "features"), epochs=4)
    assert not moved(weights_of(plain), weights_of(phased))


@pytest.mark.parametrize(("epochs", "frozen"), [(8, 4), (5, 3)])
def test_patience_counts_from_the_last_thawing(tf, build, data, epochs, frozen):
    activations, part, validation = data()
    opposite = dataclasses.replace(part, labels=1 - part.labels)
    model = build()
    train(tf, model, (activations, part, validation), epochs=5, learning_rate=0.03)
    best, logged = train(
        tf, model, (activations, opposite, validation), depths=("features", "block1_activation"),
        epochs=epochs, patience=2, learning_rate=0.03,
    )  # fmt: skip
    assert best == 0
    assert len(logged) == 1 + frozen + 2


@pytest.mark.parametrize("value", [5, [], ["all", 5], [["all"]], None])
def test_a_depth_is_a_name_or_a_list_of_names(value):
    with pytest.raises(ValidationError, match=r"fine_tune\.freeze_depth should be a string or a list of strings, not"):
        parameters(freeze_depth=value)
    assert parameters(freeze_depth=["all", "block6"]).freeze_depth == ["all", "block6"]


def test_more_depths_than_epochs_are_refused():
    with pytest.raises(ValidationError, match=r"fine_tune\.epochs must be at least the number of depths"):
        parameters(freeze_depth=["all", "block6", "block5"], epochs=2)


# Dropout and batch normalisation


@pytest.fixture
def build_with_dropout(tf):
    """A function that builds a network that drops out in its body and in its head, a model of its own."""

    def build(in_body: float, in_head: float):
        layers = tf.keras.layers
        tf.keras.utils.set_random_seed(0)
        x = image = tf.keras.Input((None, None, 3), name="image")
        x = layers.Conv2D(CHANNELS, 3, padding="same", name="block1_activation")(x)
        x = layers.Conv2D(CHANNELS, 3, padding="same", name="block2_conv")(x)
        x = layers.Dropout(in_body, seed=1, name="block2_dropout")(x)
        x = layers.GlobalAveragePooling2D(name="features")(x)
        inputs = tf.keras.Input((CHANNELS,), name="features_of_head")
        y = layers.Dropout(in_head, seed=1, name="dropout")(inputs)
        head = tf.keras.Model(inputs, layers.Dense(2, activation="softmax", name="dense")(y), name="head")
        return tf.keras.Model(image, head(x))

    return build


def test_a_head_drops_out_while_it_trains_and_a_body_does_not(tf, build_with_dropout, data):
    cached = data()
    losses = {
        (body, head): [scores.get("train_loss") for scores in train(tf, build_with_dropout(body, head), cached)[1]]
        for body, head in ((0.0, 0.0), (0.9, 0.0), (0.0, 0.5))
    }
    assert losses[0.0, 0.0] == losses[0.9, 0.0]
    assert losses[0.0, 0.0] != losses[0.0, 0.5]


def test_a_head_that_is_a_model_is_one_group(tf, build_with_dropout):
    groups = tf.loop.rate_groups(build_with_dropout(0.0, 0.5), ["block1_activation"], 0.5)
    assert [(g.factor, sorted(v.path for v in g.variables)) for g in groups] == [
        (1, ["dense/bias", "dense/kernel"]),
        (0.5, ["block2_conv/bias", "block2_conv/kernel"]),
    ]


# What goes wrong


def test_a_rate_far_too_high_is_one_line(tf, build_with_dropout, data):
    with pytest.raises(ThawError, match=r"fine_tune\.learning_rate, 1e\+30, is too high") as caught:
        train(tf, build_with_dropout(0.0, 0.0), data(), learning_rate=1e30)
    assert "\n" not in str(caught.value)


def test_a_batch_may_be_larger_than_the_data(tf, build, data):
    _, logged = train(tf, build(), data(), batch_size=1000, warmup_epochs=1.0)
    assert len(logged) == 4
    assert logged[3]["validation_loss"] < logged[0]["validation_loss"]


# Which views and weights


def rows_of_epochs(activations: Recorded, part: Examples) -> list[np.ndarray]:
    """The training rows that were read, an array an epoch."""
    read = np.concatenate([rows for rows in activations.read if np.isin(rows, part.views).all()])
    return np.split(read, len(read) // len(part.labels))


def test_an_epoch_shows_every_image_once(tf, build, data):
    activations, part, validation = data(augmented=2)
    train(tf, build(), (activations, part, validation), epochs=3)
    epochs = rows_of_epochs(activations, part)
    assert len(epochs) == 3
    for rows in epochs:
        assert sorted(rows // 3) == list(range(16))


def test_as_many_epochs_as_views_show_them_all(tf, build, data):
    activations, part, validation = data(augmented=2)
    train(tf, build(), (activations, part, validation), epochs=3)
    assert sorted(np.concatenate(rows_of_epochs(activations, part))) == list(range(48))


def test_an_image_with_fewer_views_cycles_through_its_own(tf, build, data):
    activations, part, validation = data(augmented=2)
    views = part.views.copy()
    views[:8, 2] = NO_VIEW
    train(tf, build(), (activations, dataclasses.replace(part, views=views), validation), epochs=6, patience=None)
    rows, counts = np.unique(np.concatenate(activations.read), return_counts=True)
    times = dict(zip(rows.tolist(), counts.tolist(), strict=True))
    assert [times[row] for row in views[:8, :2].ravel()] == [3] * 16
    assert [times[row] for row in views[8:].ravel()] == [2] * 24
    assert not set(part.views[:8, 2]) & set(rows)


def test_images_begin_with_different_views_in_an_order_that_changes(tf, build, data):
    activations, part, validation = data(augmented=2)
    train(tf, build(), (activations, part, validation), epochs=2)
    first, second = rows_of_epochs(activations, part)
    assert set(first % 3) == {0, 1, 2}
    assert (first // 3).tolist() != (second // 3).tolist()


def test_validation_sees_the_plain_images(tf, build, data):
    activations, part, validation = data(augmented=2)
    train(tf, build(), (activations, part, validation), epochs=1)
    read = [rows for rows in activations.read if not np.isin(rows, part.views).any()]
    assert all(rows.tolist() == validation.rows.tolist() for rows in read)


def test_a_image_without_weight_does_not_count(tf, build, data, tmp_path):
    activations, part, validation = data()
    weightless = examples(0, 16, 0, weights=[1] * 14 + [0, 0])
    other = np.asarray(activations).copy()
    other[14:16] = 9  # what the images without weight show is another thing altogether
    models = build(), build()
    for model, array in zip(models, (activations, on_disk(tmp_path / "other", other)), strict=True):
        train(tf, model, (array, weightless, validation), epochs=2)
    one, two = map(weights_of, models)
    assert not moved(one, two)
    assert part.weights.all()


def test_balanced_classes_weigh_the_same(tf, build, data):
    activations, part, validation = data()
    uneven = examples(0, 16, 0, weights=np.where(part.labels == 1, 9.0, 1.0))
    models = build(), build()
    train(tf, models[0], (activations, part, validation), epochs=2)
    train(tf, models[1], (activations, uneven, validation), epochs=2, class_weight="balanced")
    one, two = map(weights_of, models)
    for path in one:
        np.testing.assert_allclose(one[path], two[path], rtol=1e-4, atol=1e-6)


def test_activations_may_come_from_anything_with_rows(tf, build, data):
    activations, *parts = data(augmented=1)

    class Source:
        shape, dtype = activations.shape, activations.dtype

        def __getitem__(self, rows):
            return np.asarray(activations)[rows]

    models = build(), build()
    for model, source in zip(models, (activations, Source()), strict=True):
        train(tf, model, (source, *parts))
    assert not moved(*map(weights_of, models))


# Twice the same


def test_two_runs_give_the_same_bytes_and_another_seed_gives_others(tf, build, data):
    models = build(), build(), build()
    activations = data(augmented=2)
    for model, seed in zip(models, (1, 1, 2), strict=True):
        train(tf, model, activations, epochs=2, learning_rate=0.003, seed=seed)
    one, two, other = map(weights_of, models)
    assert not moved(one, two)
    assert moved(one, other)


def test_two_runs_with_dropout_averages_and_thawing_give_the_same_bytes(tf, build_with_dropout, data):
    models, cached = [build_with_dropout(0.0, 0.5) for _ in range(2)], data(augmented=1)
    changes = {"depths": ("features", "block1_activation"), "ema": 0.9, "label_smoothing": 0.1, "epochs": 4}
    before = weights_of(models[0])
    scores = [train(tf, model, cached, learning_rate=0.003, **changes) for model in models]
    assert scores[0] == scores[1]
    assert scores[0][0] > 2, "the best epoch lies before the thawing: nothing is compared"
    assert not moved(*map(weights_of, models))
    assert moved(before, weights_of(models[0]))


@pytest.mark.parametrize("dropout", [False, True])
def test_no_sum_is_left_to_timing(tf, build, build_with_dropout, data, monkeypatch, dropout):
    """TensorFlow's AddN adds first into whichever buffer is free."""
    steps, original = [], tf.loop._training_step
    monkeypatch.setattr(tf.loop, "_training_step", lambda *given: steps.append(original(*given)) or steps[-1])
    train(tf, build_with_dropout(0.0, 0.5) if dropout else build(), data(augmented=1), epochs=1, ema=0.9)
    graph = steps[0].get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert sum(node.op == "AddV2" for node in nodes) > 2 * tf.loop.PARTS, "the sums are somewhere else"
    assert not any(node.op == "AddN" for node in nodes)


TRAINING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from thaw.training import loop
loop.usable_cores = lambda: int(sys.argv[2])
loop.share_cores()
from thaw.engines.keras_setup import keras
from thaw.engines.tensorflow_setup import tf
import numpy as np
from test_loop import examples, parameters
keras.utils.set_random_seed(0)
x = image = keras.Input((32, 32, 3))
for layer in (keras.layers.Conv2D(64, 3), keras.layers.Conv2D(64, 1), keras.layers.DepthwiseConv2D(5)):
    x = keras.layers.ReLU(6)(keras.layers.BatchNormalization()(layer(x)))
x = keras.layers.GlobalAveragePooling2D()(x)
model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(x))
pixels = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
params = parameters(batch_size=16, learning_rate=1e-3, epochs=2)
data = loop.TrainingData(pixels, examples(0, 40, 0), examples(40, 20, 0))
loop.fit(model, data, params, lambda scores: None)
loop.share_cores()  # too late to matter, and no error
print(tf.config.threading.get_inter_op_parallelism_threads(), *(w.tobytes().hex() for w in model.get_weights()))
"""


def test_the_number_of_cores_changes_no_byte():
    source, tests = str(Path(__file__).parents[1] / "src"), Path(__file__).parent
    processes = [
        subprocess.Popen([sys.executable, "-c", TRAINING, source, cores], cwd=tests, stdout=subprocess.PIPE, text=True)
        for cores in ("1", "64")
    ]
    (one, *weights), (many, *others) = (process.communicate(timeout=300)[0].split() for process in processes)
    assert (one, many) == ("1", "4")
    assert weights == others
