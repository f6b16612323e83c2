"""The learning curve is of heads as train_head trains them, on parts that keep classes and groups."""

from dataclasses import replace

import numpy as np
import pytest

from thaw.evaluation import learning_curve
from thaw.evaluation.forecast import Forecast
from thaw.evaluation.learning_curve import HeadFit, measure_learning_curve
from thaw.features.examples import Examples, training_weights, weighted_scores
from thaw.features.linear_probe import Samples, fit_path
from thaw.heads import linear

pytestmark = pytest.mark.filterwarnings("error")
CLASSES = ("a", "b", "c")
CS = [0.01, 0.1]


def draw_images(train=160, validation=30, test=60, views=2, seed=0):
    """Return features of 10 channels, `views` rows an image, and the examples; two of three images are of class a."""
    generator = np.random.default_rng(seed)
    features, parts, start = [], [], 0
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        labels = np.array([0, 1, 0, 2, 0, 0])[np.arange(count) % 6]
        plain = generator.normal(size=(count, 10)) + 1.5 * np.eye(3, 10)[labels]
        features.append(np.stack([plain, *[np.full_like(plain, np.nan)] * (views - 1)], axis=1).reshape(-1, 10))
        rows = start + np.arange(count * views).reshape(count, views)
        ids, groups = ([f"{split}{i}" for i in numbers] for numbers in (range(count), np.arange(count) // 2))
        parts.append((ids, [split] * count, rows, labels, generator.choice([1, 0.5], count), groups))
        start += count * views
    return np.concatenate(features).astype(np.float16), Examples(*map(np.concatenate, zip(*parts, strict=True)))


def curve(features, examples, class_weight=None, Cs=CS, seed=0):  # noqa: N803
    return measure_learning_curve(features, examples, CLASSES, HeadFit(class_weight, Cs), seed).rows


def with_weights(examples, split, weights):
    changed = examples.weights.copy()
    changed[examples.positions(split)] = weights
    return replace(examples, weights=changed)


def test_sizes_double_up_to_all_images():
    rows = curve(*draw_images())
    assert [row["draws"] for row in rows] == [5, 5, 5, 5, 1]
    assert rows[-1]["images"] == 160
    assert [row["images"] for row in rows] == pytest.approx([10, 20, 40, 80, 160], rel=0.6)
    assert set(rows[0]) == {
        "images", "draws", "accuracy", "accuracy_low", "accuracy_high",
        "accuracy_weighted", "accuracy_weighted_low", "accuracy_weighted_high",
    }  # fmt: skip


def test_more_images_are_better():
    rows = curve(*draw_images(train=600, test=300))
    assert rows[-1]["accuracy"] > rows[0]["accuracy"] + 0.05


def test_all_images_are_the_head_as_it_is_trained():
    features, examples = draw_images()
    train, validation, test = (examples.split(name) for name in ("train", "validation", "test"))
    samples = Samples(features[train.rows].astype(np.float32), train.labels, training_weights(train, "balanced"))
    scores = {
        weighted_scores(head.probabilities(features[validation.rows]), validation)[0]: (
            head.probabilities(features[test.rows])
        )
        for head in linear.fit_path(samples, CLASSES, CS)
    }
    hits = scores[min(scores)].argmax(axis=1) == test.labels
    row = curve(features, examples, class_weight="balanced")[-1]
    assert row["accuracy"] == row["accuracy_low"] == row["accuracy_high"] == hits.mean()
    assert row["accuracy_weighted"] == pytest.approx(np.average(hits, weights=test.weights))


def test_no_weaker_penalty_is_tried_once_the_loss_has_risen_twice(monkeypatch):
    tried = []

    def recorded(*arguments):
        for head in fit_path(*arguments):
            tried.append(head.C)
            yield head

    monkeypatch.setattr(learning_curve, "fit_path", recorded)
    curve(*draw_images(), Cs=[1e-2, 1e2, 1e3, 1e4, 1e5])
    assert tried.count(1e5) < tried.count(1e3) == tried.count(1e-2)


def test_the_spread_is_that_of_the_draws():
    rows = curve(*draw_images())
    assert all(row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] for row in rows)
    assert rows[0]["accuracy_low"] < rows[0]["accuracy_high"]


def test_the_curve_is_seeded():
    images = draw_images()
    first, again, other = (curve(*images, seed=seed) for seed in (1, 1, 2))
    assert first == again and first != other
    assert first[-1] == other[-1]


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_a_part_has_whole_groups_and_its_share_of_every_class(share):
    _, examples = draw_images(train=600)
    train = examples.split("train")
    rows = learning_curve._draw(train, share, np.random.default_rng(0))
    groups = train.groups[rows]
    assert np.isin(train.groups, groups).sum() == len(rows)
    counts, all_counts = np.bincount(train.labels[rows], minlength=3), np.bincount(train.labels)
    assert (counts >= np.ceil(share * all_counts)).all()
    assert (counts <= 2 * np.ceil(share * all_counts).sum()).all() and len(rows) < 2 * share * 600 + 6


def test_images_of_weight_0_are_left_out():
    features, examples = draw_images()
    train = examples.split("train")
    features[train.views[:80]] = np.nan
    rows = curve(features, with_weights(examples, "train", np.where(np.arange(160) < 80, 0, train.weights)))
    assert rows[-1]["images"] == 80


def test_a_test_split_without_weight_has_no_weighted_accuracy():
    features, examples = draw_images()
    row = curve(features, with_weights(examples, "test", 0))[0]
    assert row["accuracy"] > 0
    assert {row[key] for key in row if "weighted" in key} == {None}


def test_an_empty_test_split_has_no_curve():
    assert curve(*draw_images(test=0)) == []


def test_a_handful_of_images_has_a_curve():
    rows = curve(*draw_images(train=6))
    assert [row["draws"] for row in rows] == [5, 5, 1] and rows[-1]["images"] == 6


def test_a_size_that_is_no_larger_than_another_is_left_out():
    rows = curve(*draw_images(train=36))
    sizes = [row["images"] for row in rows]
    assert len(rows) == 4 and sizes == sorted(set(sizes)) and rows[-1]["draws"] == 1


def test_where_classes_leave_too_few_sizes_the_reason_is_not_that_images_are_few(monkeypatch):
    def reason(images):
        return measure_learning_curve(*images, CLASSES, HeadFit(None, CS), 0).forecast.reason

    assert reason(draw_images(train=6)) == "few"
    monkeypatch.setattr(learning_curve, "MAX_FITTED", 3 * 12)
    assert reason(draw_images(train=300)) == "many"
    monkeypatch.setattr(learning_curve, "MAX_FITTED", 8)
    assert reason(draw_images()) == "many"


def test_no_part_is_larger_than_what_is_quickly_fitted(monkeypatch):
    monkeypatch.setattr(learning_curve, "MAX_FITTED", 3 * 40)
    rows = curve(*draw_images())
    assert rows[-1]["images"] == pytest.approx(40, rel=0.3) and rows[-1]["draws"] == 5


def test_too_many_classes_have_no_curve(monkeypatch):
    monkeypatch.setattr(learning_curve, "MAX_FITTED", 8)
    assert curve(*draw_images()) == []


def test_a_part_of_a_large_split_is_measured(monkeypatch):
    monkeypatch.setattr(learning_curve, "MAX_MEASURED", 20)
    row = curve(*draw_images())[-1]
    assert (row["accuracy"] * 20) == pytest.approx(round(row["accuracy"] * 20))


def in_folds(examples, count):
    folds = (np.unique(examples.groups, return_inverse=True)[1] % count)[:, None]
    return replace(examples, splits=np.full(len(examples), "train"), folds=folds)


def test_with_folds_each_image_is_tested_at_each_size(monkeypatch):
    features, examples = draw_images()
    examples, sizes = in_folds(examples, 5), []
    monkeypatch.setattr(learning_curve.forecast, "extrapolate", lambda parts, _: sizes.extend(parts) or Forecast(None))
    rows = curve(features, examples)
    assert [row["draws"] for row in rows] == [5, 5, 5, 5, 1]
    assert rows[-1]["images"] == round(0.6 * len(examples))
    for parts in sizes:
        assert [part.round for part in parts] == [0, 1, 2, 3, 4]
        assert sorted(np.concatenate([part.groups for part in parts])) == sorted(examples.groups)


def test_folds_cost_no_draw_more_but_that_of_all_images(monkeypatch):
    features, examples = draw_images()
    fits = []
    monkeypatch.setattr(learning_curve, "fit_path", lambda *args: fits.append(len(args[0].labels)) or fit_path(*args))
    curve(features, examples)
    alone = len(fits)
    curve(features, in_folds(examples, 10))
    assert len(fits) - alone == alone + 4


def test_the_forecast_is_of_the_rows():
    images = draw_images(train=600, test=300)
    measured = measure_learning_curve(*images, CLASSES, HeadFit(None, CS), 0)
    assert measured.forecast.end.measured == pytest.approx(measured.rows[-1]["accuracy"])


def test_without_a_curve_nothing_is_forecast():
    forecast = measure_learning_curve(*draw_images(test=0), CLASSES, HeadFit(None, CS), 0).forecast
    assert forecast.reason == "few" and not forecast.ahead
