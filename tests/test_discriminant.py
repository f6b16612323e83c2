"""The linear discriminant: a closed form beside logistic regression, no surer of itself than validation bears out."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

from thaw.features import discriminant
from thaw.features.discriminant import calibrate, fit_path
from thaw.features.examples import Examples, losses, training_weights
from thaw.features.linear_probe import Samples, standardised
from thaw.heads import linear, registry
from thaw.heads.linear import DISCRIMINANT, LOGISTIC, LinearHead
from thaw.heads.protocol import HeadData, Setting

CLASSES = ("a", "b", "c")
CS = [1e-3, 1e-2, 1e-1, 1.0]


def draw(count: int, classes: int = 3, channels: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features that share one covariance, along which logistic regression goes astray, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    mixing = np.random.default_rng(99).normal(size=(channels, channels))
    features = rng.normal(size=(count, channels)) @ mixing + 5 * np.eye(classes, channels)[labels]
    return features.astype(np.float32), labels


def images(labels: np.ndarray, split: str = "validation", weights=None, groups=None) -> Examples:
    ids = np.arange(len(labels)).astype(str)
    weights = np.ones(len(labels)) if weights is None else weights
    return Examples(
        ids,
        np.full(len(labels), split),
        np.arange(len(labels))[:, None],
        labels,
        weights,
        ids if groups is None else groups,
    )


def samples(features, labels, weights=None) -> Samples:
    return Samples(features, labels, np.ones(len(labels)) if weights is None else weights)


def logits(fitted, features) -> np.ndarray:
    return features.astype(np.float64) @ fitted.kernel + fitted.bias


def differences(fitted, features) -> np.ndarray:
    """The logits less that of the first class, in units of their deviation: what does not depend on the factor."""
    values = logits(fitted, features)
    values = values - values[:, :1]
    return values / values.std()


def probabilities(fitted, features, factor=1.0) -> np.ndarray:
    return LinearHead(fitted.kernel * factor, fitted.bias * factor, CLASSES, 1.0).probabilities(features)


def head_data(count: int, setting=None, classes=CLASSES) -> tuple[HeadData, np.ndarray, np.ndarray]:
    """Training images, as many for validation, and 300 of which the head knows nothing."""
    train, labels = draw(count, len(classes))
    validation, validation_labels = draw(max(count, 30), len(classes), seed=1)
    features = np.concatenate([train, validation])
    held_out = images(validation_labels)
    held_out = replace(held_out, views=held_out.views + count)
    data = HeadData(features, {"plain": images(labels, "train")}, held_out, classes, Path("backbone"), setting)
    return data, *draw(300, len(classes), seed=2)


def train(data: HeadData, probes=(LOGISTIC, DISCRIMINANT)) -> list:
    params = SimpleNamespace(class_weight=None, strengths=CS, probes=list(probes))
    return linear.train(params, data, lambda *_: None)


def test_it_is_scikit_learns_discriminant():
    features, labels = draw(90)
    x, *_ = standardised(features, np.ones(90))
    (fitted,) = fit_path(samples(features, labels), [2.0])
    # There, the covariance keeps 1 - s and s of its mean variance is added: half as much as is kept, where s is 1/3.
    # Its logits are 2/3 of ours, where the classes' shares are equal.
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1 / 3).fit(x, labels).decision_function(x)
    expected = expected - expected[:, :1]
    np.testing.assert_allclose(differences(fitted, features), expected / expected.std(), atol=2e-3)


def test_however_much_it_is_shrunk_a_rare_class_is_found():
    """What is known of the classes' shares counts no more than the features."""
    labels = (np.arange(100) % 10 == 0).astype(int)
    features = np.random.default_rng(0).normal(size=(100, 8)) + 4 * np.eye(2, 8)[labels]
    for fitted in fit_path(samples(features.astype(np.float32), labels), discriminant.STRENGTHS):
        assert (logits(fitted, features).argmax(axis=1) == labels).mean() > 0.97


def test_without_limit_it_is_the_nearest_class_mean():
    features, labels = draw(60)
    x, *_ = standardised(features, np.ones(60))
    means = np.stack([x[labels == label].mean(axis=0) for label in range(3)])
    nearest = ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    (fitted,) = fit_path(samples(features, labels), [1e-6])
    assert (logits(fitted, features).argmax(axis=1) == nearest).all()


