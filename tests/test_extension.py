"""More classes for a model that has some: the old ones stay as they are, the new ones are learnt, both are measured."""

import numpy as np
import pytest

from thaw import extension, heads
from thaw.errors import ThawError
from thaw.extension import KEEP, ExtendedHead, fit_path
from thaw.heads import LinearHead

CHANNELS = 6
OLD = ("cat", "dog", "llama")
NEW = ("alpaca", "not alpaca")


@pytest.fixture
def known() -> LinearHead:
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(0, 1, (CHANNELS, 3)).astype(np.float32), rng.normal(0, 0.1, 3).astype(np.float32)
    return LinearHead(kernel, bias, OLD, 0.0)


def photographs(count: int = 80, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels: alpacas lie far along the first channel."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    features = rng.normal(0, 1, (count, CHANNELS))
    features[labels == 0, 0] += 10
    return features.astype(np.float32), labels


def extend(known, classes=NEW, strengths=(1.0,), data=None, weights=None) -> list[ExtendedHead]:
    features, labels = data or photographs()
    weights = np.ones(len(labels)) if weights is None else weights
    return list(fit_path(features, labels, weights, classes, strengths, known))


# The fit


def test_the_old_rows_stay_to_the_bit(known):
    (head,) = extend(known)
    assert head.outputs == (*OLD, "alpaca")
    np.testing.assert_array_equal(head.whole.kernel[:, :3], known.kernel)
    np.testing.assert_array_equal(head.whole.bias[:3], known.bias)


def test_new_photographs_get_the_new_answer_and_others_the_old_one(known):
    (head,) = extend(known)
    features, labels = photographs(seed=2)
    answers, before = head.whole.probabilities(features).argmax(1), known.probabilities(features).argmax(1)
    assert (answers == 3)[labels == 0].mean() > 0.95
    assert (answers == before)[labels == 1].mean() > 0.95


def loss(rows: LinearHead, features, labels, strength: float) -> float:
    """What is minimised, written down anew for one new class: its logit against the largest of the old ones."""
    logits = features.astype(np.float64) @ rows.kernel + rows.bias
    margin = np.where(labels == 0, 1, -1) * (logits[:, -1] - logits[:, :-1].max(axis=1))
    weights = np.where(labels == 0, 1, KEEP)
    deviation = np.average(features, axis=0, weights=np.ones(len(features))) - features
    scale = np.sqrt((deviation.astype(np.float64) ** 2).mean(axis=0))
    return (weights * np.log1p(np.exp(-margin))).sum() + ((rows.kernel[:, -1] * scale) ** 2).sum() / (2 * strength)


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_no_other_new_rows_are_better(known, strength):
    (head,) = extend(known, strengths=[strength])
    data = photographs()
    best = loss(head.whole, *data, strength)
    rng = np.random.default_rng(3)
    for _ in range(20):
        step = rng.normal(0, 0.02, CHANNELS + 1)
        kernel, bias = head.whole.kernel.astype(np.float64), head.whole.bias.astype(np.float64)
        kernel[:, -1] += step[:-1]
        bias[-1] += step[-1]
        assert loss(LinearHead(kernel, bias, head.outputs, strength), *data, strength) > best


def test_strengths_are_tried_in_ascending_order(known):
    norms = [np.linalg.norm(head.whole.kernel[:, -1]) for head in extend(known, strengths=[1.0, 1e-4, 1e-2])]
    assert norms == sorted(norms)
    assert [head.strength for head in extend(known, strengths=[1.0, 1e-2])] == [1e-2, 1.0]


def test_a_photograph_that_weighs_nothing_changes_nothing(known):
    features, labels = photographs()
    weights = np.ones(len(labels))
    weights[:4] = 0
    (head,) = extend(known, data=(features, labels), weights=weights)
    labels[:4] = 1 - labels[:4]
    (other,) = extend(known, data=(features, labels), weights=weights)
    np.testing.assert_array_equal(head.whole.kernel, other.whole.kernel)


def test_several_classes_are_added_at_once(known):
    rng = np.random.default_rng(4)
    labels = np.arange(120) % 3
    features = rng.normal(0, 1, (120, CHANNELS)).astype(np.float32)
    features[labels == 0, 0] += 10
    features[labels == 2, 1] += 10
    (head,) = extend(known, ("alpaca", "not new", "vicuna"), data=(features, labels))
    assert head.outputs == (*OLD, "alpaca", "vicuna")
    answers = head.whole.probabilities(features).argmax(1)
    assert (answers == 3)[labels == 0].mean() > 0.95
    assert (answers == 4)[labels == 2].mean() > 0.95


def test_an_extended_model_is_extended_again(known):
    (first,) = extend(known)
    features, labels = photographs(seed=5)
    features = np.roll(features, 1, axis=1)  # the next class lies far along the second channel
    (second,) = extend(first.whole, ("not vicuna", "vicuna"), data=(features, 1 - labels))
    assert second.outputs == (*OLD, "alpaca", "vicuna")
    np.testing.assert_array_equal(second.whole.kernel[:, :4], first.whole.kernel)
    assert (second.whole.probabilities(features).argmax(1) == 4)[labels == 0].mean() > 0.95


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("Llama", "not Llama"), "has a class 'llama' already"),
        (("alpaca", "vicuna"), "under one label that begins with 'not '"),
        (("not alpaca", "not vicuna"), "under one label that begins with 'not '"),
    ],
)
def test_labels_that_cannot_extend_a_model_are_one_line(known, classes, message):
    with pytest.raises(ThawError, match=message):
        extend(known, classes)


