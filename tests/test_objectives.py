"""What a training of several labels minimises: masked losses against a count by hand, and a network that learns."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_label_pairs import CLASSES, VALUES, WEIGHTS, P, data, examples
from test_network import parameters

from thaw.core.label_values import PRESENT, UNKNOWN
from thaw.features import label_pairs
from thaw.features.examples import MIN_PROBABILITY
from thaw.heads import registry
from thaw.training import temperatures


@pytest.fixture(scope="module")
def tf():
    from thaw.engines.keras_setup import keras
    from thaw.engines.tensorflow_setup import tf
    from thaw.training import loop, objectives

    return SimpleNamespace(keras=keras, tf=tf, loop=loop, objectives=objectives)


def objective(tf, **changes):
    return tf.objectives.SeveralLabels(SimpleNamespace(**{"label_smoothing": 0.0, "focusing": None} | changes))


def gradient(tf, goal, targets, weights, p):
    p = tf.tf.constant(p, tf.tf.float32)
    with tf.tf.GradientTape() as tape:
        tape.watch(p)
        loss = tf.tf.reduce_sum(weights * goal.losses(tf.tf.constant(targets), p))
    return float(loss), tape.gradient(loss, p).numpy()


def test_unknown_pairs_have_no_loss_and_no_gradient_and_the_others_those_of_the_cross_entropy(tf):
    images = examples(VALUES, WEIGHTS)
    goal = objective(tf)
    targets, weights = goal.targets(images), goal.weights(images, None)
    loss, slopes = gradient(tf, goal, targets, weights, P)
    expected = label_pairs.training_weights(images, None) * label_pairs.losses(P, images)
    assert loss == pytest.approx(expected.sum(), rel=1e-6)
    known = VALUES != UNKNOWN
    inside = known & (P > 0)
    by_hand = np.where(VALUES == PRESENT, -1 / P.clip(1e-9), 1 / (1 - P)) * label_pairs.training_weights(images, None)
    np.testing.assert_allclose(slopes[inside], by_hand[inside], rtol=1e-5)
    assert not slopes[~known].any() and np.isfinite(slopes).all()


def test_smoothed_labels_move_towards_one_half(tf):
    images = examples(VALUES, WEIGHTS)
    goal = objective(tf, label_smoothing=0.2)
    targets = goal.targets(images)
    losses = goal.losses(tf.tf.constant(targets), tf.tf.constant(P, tf.tf.float32)).numpy()
    smooth, p = np.where(targets == 1, 0.9, 0.1), P.clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    np.testing.assert_allclose(losses, -(smooth * np.log(p) + (1 - smooth) * np.log(1 - p)), rtol=1e-5)


def test_focusing_lowers_the_loss_of_absent_classes_by_their_probability_and_leaves_present_ones(tf):
    images = examples(VALUES, WEIGHTS)
    goal = objective(tf, focusing=2.0)
    losses = goal.losses(tf.tf.constant(goal.targets(images)), tf.tf.constant(P, tf.tf.float32)).numpy()
    shifted = (P - tf.objectives.MARGIN).clip(MIN_PROBABILITY)
    expected = np.where(VALUES == PRESENT, -np.log(P.clip(MIN_PROBABILITY)), -np.log(1 - shifted) * shifted**2)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-12)


def test_the_scores_of_an_epoch_count_known_pairs_at_the_best_temperature_of_each_class(tf):
    values = VALUES.copy()
    values[1, 0] = PRESENT  # at 0.001: the model is too sure of its cats
    images, sure = examples(values, WEIGHTS), P.copy()
    sure[1, 0] = 0.001
    scores = tf.loop.validation_scores(sure.astype(np.float32), images)
    loss, accuracy = label_pairs.weighted_scores(sure, images)
    assert scores["validation_loss"] == pytest.approx(loss, rel=1e-6)
    assert scores["validation_accuracy_weighted"] == pytest.approx(accuracy)
    clipped = sure.astype(np.float32).astype(float).clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    best = temperatures.apply(clipped, temperatures.fit(clipped, values, WEIGHTS, min_temperature=1.0))
    assert scores["validation_loss_calibrated"] == pytest.approx(label_pairs.weighted_scores(best, images)[0], rel=1e-6)
    assert scores["validation_loss_calibrated"] < scores["validation_loss"]


def test_a_network_head_learns_several_labels_and_comes_back_from_its_file(tf, tmp_path):
    given = data()
    logged = []
    chosen = parameters(epochs=25, hidden=[8], output="softmax", dropout=0.0)
    (trained,) = registry.train(chosen, given, lambda *row: logged.append(row[2]))
    assert trained.head.task == "multi" and trained.head.description["kind"] == "network_multi"
    assert trained.loss < 0.95 * logged[0]["validation_loss_calibrated"]
    assert trained.losses.shape == (40,) and logged[1]["train_loss"] > 0
    trained.head.save(tmp_path / "head")
    loaded = registry.load(tmp_path / "head")
    x = given.features[:9]
    p = loaded.probabilities(x)
    np.testing.assert_array_equal(p, trained.head.probabilities(x))
    assert loaded.classes == CLASSES and (abs(p.sum(axis=1) - 1) > 1e-3).any()  # each class by itself


def test_fine_tuning_moves_nothing_by_what_is_unknown(tf, tmp_path):
    """Two trainings that differ in the features of an image alone of which nothing is known: the same bytes."""
    weights = []
    given = data()
    train = given.training["plain"]
    values = train.values.copy()
    values[3] = UNKNOWN
    train = type(train)(
        **train.__dict__ | {"values": values, "value_weights": np.where(values < 0, 0, train.value_weights)}
    )
    for number in (1.0, 2.0):
        features = given.features.copy()
        features[train.rows[3]] = number
        model = registry.train(SimpleNamespace(kind="linear", extend=None, strengths=[0.1], class_weight=None),
                               given, lambda *_: None)[0].head  # fmt: skip
        image = tf.keras.Input((5,), name="features")
        backbone = tf.keras.Model(image, tf.keras.layers.Identity(name="identity")(image))
        network = model.attach(backbone, "identity")
        inputs = tf.loop.TrainingData(features, train, given.validation, "identity", ("identity",), 2)
        tf.loop.fit(network, inputs, parameters(epochs=2, batch_size=16), lambda scores: None)
        weights.append(network.get_weights())
    before = [model.kernel, model.bias]
    assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))
    assert not np.array_equal(weights[0][0], before[0])
