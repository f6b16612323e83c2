"""More classes for a model that has some: the old ones stay as they are, the new ones are learnt, both are measured."""

import numpy as np
import pytest
from conftest import ROOT

from thaw.core import params
from thaw.core.errors import ThawError
from thaw.evaluation.extension import extension_scores
from thaw.evaluation.metrics import wilson
from thaw.features.linear_probe import Samples
from thaw.heads import extended, registry
from thaw.heads.extended import NEGATIVE_WEIGHT, ExtendedHead, fit_path
from thaw.heads.linear import LinearHead

CHANNELS = 6
OLD = ("cat", "dog", "llama")
NEW = ("alpaca", "not alpaca")


@pytest.fixture
def old_head() -> LinearHead:
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(0, 1, (CHANNELS, 3)).astype(np.float32), rng.normal(0, 0.1, 3).astype(np.float32)
    return LinearHead(kernel, bias, OLD, 0.0)


def images(count: int = 80, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels: alpacas lie far along the first channel."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    features = rng.normal(0, 1, (count, CHANNELS))
    features[labels == 0, 0] += 10
    return features.astype(np.float32), labels


def extend(old_head, classes=NEW, Cs=(1.0,), data=None, weights=None) -> list[ExtendedHead]:  # noqa: N803
    features, labels = data or images()
    weights = np.ones(len(labels)) if weights is None else weights
    return list(fit_path(old_head, Samples(features, labels, weights), classes, Cs))


# The fit


def test_the_old_rows_stay_to_the_bit(old_head):
    (head,) = extend(old_head)
    assert head.outputs == (*OLD, "alpaca")
    np.testing.assert_array_equal(head.full_head.kernel[:, :3], old_head.kernel)
    np.testing.assert_array_equal(head.full_head.bias[:3], old_head.bias)


def test_new_images_get_the_new_prediction_and_others_the_old_one(old_head):
    (head,) = extend(old_head)
    features, labels = images(seed=2)
    answers, before = head.full_head.probabilities(features).argmax(1), old_head.probabilities(features).argmax(1)
    assert (answers == 3)[labels == 0].mean() > 0.95
    assert (answers == before)[labels == 1].mean() > 0.95


def loss(rows: LinearHead, features, labels, C: float) -> float:  # noqa: N803
    """What is minimised, written down anew for one new class: its logit against the largest of the old ones."""
    logits = features.astype(np.float64) @ rows.kernel + rows.bias
    margin = np.where(labels == 0, 1, -1) * (logits[:, -1] - logits[:, :-1].max(axis=1))
    weights = np.where(labels == 0, 1, NEGATIVE_WEIGHT)
    deviation = np.average(features, axis=0, weights=np.ones(len(features))) - features
    scale = np.sqrt((deviation.astype(np.float64) ** 2).mean(axis=0))
    return (weights * np.log1p(np.exp(-margin))).sum() + ((rows.kernel[:, -1] * scale) ** 2).sum() / (2 * C)


@pytest.mark.parametrize("C", [0.01, 1.0])
def test_no_other_new_rows_are_better(old_head, C):  # noqa: N803
    (head,) = extend(old_head, Cs=[C])
    data = images()
    best = loss(head.full_head, *data, C)
    rng = np.random.default_rng(3)
    for _ in range(20):
        step = rng.normal(0, 0.02, CHANNELS + 1)
        kernel, bias = head.full_head.kernel.astype(np.float64), head.full_head.bias.astype(np.float64)
        kernel[:, -1] += step[:-1]
        bias[-1] += step[-1]
        assert loss(LinearHead(kernel, bias, head.outputs, C), *data, C) > best


def test_cs_are_tried_in_ascending_order(old_head):
    norms = [np.linalg.norm(head.full_head.kernel[:, -1]) for head in extend(old_head, Cs=[1.0, 1e-4, 1e-2])]
    assert norms == sorted(norms)
    assert [head.C for head in extend(old_head, Cs=[1.0, 1e-2])] == [1e-2, 1.0]


def test_an_image_that_weighs_nothing_changes_nothing(old_head):
    features, labels = images()
    weights = np.ones(len(labels))
    weights[:4] = 0
    (head,) = extend(old_head, data=(features, labels), weights=weights)
    labels[:4] = 1 - labels[:4]
    (other,) = extend(old_head, data=(features, labels), weights=weights)
    np.testing.assert_array_equal(head.full_head.kernel, other.full_head.kernel)


def test_several_classes_are_added_at_once(old_head):
    rng = np.random.default_rng(4)
    labels = np.arange(120) % 3
    features = rng.normal(0, 1, (120, CHANNELS)).astype(np.float32)
    features[labels == 0, 0] += 10
    features[labels == 2, 1] += 10
    (head,) = extend(old_head, ("alpaca", "not new", "vicuna"), data=(features, labels))
    assert head.outputs == (*OLD, "alpaca", "vicuna")
    answers = head.full_head.probabilities(features).argmax(1)
    assert (answers == 3)[labels == 0].mean() > 0.95
    assert (answers == 4)[labels == 2].mean() > 0.95


def test_an_extended_model_is_extended_again(old_head):
    (first,) = extend(old_head)
    features, labels = images(seed=5)
    features = np.roll(features, 1, axis=1)  # the next class lies far along the second channel
    (second,) = extend(first.full_head, ("not vicuna", "vicuna"), data=(features, 1 - labels))
    assert second.outputs == (*OLD, "alpaca", "vicuna")
    np.testing.assert_array_equal(second.full_head.kernel[:, :4], first.full_head.kernel)
    assert (second.full_head.probabilities(features).argmax(1) == 4)[labels == 0].mean() > 0.95


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("Llama", "not Llama"), "has a class 'llama' already"),
        (("alpaca", "vicuna"), "under one label that begins with 'not '"),
        (("not alpaca", "not vicuna"), "under one label that begins with 'not '"),
    ],
)
def test_labels_that_cannot_extend_a_model_are_one_line(old_head, classes, message):
    with pytest.raises(ThawError, match=message):
        extend(old_head, classes)