# The head


@pytest.fixture
def head(known) -> ExtendedHead:
    return extend(known)[0]


def test_probabilities_are_those_of_the_labels(head):
    features, _ = photographs()
    whole = head.whole.probabilities(features)
    labels = np.stack([whole[:, 3], whole[:, :3].max(1)], axis=1)
    np.testing.assert_allclose(head.probabilities(features), labels / labels.sum(1, keepdims=True))


def test_the_likeliest_label_is_that_of_the_models_own_answer(head):
    probabilities = np.array([[0.3, 0.3, 0, 0.4], [0.45, 0.1, 0.05, 0.4], [0.2, 0.2, 0.2, 0.4]])
    assert head.collapse(probabilities).argmax(axis=1).tolist() == [0, 1, 0]  # alpaca, not alpaca, alpaca
    np.testing.assert_allclose(head.collapse(probabilities).sum(axis=1), 1)


def test_a_label_without_a_new_class_stands_for_the_likeliest_old_one(head):
    probabilities = np.array([[0.1, 0.5, 0.2, 0.2], [0.3, 0.1, 0.2, 0.4], [0.1, 0.1, 0.7, 0.1]])
    assert head.stand_ins(np.array([1, 1, 0]), probabilities).tolist() == [1, 0, 3]


def test_what_the_model_said_before_is_what_it_said(head, known):
    features, _ = photographs()
    np.testing.assert_allclose(head.before(features), known.probabilities(features), rtol=1e-12)


def test_scores_count_agreement_and_new_answers(head):
    labels = np.array([1, 1, 1, 1, 0, 0])
    before = np.eye(3)[[0, 1, 2, 0, 2, 2]]
    after = np.eye(4)[[0, 1, 2, 3, 3, 2]]  # of four without an alpaca one is lost, of two alpacas one is found
    scores = head.scores(after, before, labels)
    assert scores["agreement"] == 0.75
    assert scores["agreement_low"] < 0.75 < scores["agreement_high"]
    assert (scores["accuracy_before"], scores["accuracy_after"]) == (0, 0.5)
    assert (scores["without_new"], scores["with_new"]) == (4, 2)


def test_scores_of_nothing_are_none(head):
    scores = head.scores(np.eye(4)[[0]], np.eye(3)[[0]], np.array([1]))
    assert scores["accuracy_after"] is scores["accuracy_after_low"] is None


def test_a_head_is_read_as_it_was_written(head, tmp_path):
    head.save(tmp_path / "head")
    again = heads.load(tmp_path / "head")
    features, _ = photographs()
    assert isinstance(again, ExtendedHead)
    assert (again.outputs, again.classes, again.known) == (head.outputs, head.classes, 3)
    np.testing.assert_array_equal(again.probabilities(features), head.probabilities(features))


# The model that is extended


@pytest.fixture(scope="module")
def keras():
    from thaw.keras import keras

    return keras


def write(keras, folder, last=None, seed: int = 0, name: str = "conv", classes=OLD, pool="Average"):
    """Write a small network, with a last layer where there is one, as the backbone is."""
    from thaw import models

    keras.utils.set_random_seed(seed)
    x = image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(CHANNELS, 3, name=name)(x)
    x = getattr(keras.layers, f"Global{pool}Pooling2D")(name="features")(x)
    model = keras.Model(image, last(x) if last else x, name="Net")
    folder.mkdir(exist_ok=True)
    models.save(model, folder / "backbone.keras", {"class_names": classes} if last else {})
    return model


def dense(keras, classes: int = 3):
    return keras.layers.Dense(classes, activation="softmax", name="predictions")


def test_the_rows_of_the_backbone_are_found(keras, tmp_path):
    model = write(keras, tmp_path, dense(keras))
    known = extension.known_head(True, tmp_path)
    np.testing.assert_array_equal(known.kernel, model.layers[-1].get_weights()[0])
    assert known.classes == OLD


