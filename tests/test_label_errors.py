"""Planted wrong labels are found by a head that has not seen them, group by group, whatever the classes."""

import tracemalloc

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from thaw.evaluation import label_errors
from thaw.evaluation.label_errors import self_confidence, suspicious
from thaw.features.examples import Examples

pytestmark = pytest.mark.filterwarnings("error")


def images(count=600, classes=3, channels=16, seed=0):
    """Return float16 features of channels of different scale, and the labels that they tell apart, though not quite."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    features = generator.normal(size=(count, channels)) + 3 * np.eye(classes, channels)[labels]
    return (features * np.linspace(0.1, 5, channels) + 3).astype(np.float16), labels


def confidence(features, labels, weights=None, groups=None, classes=3, **options):
    weights = np.ones(len(labels)) if weights is None else weights
    groups = np.arange(len(labels)) if groups is None else groups
    ids = np.arange(len(labels)).astype(str)
    examples = Examples(ids, np.full(len(labels), "train"), np.arange(len(labels))[:, None], labels, weights, groups)
    return self_confidence(features, examples, classes, **({"seed": 0} | options))


def test_planted_wrong_labels_are_the_most_suspicious():
    features, labels = images()
    wrong = np.random.default_rng(1).choice(600, 12, replace=False)
    labels[wrong] = (labels[wrong] + 1) % 3
    most_suspicious = suspicious(confidence(features, labels))[:30]
    assert np.isin(wrong, most_suspicious).mean() >= 0.9


def test_the_head_is_scikit_learns_discriminant_of_the_other_folds():
    features, labels = images()
    got = confidence(features, labels, folds=2, shrinkage=0.5)
    x = features.astype(np.float64)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    first = label_errors._folds(labels, np.arange(600), 2, 0) == 0
    for train, judged in ((first, ~first), (~first, first)):
        # There, the covariance keeps 1 - s and s is added: half as much as is kept, where s is 1/3.
        judge = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1 / 3).fit(x[train], labels[train])
        odds = np.exp(judge.decision_function(x[judged]) * 2 / 3)
        expected = odds[np.arange(judged.sum()), labels[judged]] / odds.sum(axis=1)
        assert got[judged] == pytest.approx(expected, abs=1e-4)


def test_no_image_is_judged_by_its_near_duplicates():
    """Two pairs of copies, one pair with another label: to have seen the copy would make its label sure."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 200)).astype(np.float32)  # random: only a copy tells the label
    labels = np.arange(60) % 2
    twice, both_labels, groups = features.repeat(2, axis=0), labels.repeat(2), np.arange(60).repeat(2)
    apart = confidence(twice, both_labels, groups=groups, classes=2, shrinkage=0.01)
    together = confidence(twice, both_labels, classes=2, shrinkage=0.01)
    assert together.mean() > 0.8 and abs(apart.mean() - 0.5) < 0.15


def test_folds_keep_groups_whole_and_spread_every_class():
    labels, groups = np.arange(90) % 3, np.arange(90) // 2
    fold = label_errors._folds(labels, groups, 5, 0)
    assert all(len(set(fold[groups == group])) == 1 for group in groups)
    first_labels = labels[::2]
    assert all(np.bincount(fold[::2][first_labels == k]).tolist() == [3] * 5 for k in range(3))


def test_the_confidence_is_seeded():
    features, labels = images()
    first, again, other = (confidence(features, labels, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_the_confidence_is_the_same_however_much_is_read_at_a_time(monkeypatch):
    features, labels = images()
    whole = confidence(features, labels)
    monkeypatch.setattr(label_errors, "BLOCK_IMAGES", 50)
    assert confidence(features, labels) == pytest.approx(whole, abs=1e-4)


def test_classes_count_the_same_however_many_images_they_have():
    """Of two classes that features cannot tell, neither is the more suspicious for being rare."""
    features = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    labels = (np.arange(1000) % 10 == 0).astype(int)
    got = confidence(features, labels, classes=2)
    assert got[labels == 1].mean() == pytest.approx(got[labels == 0].mean(), abs=0.02)


def test_images_of_weight_0_teach_nothing_and_are_judged():
    features, labels = images()
    wrong = labels.copy()
    wrong[:100] = (wrong[:100] + 1) % 3
    weights = np.where(np.arange(600) < 100, 0.0, 1.0)
    got = confidence(features, wrong, weights)
    assert np.median(got[:100]) < 0.1 < 0.8 < np.median(got[100:])
    moved = features.copy()
    moved[:50] = 0
    assert confidence(moved, wrong, weights)[50:] == pytest.approx(got[50:], abs=1e-4)


def test_a_class_of_one_group_says_nothing():
    features, labels = images()
    labels[labels == 2] = 1
    labels[:4], groups = 2, np.arange(600)
    groups[:4] = 0
    got = confidence(features, labels, groups=groups)
    assert got[:4].tolist() == [1] * 4 and (got[4:] < 1).any()
    assert np.isfinite(got).all()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_handful_of_images_says_nothing(count):
    features, labels = images(count)
    assert confidence(features, labels).tolist() == [1] * count


def test_without_weights_nothing_is_said():
    features, labels = images()
    assert (confidence(features, labels, np.zeros(600)) == 1).all()


def test_features_that_are_all_equal_leave_the_classes_as_likely():
    got = confidence(np.ones((60, 8), np.float16), np.arange(60) % 3)
    assert got == pytest.approx(1 / 3)


@pytest.mark.parametrize("copies", [8, 20])
def test_classes_that_are_copies_of_one_picture_are_judged(copies):
    labels = np.repeat(np.arange(5), copies)
    features = np.random.default_rng(0).normal(size=(5, 1280)).astype(np.float16)[labels]
    assert (confidence(features, labels, classes=5) > 0.9).all()


def test_ten_thousand_classes_take_bounded_memory():
    classes, features = 10_000, np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float16)
    tracemalloc.start()
    got = confidence(features, np.arange(20_000) % classes, classes=classes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(got).all() and got.min() >= 0
    assert peak < 300e6  # the logits of all images are 1,600 MB


def test_the_lowest_confidence_stands_first():
    assert suspicious(np.array([0.5, 0.1, 1.0, 0.1])).tolist() == [1, 3, 0, 2]