# The head


@pytest.fixture
def head(old_head) -> ExtendedHead:
    return extend(old_head)[0]


def test_probabilities_are_those_of_the_labels(head):
    features, _ = images()
    p = head.full_head.probabilities(features)
    np.testing.assert_array_equal(head.output_probabilities(features), p)
    labels = np.stack([p[:, 3], p[:, :3].max(1)], axis=1)
    np.testing.assert_allclose(head.probabilities(features), labels / labels.sum(1, keepdims=True))


def test_the_likeliest_label_is_that_of_the_models_own_answer(head):
    probabilities = np.array([[0.3, 0.3, 0, 0.4], [0.45, 0.1, 0.05, 0.4], [0.2, 0.2, 0.2, 0.4]])
    assert head.label_probabilities(probabilities).argmax(axis=1).tolist() == [0, 1, 0]  # alpaca, not alpaca, alpaca
    np.testing.assert_allclose(head.label_probabilities(probabilities).sum(axis=1), 1)


def test_a_label_without_a_new_class_stands_for_the_likeliest_old_one(head):
    probabilities = np.array([[0.1, 0.5, 0.2, 0.2], [0.3, 0.1, 0.2, 0.4], [0.1, 0.1, 0.7, 0.1]])
    assert head.outputs_for_labels(np.array([1, 1, 0]), probabilities).tolist() == [1, 0, 3]


def test_what_the_model_said_before_is_what_it_said(head, old_head):
    features, _ = images()
    np.testing.assert_allclose(head.before(features), old_head.probabilities(features), rtol=1e-12)


def test_scores_count_agreement_and_new_answers(head):
    labels = np.array([1, 1, 1, 1, 0, 0])
    before = np.eye(3)[[0, 1, 2, 0, 2, 2]]
    after = np.eye(4)[[0, 1, 2, 3, 3, 2]]  # of four without an alpaca one is lost, of two alpacas one is found
    scores = extension_scores(head, after, before, labels, np.arange(6))
    assert scores["agreement"] == 0.75
    assert scores["agreement_low"] < 0.75 < scores["agreement_high"]
    assert (scores["accuracy_before"], scores["accuracy_after"]) == (0, 0.5)
    assert (scores["without_new"], scores["with_new"]) == (4, 2)


def test_the_intervals_of_scores_count_a_group_as_one_image(head):
    labels, after, before = np.array([1, 1, 1, 1, 0, 0]), np.eye(4)[[0, 1, 2, 3, 3, 2]], np.eye(3)[[0, 1, 2, 0, 2, 2]]
    scores = extension_scores(head, after, before, labels, np.array(["a", "a", "b", "b", "c", "c"]))
    assert (scores["agreement_low"], scores["agreement_high"]) == pytest.approx(wilson(0.75 * 2, 2))
    assert (scores["accuracy_after_low"], scores["accuracy_after_high"]) == pytest.approx(wilson(0.5, 1))


