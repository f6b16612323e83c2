"""A network head answers probabilities of features or maps, learns, and stands behind a backbone as it was trained."""

import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dependencies import SRC

from thaw.core.errors import ThawError
from thaw.features.examples import Examples
from thaw.heads import registry, selection
from thaw.heads.protocol import HeadData
from thaw.parameters.head import Head

CHANNELS = 6


def parameters(**changes) -> Head:
    defaults = {
        "kind": "network", "class_weight": None, "augmented": [False], "strengths": [1.0], "conv_blocks": [],
        "hidden": [8], "dropout": 0.2, "output": "softmax", "epochs": 3, "patience": 10, "batch_size": 8,
        "learning_rate": 0.01, "warmup_epochs": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0, "seed": 1,
        "focusing": None, "extend": None, "probes": ["logistic"],
    }  # fmt: skip
    return Head(**defaults | changes)


@pytest.fixture(scope="module")
def tf():
    from thaw.engines.keras_setup import keras
    from thaw.heads import network
    from thaw.training.loop import TrainingData

    return SimpleNamespace(keras=keras, head=network, TrainingData=TrainingData)


def names_of(network) -> list[str]:
    return [layer.name for layer in network.layers]


def data(tmp_path, shape: tuple[int, ...], classes: int = 2, copies: int = 1):
    """Features or maps of 24 images to train and 8 to validate on, on disk; the label shines through."""
    rng = np.random.default_rng(0)
    parts, first = [], 0
    for split, count, views in (("train", 24, 1 + copies), ("validation", 8, 1)):
        parts.append(
            Examples(
                image_ids=np.array([f"image-{i}" for i in range(count)]),
                splits=np.full(count, split),
                views=first + np.arange(count * views).reshape(count, views),
                labels=np.arange(count) % classes,
                weights=np.ones(count),
                groups=np.array([f"image-{i}" for i in range(count)]),
            )
        )
        first += count * views
    array = rng.uniform(0, 1, (first, *shape)).astype(np.float16)
    for part in parts:
        for views, label in zip(part.views, part.labels, strict=True):
            array[views, ..., 0] += 3 * label
    np.save(tmp_path / "features.npy", array)
    return np.load(tmp_path / "features.npy", mmap_mode="r"), *parts


def train(tf, tmp_path, shape=(CHANNELS,), classes=2, **changes):
    """Train a head; return it, its best epoch and what was logged."""
    given, logged = tf.TrainingData(*data(tmp_path, shape, classes)), []
    names = ("a", "b", "c")[:classes]
    head, best = tf.head.train_network(given, names, parameters(**changes), logged.append)
    return head, best, logged


# What is built


def test_a_head_on_maps_is_convolutions_then_pooling_then_hidden_layers(tf):
    network = tf.head.build((28, 28, CHANNELS), 3, parameters(conv_blocks=[4, 5], hidden=[7, 8]))
    assert names_of(network) == [
        "features", "conv1", "pool1", "conv2", "pool2", "pool", "dropout1", "hidden1", "dropout2", "hidden2",
        "dropout", "probabilities",
    ]  # fmt: skip
    assert [network.get_layer(name).output.shape[-1] for name in ("conv1", "conv2", "hidden1", "hidden2")] == [
        4,
        5,
        7,
        8,
    ]
    assert network.get_layer("conv1").kernel.shape[:2] == (3, 3)
    shapes = tf.keras.Model(network.input, [network.get_layer(name).output for name in ("pool1", "pool2", "pool")])
    assert [tuple(y.shape) for y in shapes(np.zeros((1, 28, 28, CHANNELS)))] == [(1, 14, 14, 4), (1, 7, 7, 5), (1, 5)]


@pytest.mark.parametrize("shape", [(CHANNELS,), (5, 5, CHANNELS)])
def test_empty_lists_leave_dropout_and_the_last_layer(tf, shape):
    network = tf.head.build(shape, 2, parameters(hidden=[]))
    pooling = ["pool"] if len(shape) == 3 else []
    assert names_of(network) == ["features", *pooling, "dropout", "probabilities"]
    assert network(np.ones((4, *shape))).shape == (4, 2)


def test_gradients_of_a_new_head_are_not_centred(tf, tmp_path, monkeypatch):
    """As they are in fine-tuning: here no fixed normalisation stands behind a layer."""
    from thaw.training import loop

    monkeypatch.setattr(loop, "centre", lambda gradient, axes: pytest.fail("centred") if axes else gradient)
    train(tf, tmp_path, epochs=1)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_map_may_be_smaller_than_its_poolings(tf, side):
    network = tf.head.build((side, side, CHANNELS), 2, parameters(conv_blocks=[4, 4, 4]))
    assert np.isfinite(network(np.ones((2, side, side, CHANNELS)))).all()