def test_a_weight_of_two_is_a_row_that_stands_twice():
    features, labels = draw(60)
    twice = np.concatenate([np.arange(60), np.arange(20)])
    (weighted,) = fit_path(samples(features, labels, np.where(np.arange(60) < 20, 2.0, 1.0)), [1.0])
    (repeated,) = fit_path(samples(features[twice], labels[twice]), [1.0])
    np.testing.assert_allclose(weighted.kernel, repeated.kernel, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(weighted.bias, repeated.bias, rtol=1e-3, atol=1e-4)


def test_balanced_classes_are_as_likely():
    """Of two classes that features do not tell apart, the frequent one is likelier, unless classes are balanced."""
    features = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    labels = (np.arange(200) % 10 == 0).astype(int)
    rare = []
    for class_weight in (None, "balanced"):
        weights = training_weights(images(labels, "train"), class_weight)
        (fitted,) = fit_path(samples(features, labels, weights), [0.01])
        rare.append((logits(fitted, features).argmax(axis=1) == 1).mean())
    assert rare[0] < 0.05 and 0.3 < rare[1] < 0.7


@pytest.mark.parametrize(
    ("count", "classes", "channels"), [(3, 3, 50), (2, 2, 5), (40, 20, 6), (30, 30, 3)], ids=str
)  # one image a class; fewer images than channels; more classes than channels
def test_few_images_and_many_classes_are_fitted(count, classes, channels):
    features, labels = draw(count, classes, channels)
    features = np.column_stack([features, np.full(count, 7.25, np.float32)])  # and a channel that never changes
    for fitted in fit_path(samples(features, labels), discriminant.STRENGTHS):
        assert np.isfinite(fitted.kernel).all() and np.isfinite(fitted.bias).all()
        assert fitted.kernel.shape == (channels + 1, classes)
        factor = calibrate(fitted, features, images(labels))
        assert np.isfinite(factor) and factor > 0
        assert np.isfinite(probabilities(fitted, features, factor)).all()


def test_features_that_are_all_equal_leave_the_classes_their_shares():
    labels = np.arange(40) % 4 // 3  # three to one
    for fitted in fit_path(samples(np.ones((40, 8), np.float32), labels), [1.0]):
        factor = calibrate(fitted, np.ones((40, 8), np.float32), images(labels))
        assert probabilities(fitted, np.ones((1, 8)), factor)[0] == pytest.approx([0.75, 0.25], abs=0.05)


@pytest.mark.parametrize("classes", [2, 3])
def test_one_image_a_class_that_is_right_does_not_make_it_sure(classes):
    """Without a doubt the loss on validation would fall for ever; sure and wrong answers cost most on new images."""
    features, labels = draw(30 * classes, classes)
    features += 20 * np.eye(classes, 20, dtype=np.float32)[labels]  # all are right
    (fitted,) = fit_path(samples(features, labels), [1.0])
    sure = []
    for each in (1, 10):
        few, few_labels = features[: each * classes], labels[: each * classes]
        factor = calibrate(fitted, few, images(few_labels))
        sure.append(probabilities(fitted, few, factor).max(axis=1).mean())
        # As sure as the share of right answers that one half right and one half wrong image make of these.
        assert sure[-1] == pytest.approx(1 - 0.5 / (each * classes + 1), abs=0.02)
    assert sure[0] < sure[1]


def test_near_duplicates_bear_out_no_more_than_one_image():
    features, labels = draw(60)
    features += 20 * np.eye(3, 20, dtype=np.float32)[labels]
    (fitted,) = fit_path(samples(features, labels), [1.0])
    once = calibrate(fitted, features[:3], images(labels[:3]))
    copies = calibrate(fitted, features[:3].repeat(9, axis=0), images(labels[:3].repeat(9), groups=np.arange(27) // 9))
    assert copies == pytest.approx(once)


def test_the_factor_has_the_lowest_loss_of_many_images():
    features, labels = draw(90)
    validation, validation_labels = draw(600, seed=1)
    (fitted,) = fit_path(samples(features, labels), [100.0])
    factor = calibrate(fitted, validation, images(validation_labels))
    best, weaker, stronger = (
        losses(probabilities(fitted, validation, f * factor), images(validation_labels)).mean() for f in (1, 0.8, 1.25)
    )
    assert best < min(weaker, stronger)


def test_images_of_weight_0_do_not_calibrate():
    features, labels = draw(90)
    (fitted,) = fit_path(samples(features, labels), [1.0])
    wrong = np.where(np.arange(90) < 45, labels, (labels + 1) % 3)
    weights = (np.arange(90) < 45).astype(float)
    alone = calibrate(fitted, features[:45], images(labels[:45]))
    assert calibrate(fitted, features, images(wrong, weights=weights)) == pytest.approx(alone)
    assert calibrate(fitted, features, images(labels, weights=np.zeros(90))) == 1


def test_the_number_of_threads_changes_no_bit():
    features, labels = draw(600, channels=300)
    bits = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            (fitted,) = fit_path(samples(features, labels), [1.0])
            bits.append((fitted.kernel.tobytes(), calibrate(fitted, features, images(labels))))
    assert bits[0] == bits[1] == bits[2]


# As candidates for the head


def test_it_is_kept_where_it_is_better():
    data, features, labels = head_data(60)
    trained = train(data)
    best = {
        p: min((t for t in trained if t.setting.candidate == p), key=lambda t: t.loss) for p in (LOGISTIC, DISCRIMINANT)
    }
    assert min(trained, key=lambda t: t.loss).setting.candidate == DISCRIMINANT
    test = {probe: losses(each.head.probabilities(features), images(labels)).mean() for probe, each in best.items()}
    assert test[DISCRIMINANT] < test[LOGISTIC]


def test_one_training_and_one_validation_image_of_each_class_give_a_head():
    features, labels = draw(6)
    validation = replace(images(labels[:3]), views=np.arange(3, 6)[:, None])
    data = HeadData(features, {"plain": images(labels[:3], "train")}, validation, CLASSES, Path("backbone"))
    trained = train(data)
    assert {each.setting.candidate for each in trained} == {LOGISTIC, DISCRIMINANT}
    for each in trained:
        probabilities = each.head.probabilities(draw(300, seed=2)[0])
        assert np.isfinite(each.loss) and probabilities.sum(axis=1) == pytest.approx(1)


def test_it_has_to_be_better_by_more_where_validation_is_small():
    data, *_ = head_data(60)
    for each in train(data, [DISCRIMINANT]):
        assert each.loss == pytest.approx(each.scores["validation_loss"] + 1 / 60)
    for each in train(data, [LOGISTIC]):
        assert each.loss == each.scores["validation_loss"]


def test_beside_logistic_regression_it_is_fitted_where_images_are_few(monkeypatch):
    data, *_ = head_data(60)
    monkeypatch.setattr(linear, "MAX_COMPARED", 19)  # there are 20 of each class
    assert {each.setting.candidate for each in train(data)} == {LOGISTIC}
    assert {each.setting.candidate for each in train(data, [DISCRIMINANT])} == {DISCRIMINANT}
    monkeypatch.setattr(linear, "MAX_COMPARED", 20)
    assert {each.setting.candidate for each in train(data)} == {LOGISTIC, DISCRIMINANT}


def test_a_setting_is_fitted_alone_and_gives_the_same_bytes():
    data, *_ = head_data(60)
    for chosen in train(data, [DISCRIMINANT])[::3]:
        again, *others = train(head_data(60, setting=chosen.setting)[0])
        assert not others and again.setting == chosen.setting
        assert again.head.kernel.tobytes() == chosen.head.kernel.tobytes()
        assert again.head.bias.tobytes() == chosen.head.bias.tobytes()


def test_a_setting_suits_more_images_than_it_was_chosen_with():
    """The head of all images takes its factor from the folds: it is no surer there than validation would make it."""
    chosen = min(train(head_data(60)[0], [DISCRIMINANT]), key=lambda t: t.loss)
    more, *_ = head_data(120)
    (again,) = train(HeadData(**vars(more) | {"setting": chosen.setting}))
    (fitted,) = fit_path(samples(more.features[:120], np.arange(120) % 3), [chosen.setting.values[0]])
    own = calibrate(fitted, more.features[more.validation.rows], more.validation)
    assert own / 2 < again.head.factor < own * 1.1


def test_steps_of_a_variant_are_counted_over_all_probes():
    steps = []
    params = SimpleNamespace(class_weight=None, strengths=CS, probes=[LOGISTIC, DISCRIMINANT])
    trained = linear.train(params, head_data(60)[0], lambda variant, step, scores: steps.append((variant, step)))
    assert steps == [("plain", step) for step in range(len(trained))]
    assert len({t.setting.candidate for t in trained}) == 2


def test_a_discriminant_reads_back_as_it_was_saved(tmp_path):
    head = train(head_data(60)[0], [DISCRIMINANT])[-1].head
    head.save(tmp_path / "head")
    loaded = registry.load(tmp_path / "head")
    assert loaded.kernel.tobytes() == head.kernel.tobytes() and loaded.setting == head.setting
    assert loaded.description == {"kind": "linear", "probe": "discriminant", "strength": head.C}
    assert isinstance(head.setting, Setting) and len(head.setting.values) == 2