def test_scores_of_nothing_are_none(head):
    scores = extension_scores(head, np.eye(4)[[0]], np.eye(3)[[0]], np.array([1]), np.array(["a"]))
    assert scores["accuracy_after"] is scores["accuracy_after_low"] is None


def test_a_head_is_read_as_it_was_written(head, tmp_path):
    head.save(tmp_path / "head")
    again = registry.load(tmp_path / "head")
    features, _ = images()
    assert isinstance(again, ExtendedHead)
    assert (again.outputs, again.classes, again.old_count) == (head.outputs, head.classes, 3)
    np.testing.assert_array_equal(again.probabilities(features), head.probabilities(features))


# The model that is extended


@pytest.fixture(scope="module")
def keras():
    from thaw.engines.keras_setup import keras

    return keras


def write(keras, folder, last=None, seed: int = 0, name: str = "conv", classes=OLD, pool="Average"):
    """Write a small network, with a last layer where there is one, as the backbone is."""
    from thaw.engines import model_files

    keras.utils.set_random_seed(seed)
    x = image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(CHANNELS, 3, name=name)(x)
    x = getattr(keras.layers, f"Global{pool}Pooling2D")(name="features")(x)
    model = keras.Model(image, last(x) if last else x, name="Net")
    folder.mkdir(exist_ok=True)
    model_files.save(model, folder / "backbone.keras", {"class_names": classes} if last else {})
    return model


def dense(keras, classes: int = 3):
    return keras.layers.Dense(classes, activation="softmax", name="predictions")


def test_the_rows_of_the_backbone_are_found(keras, tmp_path):
    model = write(keras, tmp_path, dense(keras))
    old_head = extended.read_old_head(True, tmp_path)
    np.testing.assert_array_equal(old_head.kernel, model.layers[-1].get_weights()[0])
    assert old_head.classes == OLD


def test_names_that_come_twice_are_told_apart(keras, tmp_path):
    write(keras, tmp_path, dense(keras, 4), classes=("crane", "maillot", "crane", "crane"))
    assert extended.read_old_head(True, tmp_path).classes == ("crane", "maillot", "crane (2)", "crane (3)")


def test_a_backbone_without_classes_cannot_be_extended(keras, tmp_path):
    write(keras, tmp_path)
    with pytest.raises(ThawError, match="comes without its classes"):
        extended.read_old_head(True, tmp_path)


def test_an_extended_model_gives_its_rows_and_answers_with_all(keras, tmp_path, head):
    from thaw.engines import model_files

    backbone = write(keras, tmp_path, dense(keras))
    path = tmp_path / "model.keras"
    model = head.attach(backbone, "features")
    model_files.save(model, path, {"class_names": head.outputs})
    old_head = extended.read_old_head(str(path), tmp_path)
    assert old_head.classes == head.outputs
    np.testing.assert_array_equal(old_head.kernel, head.full_head.kernel)
    assert model.output.shape[-1] == 4


def test_a_model_with_other_weights_says_what_to_do(keras, tmp_path):
    write(keras, tmp_path, dense(keras))
    write(keras, tmp_path / "other", dense(keras), seed=1)
    with pytest.raises(ThawError, match=r"was fine-tuned, from conv on: set backbone\.weights to it as well"):
        extended.read_old_head(str(tmp_path / "other" / "backbone.keras"), tmp_path)


def test_a_model_of_several_labels_is_refused(keras, tmp_path):
    from thaw.engines import model_files

    model = write(keras, tmp_path, dense(keras))
    model_files.save(model, tmp_path / "several.keras", {"class_names": OLD, "task": "multi"})
    with pytest.raises(ThawError, match=r"several\.keras gives several labels: only a model of one label"):
        extended.read_old_head(str(tmp_path / "several.keras"), tmp_path)


def test_a_model_that_was_trained_on_other_views_is_refused():
    """As soon as it is known what `auto` is; what params.yaml says by itself, `fingerprints` refuses."""
    path, trained = ROOT / "params.yaml", {"size": 288, "resize": "pad"}
    params.check_extended(path, None, {"size": 224, "resize": "crop"})  # one without a record
    params.check_extended(path, trained, trained)
    for name, value in (("size", 224), ("resize", "crop")):
        with pytest.raises(
            ThawError, match=f"image.{name} {trained[name]}, and this run has {value}: set image.{name}"
        ):
            params.check_extended(path, trained, trained | {name: value})


