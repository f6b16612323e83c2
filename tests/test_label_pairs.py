"""Several labels: losses and weights against a count by hand, and heads against scikit-learn, class by class."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dependencies import SRC
from sklearn.linear_model import LogisticRegression

from thaw.core.errors import ThawError
from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN, as_text, lacking, read
from thaw.features import label_pairs
from thaw.features.examples import Examples
from thaw.heads import linear_multi, registry
from thaw.heads.protocol import HeadData
from thaw.training import temperatures

CLASSES = ("cat", "dog", "emu")
VALUES = np.array([[1, 0, -1], [0, -1, 1], [1, 1, 0], [-1, 0, 0]], np.int8)
WEIGHTS = np.array([[1, 2, 0], [1, 0, 1], [0.5, 1, 1], [0, 1, 3]])
P = np.array([[0.9, 0.2, 0.5], [0.4, 0.6, 0.7], [0.3, 0.8, 0.1], [0.5, 0.6, 0.0]])


def examples(values: np.ndarray, weights: np.ndarray, splits: str | list[str] = "train", copies: int = 0) -> Examples:
    count = len(values)
    ids = np.array([f"{n:03}" for n in range(count)])
    views = np.arange(count * (1 + copies)).reshape(count, -1)
    splits = np.full(count, splits) if isinstance(splits, str) else np.array(splits)
    labels = np.zeros(count, int)
    return Examples(ids, splits, views, labels, np.ones(count), ids, values=values, value_weights=weights)


# What is counted


def test_the_loss_of_each_known_pair_is_counted_by_hand_and_an_unknown_one_is_nothing():
    images = examples(VALUES, WEIGHTS)
    each = label_pairs.losses(P, images)
    expected = -np.log([[0.9, 0.8, 1], [0.6, 1, 0.7], [0.3, 0.8, 0.9], [1, 0.4, 1]])
    np.testing.assert_allclose(each, expected, atol=1e-15)
    loss, accuracy = label_pairs.weighted_scores(P, images)
    right = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1]])
    assert loss == pytest.approx((WEIGHTS * expected).sum() / WEIGHTS.sum(), abs=1e-15)
    assert accuracy == pytest.approx((WEIGHTS * right).sum() / WEIGHTS.sum(), abs=1e-15)
    changed = np.where(VALUES == UNKNOWN, 0.123, P)
    assert label_pairs.weighted_scores(changed, images) == (loss, accuracy)


def test_weights_sum_to_the_images_and_balanced_ones_are_equal_where_a_class_is_present_and_absent():
    images = examples(VALUES, WEIGHTS)
    plain, balanced = (label_pairs.training_weights(images, kind) for kind in (None, "balanced"))
    np.testing.assert_allclose(plain, WEIGHTS * 4 / WEIGHTS.sum())
    assert balanced.sum() == pytest.approx(4) and not balanced[VALUES == UNKNOWN].any()
    sums = [np.where(value == VALUES, balanced, 0).sum(axis=0) for value in (PRESENT, ABSENT)]
    np.testing.assert_allclose(*sums)
    np.testing.assert_allclose(sums[0] + sums[1], plain.sum(axis=0))  # what a class has together stays


def test_a_class_that_cannot_be_learnt_or_validated_is_named():
    never = np.where(VALUES == PRESENT, UNKNOWN, VALUES)
    with pytest.raises(ThawError, match="is known to show the class 'cat': it cannot be learnt"):
        label_pairs.training_weights(examples(never, np.where(never == UNKNOWN, 0.0, 1.0)), None, CLASSES)
    with pytest.raises(ThawError, match="all labels of validation have the weight 0"):
        label_pairs.weighted_scores(P, examples(VALUES, 0 * WEIGHTS))
    assert list(lacking(VALUES[:2], WEIGHTS[:2], CLASSES)) == [("dog", "present"), ("emu", "absent")]


def test_one_class_alone_has_the_images_of_which_it_is_known():
    cat = label_pairs.of_class(examples(VALUES, WEIGHTS), 0)
    assert (cat.image_ids.tolist(), cat.labels.tolist(), cat.weights.tolist()) == (
        ["000", "001", "002"], [1, 0, 1], [1, 1, 0.5],
    )  # fmt: skip
    assert cat.values is None


def test_the_table_is_read_in_any_order_and_what_is_not_listed_is_unknown(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image_id,label,value,weight\nb,dog,1,0.5\na,cat,0,1\nz,cat,1,1\n")
    values, weights = read(path, ["a", "b"], ["cat", "dog"])
    assert values.tolist() == [[ABSENT, UNKNOWN], [UNKNOWN, PRESENT]] and weights.tolist() == [[1, 0], [0, 0.5]]
    with pytest.raises(ThawError, match="says nothing of the photograph c"):
        read(path, ["a", "c"], ["cat", "dog"])
    with pytest.raises(ThawError, match="has the class 'dog', which this run does not have"):
        read(path, ["a", "b"], ["cat"])
    path.write_text("image_id,label,value,weight\n")
    assert read(path, ["a", "b"], ["cat", "dog"]) is None
    assert (as_text(["emu", "cat"]), as_text([])) == ("cat + emu", "")


def test_the_temperature_of_a_class_comes_from_its_known_images_alone():
    rng = np.random.default_rng(1)
    values = rng.integers(-1, 2, (200, 2)).astype(np.int8)
    logits = rng.normal(0, 1, values.shape) + 2 * values
    p = 1 / (1 + np.exp(-logits * [1, 4]))  # the second class is too sure of itself
    weights = (values != UNKNOWN).astype(float)
    fitted = temperatures.fit(p, values, weights)
    assert fitted[1] == pytest.approx(4 * temperatures.fit(1 / (1 + np.exp(-logits)), values, weights)[1], rel=1e-6)
    calibrated = temperatures.apply(p, fitted)
    expected = 1 / (1 + np.exp(-logits * [1, 4] / fitted))
    np.testing.assert_allclose(calibrated, expected, atol=1e-9)
    unknown = np.where(values == UNKNOWN, 0.5, p)
    np.testing.assert_array_equal(temperatures.fit(unknown, values, weights), fitted)
    np.testing.assert_array_equal(temperatures.apply(p, np.ones(2)), p)


# The linear head


def data(copies: int = 0) -> HeadData:
    """Features that tell three classes apart, though not quite; a third of all pairs is unknown."""
    rng = np.random.default_rng(0)
    values = rng.integers(-1, 2, (120, 3)).astype(np.int8)
    features = rng.normal(0, 1, (120 * (1 + copies), 5))
    features += np.eye(3, 5)[np.arange(3)].T.dot((values == PRESENT).T).T.repeat(1 + copies, axis=0) * 2
    weights = np.where(values == UNKNOWN, 0, rng.integers(1, 4, values.shape)).astype(float)
    images = examples(values, weights, ["train"] * 80 + ["validation"] * 40, copies)
    training = {"plain": images.without_augmented_views().split("train")}
    if copies:
        training["augmented"] = images.split("train")
    features = (features * [1, 10, 0.1, 1, 1]).astype(np.float16)
    return HeadData(features, training, images.split("validation"), CLASSES, Path("models/backbone"))


def params(**changes) -> SimpleNamespace:
    values = {"kind": "linear", "extend": None, "strengths": [0.01, 1.0, 0.1], "class_weight": None}
    return SimpleNamespace(**values | changes)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_each_class_is_scikit_learns_regression_of_its_known_images_at_the_best_strength(class_weight):
    given = data()
    logged = []
    (trained,) = registry.train(params(class_weight=class_weight), given, lambda *row: logged.append(row))
    train, validation = given.training["plain"], given.validation
    x, unseen = given.features[train.rows].astype(float), given.features[validation.rows].astype(float)
    actual = trained.head.probabilities(given.features[validation.rows])
    for number in range(3):
        known, seen = train.values[:, number] != UNKNOWN, validation.values[:, number] != UNKNOWN
        weights, labels = train.value_weights[known, number], train.values[known, number]
        mean = np.average(x[known], axis=0, weights=weights)
        if class_weight:
            weights = weights / np.bincount(labels, weights)[labels]
            mean = np.average(x[known], axis=0, weights=weights)
        weights = weights / weights.mean()
        variance = np.average((x[known] - mean) ** 2, axis=0, weights=weights)
        scale = np.sqrt((variance + variance.mean()) / 2)
        fits = {}
        for strength in (0.01, 0.1, 1.0):
            model = LogisticRegression(C=strength, tol=1e-9, max_iter=10_000)
            model.fit((x[known] - mean) / scale, labels, sample_weight=weights)
            p = model.predict_proba((unseen - mean) / scale)
            likelihoods = p[seen][np.arange(seen.sum()), validation.values[seen, number]]
            loss = np.average(-np.log(likelihoods), weights=validation.value_weights[seen, number])
            fits[loss] = strength, p[:, 1]
        strength, expected = fits[min(fits)]
        assert trained.head.Cs[number] == strength
        np.testing.assert_allclose(actual[:, number], expected, atol=2e-3)
    assert trained.loss == pytest.approx(label_pairs.weighted_scores(actual, validation)[0])
    assert [row[:2] for row in logged] == [("plain", 0), ("plain", 1), ("plain", 2)]
    assert [row[2]["strength"] for row in logged] == [0.01, 0.1, 1.0]


def test_what_is_unknown_changes_nothing_and_another_label_does():
    given = data()
    train = given.training["plain"]
    first = registry.train(params(), given, lambda *_: None)[0].head.kernel
    noise = given.features.copy()
    only_unknown = (train.values == UNKNOWN).all(axis=1)
    noise[train.rows[only_unknown]] = 100
    assert only_unknown.any()
    other = replace(given, features=noise)
    np.testing.assert_array_equal(registry.train(params(), other, lambda *_: None)[0].head.kernel, first)
    values = train.values.copy()
    row = int(np.argmax(values[:, 1] == PRESENT))
    values[row, 1] = ABSENT
    changed = replace(given, training={"plain": replace(train, values=values)})
    kernel = registry.train(params(), changed, lambda *_: None)[0].head.kernel
    assert [np.array_equal(kernel[:, i], first[:, i]) for i in range(3)] == [True, False, True]


def test_augmented_copies_are_a_variant_of_their_own_and_share_the_weight_of_their_image():
    given = data(copies=2)
    trained = registry.train(params(strengths=[0.1]), given, lambda *_: None)
    assert [one.variant for one in trained] == ["plain", "augmented"]
    assert trained[0].losses.shape == (40,)
    np.testing.assert_allclose(
        trained[0].losses, label_pairs.losses(trained[0].head.probabilities(given.features[given.validation.rows]),
                                              given.validation).sum(axis=1)
    )  # fmt: skip


def test_the_head_is_saved_loaded_and_attached_with_sigmoids(tmp_path):
    from thaw.engines.keras_setup import keras

    given = data()
    head = registry.train(params(), given, lambda *_: None)[0].head
    head.save(tmp_path / "head")
    loaded = registry.load(tmp_path / "head")
    assert isinstance(loaded, linear_multi.LinearHead)
    assert (loaded.task, loaded.classes, loaded.Cs, loaded.outputs) == ("multi", CLASSES, head.Cs, CLASSES)
    x = given.features[:7].astype(np.float32)
    np.testing.assert_array_equal(loaded.probabilities(x), head.probabilities(x))
    image = keras.Input((5,), name="image")
    backbone = keras.Model(image, keras.layers.Identity(name="features")(image))
    np.testing.assert_allclose(loaded.attach(backbone, "features")(x), head.probabilities(x), atol=1e-6)
    assert (linear_multi.sigmoid(np.float32([[1000.0], [-1000.0]]), np.ones((1, 1)), 0) == [[1], [0]]).all()


@pytest.mark.parametrize("kind", ["linear_multi", "network_multi"])
def test_a_head_is_read_without_tensorflow(kind):
    """As the stage `evaluate` reads it."""
    code = "import sys; sys.modules['tensorflow'] = None; import thaw.engines.keras_without_tensorflow; "
    subprocess.run([sys.executable, "-c", f"{code}import thaw.heads.{kind}"], cwd=SRC, check=True)


def test_a_class_that_validation_does_not_know_to_be_absent_is_one_line():
    given = data()
    values = np.where(given.validation.values == ABSENT, UNKNOWN, given.validation.values)
    weights = np.where(values == UNKNOWN, 0, given.validation.value_weights)
    given = replace(given, validation=replace(given.validation, values=values, value_weights=weights))
    with pytest.raises(ThawError, match="no photograph of validation is known in which the class 'cat' is absent"):
        registry.train(params(), given, lambda *_: None)


def test_a_class_of_one_half_is_not_predicted():
    images = examples(np.array([[ABSENT], [PRESENT]], np.int8), np.array([[3.0], [1.0]]))
    assert label_pairs.weighted_scores(np.full((2, 1), 0.5), images)[1] == 0.75