@pytest.mark.parametrize(("output", "classes"), [("softmax", 2), ("softmax", 3), ("sigmoid", 2)])
@pytest.mark.parametrize("shape", [(CHANNELS,), (4, 4, CHANNELS)])
def test_probabilities_are_one_a_class_and_sum_to_one(tf, output, classes, shape):
    network = tf.head.build(shape, classes, parameters(output=output))
    features = np.random.default_rng(0).normal(0, 3, (150, *shape)).astype(np.float16)
    raw = np.asarray(network(features.astype(np.float32)))
    np.testing.assert_allclose(raw.sum(axis=1), 1, atol=1e-6)
    actual = tf.head.NetworkHead(network, ("a", "b", "c")[:classes]).probabilities(features)
    assert actual.dtype == np.float64
    assert actual.shape == (150, classes)
    np.testing.assert_allclose(actual.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(actual, raw, atol=1e-6)


def test_a_sigmoid_is_a_single_logit_of_the_second_class(tf):
    network = tf.head.build((CHANNELS,), 2, parameters(output="sigmoid"))
    assert [tuple(w.shape) for w in network.get_layer("sigmoid").weights] == [(8, 1), (1,)]
    features = np.random.default_rng(0).normal(0, 1, (5, CHANNELS)).astype(np.float32)
    second = tf.keras.Model(network.input, network.get_layer("sigmoid").output)(features)
    np.testing.assert_allclose(network(features)[:, 1:], second)


def test_a_head_with_another_seed_begins_elsewhere(tf):
    one, two, other = (tf.head.build((CHANNELS,), 2, parameters(seed=seed)) for seed in (1, 1, 2))
    assert (one.get_layer("hidden1").kernel.numpy() == two.get_layer("hidden1").kernel.numpy()).all()
    assert (one.get_layer("hidden1").kernel.numpy() != other.get_layer("hidden1").kernel.numpy()).any()


def test_every_seed_is_one_that_evaluate_can_read(tf, tmp_path):
    """It loads the head without TensorFlow, on an engine whose seeds have 31 bits."""
    head = tf.head.NetworkHead(tf.head.build((CHANNELS,), 2, parameters(seed=2**32 - 1)), ("a", "b"))
    head.save(tmp_path / "head")
    code = (
        "import sys, thaw.engines.keras_without_tensorflow; from pathlib import Path; "
        "from thaw.heads import registry; registry.load(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "head"], cwd=SRC, check=True)


# What is trained


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("shape", "blocks"), [((CHANNELS,), []), ((6, 6, CHANNELS), [8])])
def test_a_head_learns(tf, tmp_path, output, shape, blocks):
    head, best, logged = train(tf, tmp_path, shape, output=output, conv_blocks=blocks, epochs=30)
    assert logged[best]["validation_loss"] < 0.7 * logged[0]["validation_loss"]
    features, _, validation = data(tmp_path, shape)
    p = head.probabilities(features[validation.rows])
    assert -np.log(p[np.arange(8), validation.labels]).mean() == pytest.approx(
        logged[best]["validation_loss"], rel=1e-5, abs=1e-6
    )


def test_a_head_is_compiled_once_for_each_shape_and_dtype_of_a_row(tf, monkeypatch):
    compiled, original = [], tf.head.predictor
    monkeypatch.setattr(tf.head, "predictor", lambda *given: compiled.append(given) or original(*given))
    head = tf.head.NetworkHead(tf.head.build((None, None, CHANNELS), 2, parameters()), ("a", "b"))
    maps = np.random.default_rng(0).uniform(0, 1, (6, 4, 4, CHANNELS)).astype(np.float16)
    blocks = [head.probabilities(maps[:3]), head.probabilities(maps[3:])]
    assert len(compiled) == 1
    np.testing.assert_array_equal(np.concatenate(blocks), head.probabilities(maps))
    np.testing.assert_allclose(head.probabilities(maps.astype(np.float32)), head.probabilities(maps), atol=1e-6)
    head.probabilities(np.ones((2, 5, 5, CHANNELS), np.float16))
    assert len(compiled) == 3


def test_probabilities_of_a_file_are_those_of_its_content(tf, tmp_path):
    head, *_ = train(tf, tmp_path, (4, 4, CHANNELS))
    features, *_ = data(tmp_path, (4, 4, CHANNELS))
    assert isinstance(features, np.memmap)
    np.testing.assert_array_equal(head.probabilities(features), head.probabilities(np.array(features)))


# What is saved


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_a_head_reads_back_as_it_was_saved(tf, tmp_path, output):
    head, *_ = train(tf, tmp_path, output=output)
    named = dataclasses.replace(head, classes=("é漢", 'a"b'))
    named.save(tmp_path / "head")
    loaded = registry.load(tmp_path / "head")
    features, *_ = data(tmp_path, (CHANNELS,))
    assert loaded.classes == named.classes
    assert loaded.probabilities(features).tobytes() == named.probabilities(features).tobytes()
    description = json.loads((tmp_path / "head" / "head.json").read_text())
    assert description == {"kind": "network", "classes": list(named.classes)}


def test_plain_keras_reads_the_file(tf, tmp_path):
    head, *_ = train(tf, tmp_path, (5, 5, CHANNELS), output="sigmoid", conv_blocks=[3])
    head.save(tmp_path / "head")
    with zipfile.ZipFile(tmp_path / "head" / "head.keras") as file:
        assert "thaw" not in file.read("config.json").decode()
    plain = tf.keras.saving.load_model(tmp_path / "head" / "head.keras")
    maps = np.random.default_rng(0).uniform(0, 1, (3, 9, 9, CHANNELS)).astype(np.float32)
    np.testing.assert_array_equal(plain(maps), head.network(maps))


def test_two_trainings_are_the_same_bytes(tf, tmp_path):
    for name in ("one", "two"):
        head, best, _ = train(tf, tmp_path, (4, 4, CHANNELS), conv_blocks=[4], dropout=0.5, label_smoothing=0.1)
        head.save(tmp_path / name)
    assert best > 0
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert set(one) == {"head.keras", "head.json"}


# Where it is attached


@pytest.mark.parametrize(("layer", "output"), [("features", "softmax"), ("map", "sigmoid")])
def test_a_head_stands_behind_the_layer_it_was_trained_on(tf, tmp_path, layer, output):
    layers = tf.keras.layers
    image = tf.keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(CHANNELS, 3, strides=2, name="map")(image)
    pooled = layers.GlobalAveragePooling2D(name="features")(x)
    backbone = tf.keras.Model(image, layers.Dense(10, name="predictions")(pooled), name="Backbone")
    pixels = np.random.default_rng(0).uniform(0, 1, (4, 9, 9, 3)).astype(np.float32)
    features = tf.keras.Model(image, backbone.get_layer(layer).output)(pixels).numpy()
    head, *_ = train(tf, tmp_path, features.shape[1:], output=output)
    model = head.attach(backbone, layer)
    assert (model.name, model.layers[-1].name) == ("Backbone", "head")
    np.testing.assert_allclose(model(pixels), head.probabilities(features), atol=1e-6)


def test_a_head_that_was_attached_and_saved_is_the_same_bytes(tf, tmp_path):
    from thaw.engines import model_files

    head, *_ = train(tf, tmp_path, output="sigmoid")
    head.save(tmp_path / "head")
    for name in ("one", "two"):
        image = tf.keras.Input((CHANNELS,), name="image")
        x = tf.keras.layers.Dense(CHANNELS, kernel_initializer="ones", name="features")(image)
        backbone = tf.keras.Model(image, tf.keras.layers.Dense(10, name="predictions")(x), name="Backbone")
        model_files.save(registry.load(tmp_path / "head").attach(backbone, "features"), tmp_path / f"{name}.keras", {})
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
    assert model_files.load(tmp_path / "one.keras")[0].layers[-1].name == "head"


# What goes wrong


def test_a_sigmoid_of_three_classes_is_one_line(tf):
    with pytest.raises(ThawError, match=r"`head\.output: sigmoid` needs two classes, but there are 3: set it to soft"):
        tf.head.build((CHANNELS,), 3, parameters(output="sigmoid"))


def test_convolutions_on_pooled_features_are_one_line(tf):
    with pytest.raises(ThawError, match=r"head\.conv_blocks needs maps, .* 6 channels: set backbone\.pooling to null"):
        tf.head.build((CHANNELS,), 2, parameters(conv_blocks=[64]))


def test_a_rate_far_too_high_is_one_line(tf, tmp_path):
    with pytest.raises(ThawError, match=r"head\.learning_rate, 1e\+30, is too high"):
        train(tf, tmp_path, learning_rate=1e30)


def test_of_two_networks_that_of_the_lower_calibrated_loss_is_kept(tf, monkeypatch):
    histories = {1: (0.4, 0.39), 2: (0.9, 0.3)}  # by the number of views: losses as they are, and calibrated

    def train_network(data, classes, params, log, kind):
        plain, calibrated = histories[data.train.views.shape[1]]
        accuracy = {"validation_accuracy_weighted": 0.5}
        log(accuracy | {"validation_loss": plain, "validation_loss_calibrated": calibrated})
        return tf.head.NetworkHead(tf.head.build((CHANNELS,), 2, parameters()), classes), 0

    monkeypatch.setattr(tf.head, "train_network", train_network)
    columns = dict.fromkeys(("image_ids", "labels", "weights", "groups"), np.zeros(3, int))
    images = Examples(splits=np.array(["train", "train", "validation"]), views=np.arange(6).reshape(3, 2), **columns)
    train = images.split("train")
    training = {"plain": train.without_augmented_views(), "augmented": train}
    logged = []
    trained = tf.head.train(
        parameters(),
        HeadData(np.zeros((6, CHANNELS)), training, images.split("validation"), ("a", "b"), Path("backbone")),
        lambda *given: logged.append(given[:2]),
    )
    assert logged == [("plain", 0), ("augmented", 0)]
    assert selection.best(trained).variant == "augmented"
    scores = selection.best_scores([trained])
    assert scores["plain"]["validation_loss"] == 0.4
    assert scores["augmented"]["validation_loss_calibrated"] == 0.3