def test_a_model_of_another_backbone_is_refused(keras, tmp_path):
    write(keras, tmp_path, dense(keras))
    write(keras, tmp_path / "other", dense(keras), name="elsewhere")
    with pytest.raises(ThawError, match="is of another backbone: it has no layer conv"):
        extended.read_old_head(str(tmp_path / "other" / "backbone.keras"), tmp_path)


def test_a_model_that_pools_otherwise_is_refused(keras, tmp_path):
    write(keras, tmp_path, dense(keras), pool="Max")
    write(keras, tmp_path / "other", dense(keras))
    with pytest.raises(ThawError, match=r"another backbone\.pooling: it has GlobalAveragePooling2D, and not GlobalMax"):
        extended.read_old_head(str(tmp_path / "other" / "backbone.keras"), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ({"kind": "avg"}, {"kind": "cls"}, "kind of its layer features is avg, not cls"),
        ({"scale": 1.0}, {"scale": 2.0}, "scale of its layer preprocess is 1.0, not 2.0"),
    ],
)
def test_a_model_whose_layers_without_weights_differ_is_refused(keras, tmp_path, old, new, message):
    from thaw.engines import model_files
    from thaw.engines.transformer_layers import TokenPooling, Tokens

    for values, name in ((old, "old.keras"), (new, "backbone.keras")):
        keras.utils.set_random_seed(1)
        image = keras.Input((None, None, 3), name="image")
        x = keras.layers.Rescaling(values.get("scale", 1.0), name="preprocess")(image)
        x = Tokens(1, name="tokens")(keras.layers.Conv2D(CHANNELS, 4, 4, name="conv")(x))
        x = TokenPooling(values.get("kind", "avg"), 1, name="features")(x)
        model_files.save(keras.Model(image, dense(keras)(x)), tmp_path / name, {"class_names": OLD})
    with pytest.raises(ThawError, match=message):
        extended.read_old_head(str(tmp_path / "old.keras"), tmp_path)


def test_a_model_with_more_layers_is_refused(keras, tmp_path):
    """As one on the whole of a network is where `backbone.cut` keeps a part of it."""
    from thaw.engines import model_files

    model = write(keras, tmp_path, dense(keras))
    x = keras.layers.Conv2D(CHANNELS, 1, name="more")(model.get_layer("conv").output)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    longer = keras.Model(model.input, dense(keras)(x))
    model_files.save(longer, tmp_path / "longer.keras", {"class_names": OLD})
    with pytest.raises(ThawError, match="is of another backbone: it has a layer more"):
        extended.read_old_head(str(tmp_path / "longer.keras"), tmp_path)


def test_a_model_may_lie_at_home(keras, tmp_path, monkeypatch):
    write(keras, tmp_path, dense(keras))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert extended.read_old_head("~/backbone.keras", tmp_path).classes == OLD


def test_a_missing_model_is_one_line(keras, tmp_path):
    write(keras, tmp_path, dense(keras))
    with pytest.raises(ThawError, match=r"gone\.keras is missing") as refused:
        extended.read_old_head(str(tmp_path / "gone.keras"), tmp_path)
    assert "dvc" not in str(refused.value), "it is the person's file, which no stage writes"


def test_a_model_that_thaw_trained_is_a_backbone(keras, tmp_path):
    """So one that was fine-tuned can be extended: its own layers give the features."""
    from thaw.backbones import building
    from thaw.engines import model_files

    network, _ = building.build("EfficientNetLite0", None, 1)
    model = LinearHead(np.zeros((1280, 2), np.float32), np.zeros(2, np.float32), ("a", "b"), 1.0)
    path = str(tmp_path / "model.keras")
    model_files.save(
        model.attach(network, "features"), tmp_path / "model.keras", {"class_names": ["a"], "fine_tune": {}}
    )
    built, behind = building.build("EfficientNetLite0", path, 2)
    assert behind == []
    assert built.layers[-1].name == "features"
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    features = keras.Model(network.input, network.get_layer("features").output)
    np.testing.assert_array_equal(built(pixels, training=False), features(pixels, training=False))
    with pytest.raises(ThawError, match=r"has the backbone EfficientNetLite0; backbone\.name is EfficientNetLite1"):
        building.build("EfficientNetLite1", path, 2)
    with pytest.raises(ThawError, match=r"set backbone\.cut to null"):
        building.build("EfficientNetLite0", path, 2, "block3")
    with pytest.raises(ThawError, match=r"trained with another backbone\.pooling than max"):
        building.build("EfficientNetLite0", path, 2, None, "max")
