"""Sets have the label as often as they promise, by class where there are enough images, and say what they cannot."""

from dataclasses import replace

import numpy as np
import pytest
from scored_images import example, scored

from thaw.evaluation import conformal
from thaw.evaluation.predictions import Predictions
from thaw.features.examples import Examples


def drawn(count, seed, classes=3):
    """Images of a model that is unsure about class 0."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    logits = generator.normal(size=(count, classes)) + np.eye(classes)[labels] * np.where(labels == 0, 0.5, 3)[:, None]
    odds = np.exp(logits)
    return scored(odds / odds.sum(axis=1, keepdims=True), labels)


def limits(images, level):
    return conformal.choose_limits(images, [level])[level]


def part(calibration, test, level):
    return conformal.Part({level: limits(calibration, level)}, test, test.predictions)


def coverage(calibration, test, level):
    """Of each class of test, the share of its images whose limit they reach: without the predicted class."""
    likelihoods = test.probabilities[np.arange(len(test)), test.labels]
    hits = likelihoods >= np.array(limits(calibration, level).values)[test.labels]
    return np.array([hits.mean(), *(hits[test.labels == number].mean() for number in range(test.class_count))])


@pytest.mark.parametrize(("count", "level"), [(30, 0.9), (59, 0.95), (400, 0.9), (400, 0.95)])
def test_new_images_are_covered_as_often_as_promised(count, level):
    means = np.mean([coverage(drawn(count, seed), drawn(500, 1000 + seed), level) for seed in range(80)], axis=0)
    slack = 3 * np.sqrt(level * (1 - level) / count / 80)
    assert level - slack < means[0] < level + 3 / count + slack
    if count == 400:  # each class has its own limit
        assert (means[1:] > level - 2 * slack).all() and (means[1:] < level + 9 / count + 2 * slack).all()
    else:  # and here they share one
        assert means[1] < level - 0.03


def test_the_limit_by_hand():
    probabilities = np.array([[p, 1 - p] for p in np.arange(1, 20) / 20])
    images = scored(probabilities, np.zeros(19, int))
    assert limits(images, 0.95).values[0] == pytest.approx(0.05, rel=1e-5)  # 20 * 0.95 = 19: the least of 19
    assert limits(images, 0.95).values[0] < 0.05  # the image itself is in its set
    assert limits(images, 0.9).values[0] == pytest.approx(0.10, rel=1e-5)
    assert limits(images, 0.951).are_none and limits(images.take(np.arange(18)), 0.95).are_none
    assert limits(images.take(np.arange(0)), 0.5).are_none


def test_a_class_has_its_own_limit_where_it_has_enough_images_and_the_others_share_one():
    probabilities, _ = example(200, classes=5)

    def limits_of(counts, level):
        return limits(scored(probabilities, np.repeat(np.arange(5), counts)), level)

    assert limits_of([90, 60, 25, 13, 12], 0.9).own == (True, True, True, False, False)
    assert limits_of([90, 60, 25, 13, 12], 0.95).own == (True, True, False, False, False)
    assert limits_of([90, 60, 25, 13, 12], 0.99).own == (False,) * 5
    values = limits_of([90, 60, 25, 13, 12], 0.95).values
    assert values[2] == values[3] == values[4] and len(set(values)) == 3
    few = limits_of([90, 60, 25, 20, 5], 0.9)
    assert few.own == (True, True, True, False, False)  # five are too few to share a limit: class 3 joins them


def test_near_duplicates_count_as_one_image_and_what_weighs_nothing_does_not_count():
    images = drawn(300, 3)
    expected = conformal.choose_limits(images, conformal.LEVELS)
    rows = np.r_[np.arange(300), np.repeat(np.arange(10), 40)]
    copies = replace(images.take(rows), groups=rows)
    assert conformal.choose_limits(copies, conformal.LEVELS) == expected
    unweighted = replace(copies, groups=np.arange(len(rows)), weights=(np.arange(len(rows)) < 300).astype(float))
    assert conformal.choose_limits(unweighted, conformal.LEVELS) == expected
    shuffled = np.random.default_rng(0).permutation(len(rows))
    assert conformal.choose_limits(copies.take(shuffled), conformal.LEVELS) == expected


def test_a_level_keeps_its_promise_by_weight_where_sure_labels_are_easier():
    shares = []
    for seed in range(40):
        images = drawn(1500, seed)
        weights = np.where(images.labels == 0, 0.25, 1.0)
        one_class = scored(images.probabilities[:, [0, 1]] * 0, np.zeros(1500, int), weights)
        one_class.probabilities[:, 0] = images.probabilities[np.arange(1500), images.labels]
        calibration, test = one_class.take(np.arange(500)), one_class.take(np.arange(500, 1500))
        hits = test.probabilities[:, 0] >= limits(calibration, 0.9).values[0]
        shares.append((np.average(hits, weights=test.weights), hits.mean()))
    by_weight, plain = np.mean(shares, axis=0)
    assert by_weight == pytest.approx(0.9, abs=0.006) and plain < 0.87


def test_sets_are_never_empty_and_what_they_hold_is_counted_by_hand():
    test = scored(np.array([[0.6, 0.3, 0.1], [0.2, 0.45, 0.35], [0.4, 0.35, 0.25]]), np.array([1, 2, 2]))
    sets = conformal.Part({0.9: conformal.Limits((0.7, 0.3, 0.3), (True,) * 3)}, test, test.predictions)
    assert sets.members(0.9).tolist() == [[True, True, False], [False, True, True], [True, True, False]]
    scores = conformal.measure([sets], 0.9)
    assert scores["coverage"] == scores["coverage_weighted"] == pytest.approx(2 / 3)
    assert scores["coverage_low"] < 2 / 3 < scores["coverage_high"]
    assert (scores["mean_size"], scores["single"]) == (2, 0)
    rows = conformal.measure_classes([sets], 0.9, ["a", "b", "c"])
    assert [(row["support"], row["coverage"]) for row in rows] == [(0, None), (1, 1.0), (2, 0.5)]
    alone = conformal.Part({0.9: conformal.Limits((0.99,) * 3, (True,) * 3)}, test, test.predictions)
    assert alone.members(0.9).sum(axis=1).tolist() == [1, 1, 1]
    nothing = conformal.measure([replace(alone, test=test.take(np.arange(0)), predicted=test.labels[:0])], 0.9)
    assert set(nothing.values()) == {None}


def predictions(folds):
    images = drawn(200, 5)
    n = len(images)
    splits = np.where(np.arange(n) < 80, "validation", "test")
    numbers = np.arange(n)
    examples = Examples(
        numbers.astype(str), splits, numbers[:, None], images.labels, images.weights, numbers.astype(str), folds
    )
    asked, rounds = examples.asked()
    probabilities = {"head": images.probabilities[asked.rows]}
    return Predictions(asked, ("a", "b", "c"), probabilities, np.ones(len(asked)), rounds)


@pytest.fixture
def parts(monkeypatch):
    """The images that sets are made from and those that they are measured on, of each part that is measured."""
    seen, calibrated = [], conformal._calibrated
    monkeypatch.setattr(conformal, "_calibrated", lambda a, b, aim: seen.append((a, b)) or calibrated(a, b, aim))
    return seen


def test_without_folds_sets_are_made_from_validation_and_measured_on_test(parts):
    held_out = predictions(None)
    made = conformal.make_sets(held_out, held_out.split("validation"), 0.5)["head"]
    ((calibration, test),) = parts
    assert set(calibration.groups) == set(map(str, range(80))) and set(test.groups) == set(map(str, range(80, 200)))
    assert made.limits == conformal.choose_limits(calibration, conformal.LEVELS)
    assert sum(row["support"] for row in made.per_class) == 120


def test_with_folds_no_image_helps_to_make_the_sets_that_it_is_measured_with(parts):
    held_out = predictions(np.arange(200)[:, None] % 5)
    made = conformal.make_sets(held_out, held_out.once(), 0.5)["head"]
    assert len(parts) == 5 and sum(row["support"] for row in made.per_class) == 200
    assert all(len(a) == 160 and set(a.groups).isdisjoint(b.groups) for a, b in parts)
    assert made.scores[0.9]["coverage"] == pytest.approx(0.9, abs=0.06)
    assert conformal.scores({"head": made})["head"]["0.9"]["own_limits"] == 3


def test_the_class_that_a_threshold_predicts_is_in_the_set():
    images = scored(*example(400, classes=2))
    made = conformal._calibrated(images.take(np.arange(200)), images.take(np.arange(200, 400)), "recall:0.99")
    assert (made.predicted != made.test.predictions).any()
    assert made.members(0.9)[np.arange(200), made.predicted].all()
