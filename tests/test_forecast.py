"""A learning curve is carried on by the law that it follows, and not where it follows none."""

import numpy as np
import pytest

from thaw.evaluation import forecast
from thaw.evaluation.forecast import Part, extrapolate, in_round_numbers

pytestmark = pytest.mark.filterwarnings("error")
SIZES = (25, 50, 100, 200, 400)


def draw_parts(error_at, sizes=SIZES, tested=1000, scatter=0.0, seed=0, rounds=1):
    """Return parts of these sizes, five of each but the last; error_at: images → the error that is expected of them."""
    generator = np.random.default_rng(seed)
    difficulty = (generator.permutation(tested) + 0.5) / tested
    parts = []
    for images in sizes:
        parts.append([])
        for draw in range(5 if images < sizes[-1] else rounds):
            mine = np.arange(tested)[draw % rounds :: rounds]
            hits = difficulty[mine] > error_at(images) * np.exp(scatter * generator.normal())
            parts[-1].append(Part(images, draw % rounds, hits, mine.astype(str), np.ones(len(mine))))
    return parts


def law(images, level=0.1, floor=0.2, exponent=0.7):
    return level * (floor + (1 - floor) * (images / 400) ** -exponent)


def test_a_power_law_tells_how_many_images_a_point_takes():
    carried_on = extrapolate(draw_parts(law, tested=20_000), 400)
    assert carried_on.reason is None
    for points in (1, 2, 3):
        times = (1 - points / 100 / (0.1 * 0.8)) ** (-1 / 0.7)
        needed = carried_on.needed[points]
        assert needed.low <= times <= needed.high
        assert needed.times == pytest.approx(times, rel=0.25)
    assert carried_on.ahead[-1]["images"] == 1600
    assert carried_on.ahead[-1]["accuracy"] == pytest.approx(1 - law(1600), abs=0.01)


def test_its_interval_holds_the_truth_on_noisy_curves():
    held = []
    for seed in range(60):
        curve = extrapolate(draw_parts(law, tested=300, scatter=0.1, seed=seed), 400)
        if curve.ahead:
            held.append(curve.ahead[-1]["accuracy_low"] <= 1 - law(1600) <= curve.ahead[-1]["accuracy_high"])
    assert len(held) > 50 and np.mean(held) >= 0.93


def test_the_largest_size_is_predicted_from_the_others():
    end = extrapolate(draw_parts(law, tested=20_000), 400).end
    assert end.measured == pytest.approx(1 - law(400), abs=1e-3)
    assert end.low <= end.predicted <= end.high and end.predicted == pytest.approx(end.measured, abs=0.01)


def test_where_its_own_end_is_missed_nothing_is_said():
    curve = extrapolate(draw_parts(lambda n: 0.3 if n == 400 else law(n), tested=20_000), 400)
    assert curve.reason == "missed" and not curve.end.is_met
    assert curve.needed is None and not curve.ahead


def test_of_a_flat_curve_nothing_is_said():
    assert extrapolate(draw_parts(lambda n: 0.1, scatter=0.1), 400).reason == "flat"


@pytest.mark.parametrize("sizes", [(100, 200, 400), (3, 3, 3, 4, 6), (200, 250, 300, 350, 400)])
def test_of_too_few_sizes_nothing_is_said(sizes):
    curve = extrapolate(draw_parts(law, sizes), 400)
    assert curve.reason == "few" and curve.end is None
    assert set(curve.scores(100)["end"].values()) == {None}
    assert curve.scores(100)["points_1"] == dict.fromkeys(("photographs", "photographs_low", "photographs_high"))


def test_an_interval_wider_than_a_factor_of_ten_is_no_answer():
    needed = extrapolate(draw_parts(law, tested=300, scatter=0.1), 400).needed
    assert needed[1] is not None and needed[1].high <= 10 * needed[1].low
    assert needed[3] is None


def test_more_points_than_there_are_errors_cannot_be_reached():
    curve = extrapolate(draw_parts(lambda n: law(n, level=0.015), tested=20_000), 400)
    assert curve.reason is None and curve.needed[2] is None


def test_heads_that_are_always_right_are_flat_without_a_warning():
    assert extrapolate(draw_parts(lambda n: 0.0), 400).reason == "flat"


def test_the_numbers_are_of_photographs_of_all_splits_in_round_numbers():
    curve = extrapolate(draw_parts(law, tested=20_000), 400)
    one = curve.scores(666)["points_1"]
    assert one["photographs"] == in_round_numbers(curve.needed[1].times * 666)
    assert one["photographs_low"] <= one["photographs"] <= one["photographs_high"]
    assert [in_round_numbers(n) for n in (7, 12.4, 1234, 98_765)] == [7, 12, 1200, 99_000]


def test_noise_is_that_of_the_test_images_of_which_a_group_counts_once():
    parts = draw_parts(lambda n: 0.2, tested=500)
    _, errors, covariance = forecast._moments(parts)
    assert errors == pytest.approx(np.full(5, 0.2))
    assert covariance == pytest.approx(np.full((5, 5), 0.2 * 0.8 / 500), rel=0.01)  # the same images: all in common
    twice = [
        [Part(p.images, 0, p.hits.repeat(2), p.groups.repeat(2), p.weights.repeat(2)) for p in size] for size in parts
    ]
    assert forecast._moments(twice)[2] == pytest.approx(covariance)


def test_noise_is_that_of_the_parts_too_and_less_for_larger_ones():
    noise = forecast._moments(draw_parts(lambda n: 0.2, tested=500, scatter=0.3))[2]
    alone = forecast._moments(draw_parts(lambda n: 0.2, tested=500))[2]
    added = np.diag(noise - alone)
    assert (added[:-1] > added[1:4].min() / 4).all() and added[0] > 4 * added[3] > 0


def test_rounds_that_are_easier_for_all_sizes_are_no_noise_of_the_parts():
    """Each of five rounds is measured on other images, and one of them on hard ones."""
    parts = draw_parts(lambda n: 0.2, tested=1000, rounds=5)
    hard = [[Part(p.images, p.round, p.hits & (p.round != 0), p.groups, p.weights) for p in size] for size in parts]
    _, errors, covariance = forecast._moments(hard)
    assert np.linalg.eigvalsh(covariance)[0] < 1e-5 < errors.mean() ** 2 / 1000


def test_the_same_curve_has_the_same_forecast():
    assert extrapolate(draw_parts(law), 400) == extrapolate(draw_parts(law), 400)
