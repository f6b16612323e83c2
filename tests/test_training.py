"""Fine-tuning changes what it should, by as much as it should, and nothing else; twice it is the same."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from thaw.examples import Examples
from thaw.params import FineTune

CHANNELS = 4
KERNEL = np.random.default_rng(0).normal(0, 1, (CHANNELS, 2)).astype(np.float32)
BIAS = np.array([0.1, -0.1], np.float32)


def parameters(**changes) -> FineTune:
    defaults = {
        "freeze_depth": "block1", "epochs": 3, "patience": 10, "batch_size": 8, "learning_rate": 0.01,
        "warmup_epochs": 0.0, "layer_decay": 1.0, "weight_decay": 0.0, "class_weight": None, "seed": 1,
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


def examples(first: int, count: int, copies: int, weights=None) -> Examples:
    """Photographs whose views stand one after the other from row `first` on; odd ones are of class 1."""
    return Examples(
        image_ids=np.array([f"photograph-{i}" for i in range(count)]),
        views=first + np.arange(count * (1 + copies)).reshape(count, 1 + copies),
        labels=np.arange(count) % 2,
        weights=np.ones(count) if weights is None else np.asarray(weights, float),
        groups=np.array([f"photograph-{i}" for i in range(count)]),
    )


@pytest.fixture(scope="module")
def tf():
    from thaw import training
    from thaw.tensorflow import keras, tf

    return SimpleNamespace(keras=keras, tf=tf, training=training)


@pytest.fixture
def build(tf):
    """A function that builds a small network of three blocks and a head, its batch norms not trivial."""

    def build(seed: int = 0):
        layers = tf.keras.layers
        tf.keras.utils.set_random_seed(seed)
        x = image = tf.keras.Input((None, None, 3), name="image")
        x = layers.Rescaling(1 / 255, name="preprocess")(x)
        for block in ("block1", "block2a", "block2b"):
            x = layers.Conv2D(CHANNELS, 3, padding="same", name=f"{block}_conv")(x)
            x = layers.BatchNormalization(name=f"{block}_bn")(x)
            x = layers.ReLU(6, name=f"{block}_activation")(x)
        x = layers.GlobalAveragePooling2D(name="features")(x)
        backbone = tf.keras.Model(image, layers.Dense(10, activation="softmax", name="predictions")(x))
        for i, block in enumerate(("block1", "block2a", "block2b")):
            values = (1.5, 0.2, 0.3, 2.0 + i)
            backbone.get_layer(f"{block}_bn").set_weights([np.full(CHANNELS, v, np.float32) for v in values])
        return tf.training.attach_head(backbone, "features", KERNEL, BIAS)

    return build


@pytest.fixture
def data(tmp_path):
    """A function that gives cached activations of block1, with examples to train and to validate on."""

    def data(copies: int = 0, count: int = 16, noise: bool = False):
        rng = np.random.default_rng(0)
        train, validation = examples(0, count, copies), examples(count * (1 + copies), 8, 0)
        rows = validation.views.max() + 1
        array = rng.uniform(0, 1, (rows, 4, 4, CHANNELS)).astype(np.float16)
        for part in (train, validation):
            labels = rng.permutation(part.labels) if noise else part.labels
            array[part.views] += labels[:, None, None, None, None].astype(np.float16)
        return on_disk(tmp_path / "activations", array), train, validation

    return data


def weights_of(model) -> dict[str, np.ndarray]:
    return {variable.path: np.asarray(variable).copy() for variable in model.variables}


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {path for path in before if not np.array_equal(before[path], after[path])}


def train(tf, model, data, cut="block1_activation", **changes) -> tuple[int, list[dict[str, float]]]:
    """Fine-tune what lies behind the cut; return the best epoch and what was logged."""
    logged = []
    thawed = tf.training.thawed_part(model, cut)
    best = tf.training.fine_tune(thawed, *data, parameters(**changes), lambda scores: logged.append(dict(scores)))
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
    thawed = tf.training.thawed_part(model, "block2a_activation")
    thawed.get_layer("block2b_conv").bias.assign(np.full(CHANNELS, 7.0))
    assert (np.asarray(model.get_layer("block2b_conv").bias) == 7).all()
    assert tf.training.thawed_part(model, None) is model


def test_predictions_are_those_of_the_thawed_part_for_any_number_of_rows(tf, build, data):
    activations, *_ = data(count=150)
    thawed = tf.training.thawed_part(build(), "block1_activation")
    predict = tf.training.predictor(thawed, activations)
    rows = np.random.default_rng(0).permutation(len(activations))[:147]
    expected = thawed(np.asarray(activations)[rows].astype(np.float32), training=False)
    np.testing.assert_allclose(predict(rows), expected, rtol=1e-5)


# What moves


def test_only_what_lies_behind_the_cut_moves_and_no_statistics_do(tf, build, data):
    model = build()
    before = weights_of(model)
    train(tf, model, data())
    changed = moved(before, weights_of(model))
    assert changed == {path for path in before if not path.startswith("block1") and "moving" not in path}
    assert any("gamma" in path for path in changed)


def test_the_head_alone_moves_where_all_is_frozen(tf, build, tmp_path):
    model = build()
    before = weights_of(model)
    features = np.random.default_rng(0).uniform(0, 1, (24, CHANNELS)).astype(np.float16)
    train(tf, model, (on_disk(tmp_path / "f", features), examples(0, 16, 0), examples(16, 8, 0)), cut="features")
    assert moved(before, weights_of(model)) == {"probabilities/kernel", "probabilities/bias"}


def test_pixels_train_the_whole_network_where_nothing_is_frozen(tf, build, tmp_path):
    model = build()
    before = weights_of(model)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    best, logged = train(
        tf, model, (on_disk(tmp_path / "p", pixels), examples(0, 16, 0), examples(16, 8, 0)), cut=None, epochs=1,
        learning_rate=1e-3,
    )  # fmt: skip
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
    groups_and_step(tf, model, activations, rest[0], **changes)
    after = weights_of(model)
    return {path: float(np.abs(after[path] - before[path]).mean()) for path in moved(before, after)}


def groups_and_step(tf, model, activations, part, **changes):
    params = parameters(**changes)
    thawed = tf.training.thawed_part(model, "block1_activation")
    groups = tf.training.rate_groups(thawed, params.layer_decay)
    optimizers = [tf.training.adamw(v, params.learning_rate * factor, 100, params) for factor, v in groups]
    step = tf.training._training_step(thawed, activations, groups, optimizers)
    step(np.asarray(activations)[part.views[:, 0]], part.labels, np.ones(len(part.labels), np.float32))
    return groups


def test_blocks_are_grouped_from_the_head_down_with_their_factors(tf, build):
    groups = tf.training.rate_groups(tf.training.thawed_part(build(), "block1_activation"), 0.1)
    assert [(round(factor, 6), {v.path.split("_")[0].split("/")[0] for v in group}) for factor, group in groups] == [
        (1, {"probabilities"}), (0.1, {"block2b"}), (0.01, {"block2a"}),
    ]  # fmt: skip


def test_a_layer_with_a_tenth_of_the_rate_moves_a_tenth_as_far(tf, build, data):
    whole, tenth = (step_sizes(tf, build, data, layer_decay=decay) for decay in (1.0, 0.1))
    factors = {"probabilities": 1, "block2b": 0.1, "block2a": 0.01}
    assert whole.keys() == tenth.keys()
    for path in whole:
        expected = whole[path] * factors[path.split("/")[0].split("_")[0]]
        assert tenth[path] == pytest.approx(expected, rel=0.02), path


def test_weight_decay_pulls_at_kernels_and_spares_biases_and_norms(tf, build, data):
    plain, decayed = (step_sizes(tf, build, data, weight_decay=decay) for decay in (0.0, 0.9))
    differ = {path for path in plain if plain[path] != pytest.approx(decayed[path], rel=1e-5)}
    assert differ == {path for path in plain if path.endswith("kernel")}


def test_the_rate_rises_over_the_warm_up_and_falls_to_nothing(tf):
    variable = tf.keras.Variable(np.zeros((2, 2), np.float32))
    optimizer = tf.training.adamw([variable], 0.5, 10, parameters(epochs=5, warmup_epochs=2.0))
    rates = []
    for _ in range(50):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([np.ones((2, 2), np.float32)], [variable])
    np.testing.assert_allclose(np.diff(rates[:20]), 0.5 / 20, rtol=1e-3)
    assert rates[20] == pytest.approx(0.5)
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[35] == pytest.approx(0.25, rel=1e-3)
    assert rates[-1] < 0.01


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
    assert best == int(np.argmin(losses))
    assert 0 < best < len(losses) - 1
    predict = tf.training.predictor(tf.training.thawed_part(model, "block1_activation"), activations)
    p = predict(validation.views[:, 0])
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


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_patience_ends(tf, build, data, patience):
    best, logged = train(tf, build(), data(noise=True), epochs=40, learning_rate=0.05, patience=patience)
    assert len(logged) == best + patience + 1
    assert len(logged) < 41


def test_every_epoch_and_the_start_are_logged(tf, build, data):
    _, logged = train(tf, build(), data(), epochs=3)
    assert len(logged) == 4
    assert "train_loss" not in logged[0]
    for scores in logged[1:]:
        assert set(scores) == {"validation_loss", "validation_accuracy_weighted", "train_loss"}


# Which views and weights


def rows_of_epochs(activations: Recorded, part: Examples) -> list[np.ndarray]:
    """The training rows that were read, an array an epoch."""
    read = np.concatenate([rows for rows in activations.read if np.isin(rows, part.views).all()])
    return np.split(read, len(read) // len(part.labels))


def test_an_epoch_shows_every_photograph_once(tf, build, data):
    activations, part, validation = data(copies=2)
    train(tf, build(), (activations, part, validation), epochs=3)
    epochs = rows_of_epochs(activations, part)
    assert len(epochs) == 3
    for rows in epochs:
        assert sorted(rows // 3) == list(range(16))


def test_as_many_epochs_as_views_show_them_all(tf, build, data):
    activations, part, validation = data(copies=2)
    train(tf, build(), (activations, part, validation), epochs=3)
    assert sorted(np.concatenate(rows_of_epochs(activations, part))) == list(range(48))


def test_photographs_begin_with_different_views_in_an_order_that_changes(tf, build, data):
    activations, part, validation = data(copies=2)
    train(tf, build(), (activations, part, validation), epochs=2)
    first, second = rows_of_epochs(activations, part)
    assert set(first % 3) == {0, 1, 2}
    assert (first // 3).tolist() != (second // 3).tolist()


def test_validation_sees_the_plain_photographs(tf, build, data):
    activations, part, validation = data(copies=2)
    train(tf, build(), (activations, part, validation), epochs=1)
    read = [rows for rows in activations.read if not np.isin(rows, part.views).any()]
    assert all(rows.tolist() == validation.views[:, 0].tolist() for rows in read)


def test_a_photograph_without_weight_does_not_count(tf, build, data, tmp_path):
    activations, part, validation = data()
    weightless = examples(0, 16, 0, weights=[1] * 14 + [0, 0])
    other = np.asarray(activations).copy()
    other[14:16] = 9  # what the photographs without weight show is another thing altogether
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


# Twice the same


def test_two_runs_give_the_same_bytes_and_another_seed_gives_others(tf, build, data):
    models = build(), build(), build()
    activations = data(copies=2)
    for model, seed in zip(models, (1, 1, 2), strict=True):
        train(tf, model, activations, epochs=2, learning_rate=0.003, seed=seed)
    one, two, other = map(weights_of, models)
    assert not moved(one, two)
    assert moved(one, other)