def test_names_that_come_twice_are_told_apart(keras, tmp_path):
    write(keras, tmp_path, dense(keras, 4), classes=("crane", "maillot", "crane", "crane"))
    assert extension.known_head(True, tmp_path).classes == ("crane", "maillot", "crane (2)", "crane (3)")


def test_a_backbone_without_classes_cannot_be_extended(keras, tmp_path):
    write(keras, tmp_path)
    with pytest.raises(ThawError, match="comes without its classes"):
        extension.known_head(True, tmp_path)


def test_an_extended_model_gives_its_rows_and_answers_with_all(keras, tmp_path, head):
    from thaw import models

    backbone = write(keras, tmp_path, dense(keras))
    path = tmp_path / "model.keras"
    model = head.attach(backbone, "features")
    models.save(model, path, {"class_names": head.outputs})
    known = extension.known_head(str(path), tmp_path)
    assert known.classes == head.outputs
    np.testing.assert_array_equal(known.kernel, head.whole.kernel)
    assert model.output.shape[-1] == 4


def test_a_model_with_other_weights_says_what_to_do(keras, tmp_path):
    write(keras, tmp_path, dense(keras))
    write(keras, tmp_path / "other", dense(keras), seed=1)
    with pytest.raises(ThawError, match=r"was fine-tuned, from conv on: set backbone\.weights to it as well"):
        extension.known_head(str(tmp_path / "other" / "backbone.keras"), tmp_path)


def test_a_model_of_another_backbone_is_refused(keras, tmp_path):
    write(keras, tmp_path, dense(keras))
    write(keras, tmp_path / "other", dense(keras), name="elsewhere")
    with pytest.raises(ThawError, match="is of another backbone: it has no layer conv"):
        extension.known_head(str(tmp_path / "other" / "backbone.keras"), tmp_path)


def test_a_model_that_pools_otherwise_is_refused(keras, tmp_path):
    write(keras, tmp_path, dense(keras), pool="Max")
    write(keras, tmp_path / "other", dense(keras))
    with pytest.raises(ThawError, match=r"another backbone\.pooling: it has GlobalAveragePooling2D, and not GlobalMax"):
        extension.known_head(str(tmp_path / "other" / "backbone.keras"), tmp_path)


def test_a_model_with_more_layers_is_refused(keras, tmp_path):
    """As one on the whole of a network is where `backbone.cut` keeps a part of it."""
    from thaw import models

    model = write(keras, tmp_path, dense(keras))
    x = keras.layers.Conv2D(CHANNELS, 1, name="more")(model.get_layer("conv").output)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    longer = keras.Model(model.input, dense(keras)(x))
    models.save(longer, tmp_path / "longer.keras", {"class_names": OLD})
    with pytest.raises(ThawError, match="is of another backbone: it has a layer more"):
        extension.known_head(str(tmp_path / "longer.keras"), tmp_path)


def test_a_model_may_lie_at_home(keras, tmp_path, monkeypatch):
    write(keras, tmp_path, dense(keras))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert extension.known_head("~/backbone.keras", tmp_path).classes == OLD


def test_a_missing_model_is_one_line(keras, tmp_path):
    write(keras, tmp_path, dense(keras))
    with pytest.raises(ThawError, match=r"gone\.keras is missing") as refused:
        extension.known_head(str(tmp_path / "gone.keras"), tmp_path)
    assert "dvc" not in str(refused.value), "it is the person's file, which no stage writes"


def test_a_model_that_thaw_trained_is_a_backbone(keras, tmp_path):
    """So one that was fine-tuned can be extended: its own layers give the features."""
    from thaw import models
    from thaw.backbones import registry

    network, _ = registry.build("EfficientNetLite0", None, 1)
    model = LinearHead(np.zeros((1280, 2), np.float32), np.zeros(2, np.float32), ("a", "b"), 1.0)
    path = str(tmp_path / "model.keras")
    models.save(model.attach(network, "features"), tmp_path / "model.keras", {"class_names": ["a"], "fine_tune": {}})
    built, behind = registry.build("EfficientNetLite0", path, 2)
    assert behind == []
    assert built.layers[-1].name == "features"
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    features = keras.Model(network.input, network.get_layer("features").output)
    np.testing.assert_array_equal(built(pixels, training=False), features(pixels, training=False))
    with pytest.raises(ThawError, match=r"is of EfficientNetLite0, backbone\.name is EfficientNetLite1"):
        registry.build("EfficientNetLite1", path, 2)
    with pytest.raises(ThawError, match=r"set backbone\.cut to null"):
        registry.build("EfficientNetLite0", path, 2, "block3")
    with pytest.raises(ThawError, match=r"trained with another backbone\.pooling than max"):
        registry.build("EfficientNetLite0", path, 2, None, "max")
