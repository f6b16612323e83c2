"""The learning curve is of heads as train_head trains them, on parts that keep classes and groups."""

import numpy as np
import pytest

from thaw import examples, learning_curve
from thaw.examples import Examples
from thaw.heads import fit_path

pytestmark = pytest.mark.filterwarnings("error")
CLASSES = ("a", "b", "c")
STRENGTHS = [0.01, 0.1]


def photographs(train=160, validation=30, test=60, views=2, seed=0):
    """Return features of 10 channels, `views` rows an image, and the splits; two of three images are of class a."""
    generator = np.random.default_rng(seed)
    features, splits, start = [], {}, 0
    for name, count in (("train", train), ("validation", validation), ("test", test)):
        labels = np.array([0, 1, 0, 2, 0, 0])[np.arange(count) % 6]
        plain = generator.normal(size=(count, 10)) + 1.5 * np.eye(3, 10)[labels]
        features.append(np.stack([plain, *[np.full_like(plain, np.nan)] * (views - 1)], axis=1).reshape(-1, 10))
        rows = start + np.arange(count * views).reshape(count, views)
        ids, groups = (np.array([f"{name}{i}" for i in numbers]) for numbers in (range(count), np.arange(count) // 2))
        splits[name] = Examples(ids, rows, labels, generator.choice([1, 0.5], count), groups)
        start += count * views
    return np.concatenate(features).astype(np.float16), splits


def curve(features, splits, **options):
    options = {"class_weight": None, "strengths": STRENGTHS, "seed": 0} | options
    return learning_curve.learning_curve(features, splits, CLASSES, **options)


def replaced(splits, name, **arrays):
    return splits | {name: Examples(**{**vars(splits[name]), **arrays})}


def test_sizes_double_up_to_all_images():
    rows = curve(*photographs())
    assert [row["draws"] for row in rows] == [5, 5, 5, 5, 1]
    assert rows[-1]["images"] == 160
    assert [row["images"] for row in rows] == pytest.approx([10, 20, 40, 80, 160], rel=0.6)
    assert set(rows[0]) == {
        "images", "draws", "accuracy", "accuracy_low", "accuracy_high",
        "accuracy_weighted", "accuracy_weighted_low", "accuracy_weighted_high",
    }  # fmt: skip


def test_more_images_are_better():
    rows = curve(*photographs(train=600, test=300))
    assert rows[-1]["accuracy"] > rows[0]["accuracy"] + 0.05


def test_all_images_are_the_head_as_it_is_trained():
    features, splits = photographs()
    train, validation, test = (splits[name] for name in ("train", "validation", "test"))
    heads = fit_path(
        features[train.views[:, 0]].astype(np.float32), train.labels, examples.training_weights(train, "balanced"),
        CLASSES, STRENGTHS,
    )  # fmt: skip
    scores = {
        examples.weighted_scores(head.probabilities(features[validation.views[:, 0]]), validation)[0]: (
            head.probabilities(features[test.views[:, 0]])
        )
        for head in heads
    }
    hits = scores[min(scores)].argmax(axis=1) == test.labels
    row = curve(features, splits, class_weight="balanced")[-1]
    assert row["accuracy"] == row["accuracy_low"] == row["accuracy_high"] == hits.mean()
    assert row["accuracy_weighted"] == pytest.approx(np.average(hits, weights=test.weights))


def test_no_weaker_penalty_is_tried_once_the_loss_has_risen_twice(monkeypatch):
    tried = []

    def recorded(*arguments):
        for head in fit_path(*arguments):
            tried.append(head.strength)
            yield head

    monkeypatch.setattr(learning_curve, "fit_path", recorded)
    curve(*photographs(), strengths=[1e-2, 1e2, 1e3, 1e4, 1e5])
    assert tried.count(1e5) < tried.count(1e3) == tried.count(1e-2)


def test_the_spread_is_that_of_the_draws():
    rows = curve(*photographs())
    assert all(row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] for row in rows)
    assert rows[0]["accuracy_low"] < rows[0]["accuracy_high"]


def test_the_curve_is_seeded():
    given = photographs()
    first, again, other = (curve(*given, seed=seed) for seed in (1, 1, 2))
    assert first == again and first != other
    assert first[-1] == other[-1]


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_a_part_has_whole_groups_and_its_share_of_every_class(share):
    _, splits = photographs(train=600)
    train = splits["train"]
    rows = learning_curve._draw(train, share, np.random.default_rng(0))
    groups = train.groups[rows]
    assert np.isin(train.groups, groups).sum() == len(rows)
    counts, of_all = np.bincount(train.labels[rows], minlength=3), np.bincount(train.labels)
    assert (counts >= np.ceil(share * of_all)).all()
    assert (counts <= 2 * np.ceil(share * of_all).sum()).all() and len(rows) < 2 * share * 600 + 6


def test_images_of_weight_0_are_left_out():
    features, splits = photographs()
    weights = splits["train"].weights.copy()
    weights[:80] = 0
    features[splits["train"].views[:80]] = np.nan
    rows = curve(features, replaced(splits, "train", weights=weights))
    assert rows[-1]["images"] == 80


def test_a_test_split_without_weight_has_no_weighted_accuracy():
    features, splits = photographs()
    row = curve(features, replaced(splits, "test", weights=np.zeros(60)))[0]
    assert row["accuracy"] > 0
    assert {row[key] for key in row if "weighted" in key} == {None}


def test_an_empty_test_split_has_no_curve():
    assert curve(*photographs(test=0)) == []


def test_a_handful_of_images_has_a_curve():
    rows = curve(*photographs(train=6))
    assert [row["draws"] for row in rows] == [5, 5, 5, 5, 1] and rows[-1]["images"] == 6


def test_no_part_is_larger_than_what_is_quickly_fitted(monkeypatch):
    monkeypatch.setattr(learning_curve, "TRAINED", 3 * 40)
    rows = curve(*photographs())
    assert rows[-1]["images"] == pytest.approx(40, rel=0.3) and rows[-1]["draws"] == 5


def test_too_many_classes_have_no_curve(monkeypatch):
    monkeypatch.setattr(learning_curve, "TRAINED", 8)
    assert curve(*photographs()) == []


def test_a_part_of_a_large_split_is_measured(monkeypatch):
    monkeypatch.setattr(learning_curve, "MEASURED", 20)
    row = curve(*photographs())[-1]
    assert (row["accuracy"] * 20) == pytest.approx(round(row["accuracy"] * 20))
