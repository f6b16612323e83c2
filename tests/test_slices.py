"""Slices are measured as the whole is, ordered by what is known of them, and called different only where they are."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import fisher_exact

from thaw.evaluation import resampling
from thaw.evaluation.metrics import classification_metrics
from thaw.evaluation.resampling import Resampling
from thaw.evaluation.scored import Scored
from thaw.evaluation.slices import MAX_SLICES, count_small, measure_slices

pytestmark = pytest.mark.filterwarnings("error")


def images(count, **columns):
    sizes = {"width": np.full(count, 300), "height": np.full(count, 300)}
    return pl.DataFrame(sizes | {f"meta_{name}": values for name, values in columns.items()})


def model(right, seed=0):
    """Return probabilities and labels of two classes, with a hit where `right` is True."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, len(right))
    positive = np.where(labels == right, 1, 0) * 0.5 + generator.uniform(0.01, 0.49, len(right))
    return np.stack([1 - positive, positive], axis=1), labels


def measure(table, probabilities, labels, weights=None, groups=None, resamples=200):
    weights = np.ones(len(labels)) if weights is None else weights
    groups = np.arange(len(labels)) if groups is None else groups
    return measure_slices(table, Scored(probabilities, labels, weights, groups), 10, Resampling(resamples, seed=0))


def by_value(rows):
    return {(row["column"], row["value"]): row for row in rows}


def test_a_slice_is_measured_as_the_whole_is():
    cameras = np.where(np.arange(200) % 4 == 0, "old", "new")
    probabilities, labels = model(np.arange(200) % 8 > 0)
    weights, groups = np.random.default_rng(0).random(200), np.arange(200) // 2
    rows = measure(images(200, camera=cameras), probabilities, labels, weights, groups)
    inside = cameras == "old"
    images_inside = Scored(probabilities[inside], labels[inside], weights[inside], groups[inside])
    expected = classification_metrics(images_inside, 10, Resampling(200, seed=0))
    old = by_value(rows)["camera", "old"]
    assert {key: old[key] for key in expected} == expected
    assert (old["count"], old["share"]) == (50, 0.25)
    assert set(old) == {"column", "value", "count", "share", "p_value", *expected}


@pytest.mark.parametrize(("bytes_drawn", "resamples"), [(2**27, 300), (200 * 210, 210)])
def test_a_slice_has_as_many_resamples_as_all_images(bytes_drawn, resamples, monkeypatch):
    monkeypatch.setattr(resampling, "MAX_DRAWN_BYTES", bytes_drawn)
    cameras = np.where(np.arange(200) % 4 == 0, "old", "new")
    probabilities, labels = model(np.arange(200) % 8 > 0)
    row = by_value(measure(images(200, camera=cameras), probabilities, labels, resamples=300))["camera", "old"]
    inside = np.flatnonzero(cameras == "old")
    of_slice = Scored(probabilities[inside], labels[inside], np.ones(50), inside)
    expected = classification_metrics(of_slice, 10, Resampling(resamples, seed=0))
    assert {key: row[key] for key in expected} == expected


def test_the_worst_slice_that_is_known_to_be_stands_first():
    names = np.repeat(["large and bad", "good", "few, and worse"], [200, 200, 10])
    right = np.concatenate([np.arange(200) % 2 > 0, np.arange(200) % 20 > 0, np.arange(10) < 4])
    rows = measure(images(410, part=names), *model(right))
    assert [row["value"] for row in rows] == ["large and bad", "few, and worse", "good"]
    assert rows[1]["accuracy"] < rows[0]["accuracy"]


def test_a_slice_of_few_images_is_left_out_and_counted():
    table = images(211, part=np.repeat(["a", "b", "few", "one"], [100, 101, 9, 1]), place=["here"] * 210 + ["there"])
    assert [row["value"] for row in measure(table, *model(np.arange(211) % 3 > 0))] == ["a", "b"]
    assert count_small(table) == 3  # `few`, `one` and `there`; `here` is all but one image
    assert count_small(table[:0]) == 0


def test_the_p_value_is_fishers_against_the_rest_after_holm():
    names = np.repeat(["a", "b", "c"], 60)
    right = np.arange(180) % np.repeat([2, 4, 8], 60) > 0
    rows = measure(images(180, part=names), *model(right))
    chances = {
        name: fisher_exact([[right[i].sum(), (~right[i]).sum()], [right[~i].sum(), (~right[~i]).sum()]]).pvalue
        for name, i in ((name, names == name) for name in "abc")
    }
    least, middle, most = sorted(chances.values())
    after = {least: 3 * least, middle: max(3 * least, 2 * middle), most: min(1, max(3 * least, 2 * middle, most))}
    assert {row["value"]: row["p_value"] for row in rows} == pytest.approx({n: after[p] for n, p in chances.items()})


def test_the_two_slices_of_a_column_are_one_test():
    names = np.repeat(["a", "b"], 100)
    right = np.arange(200) % np.repeat([3, 9], 100) > 0
    rows = measure(images(200, part=names), *model(right))
    expected = fisher_exact(
        [[right[:100].sum(), 100 - right[:100].sum()], [right[100:].sum(), 100 - right[100:].sum()]]
    )
    assert [row["p_value"] for row in rows] == pytest.approx([expected.pvalue] * 2)


def test_near_duplicates_are_one_image_of_the_test():
    names, right = np.repeat(["a", "b"], 20), np.arange(40) >= 10
    few = measure(images(40, part=names), *model(right))
    times = 10
    many = measure(
        images(40 * times, part=names.repeat(times)), *model(right.repeat(times)), groups=np.arange(40).repeat(times)
    )
    assert [row["p_value"] for row in many] == [row["p_value"] for row in few]


def test_slices_that_are_alike_are_seldom_called_different():
    called = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        table = {f"column_{i}": generator.choice(["x", "y", "z"], 90) for i in range(5)}
        rows = measure(images(90, **table), *model(generator.random(90) < 0.8, seed), resamples=1)
        called += min(row["p_value"] for row in rows) < 0.05
    assert called <= 8  # at most 5 are expected; more than 8 would be chance once in 16


def test_a_slice_that_is_worse_is_called_different():
    names = np.repeat(["a", "b", "c"], 100)
    rows = measure(images(300, part=names), *model(np.arange(300) % np.repeat([2, 10, 10], 100) > 0))
    assert rows[0]["value"] == "a" and rows[0]["p_value"] < 1e-6


def test_numbers_of_many_values_are_cut_into_quarters():
    numbers = [f"{i:.1f}" for i in range(100)]
    rows = by_value(measure(images(100, year=numbers), *model(np.arange(100) % 3 > 0)))
    names = ["0 to 24", "25 to 49", "50 to 74", "75 to 99"]
    assert sorted(value for column, value in rows if column == "year") == names
    assert {row["count"] for row in rows.values()} == {25}


def test_quarters_of_large_numbers_have_names_of_their_own():
    numbers = [str(1_700_000_000 + i) for i in range(100)]
    rows = by_value(measure(images(100, time=numbers), *model(np.arange(100) % 3 > 0)))
    assert ("time", "1700000000 to 1700000024") in rows and len(rows) == 4


def test_numbers_of_few_values_stand_for_themselves():
    rows = measure(images(80, probability=["0.000", "0.333"] * 40), *model(np.arange(80) % 3 > 0))
    assert {row["value"] for row in rows} == {"0.000", "0.333"}


def test_the_rare_values_of_a_text_are_one_slice():
    counts = [40, 30, 20, 15, 14, 13, 12, 11, 2, 1]
    names = np.repeat([f"place {i}" for i in range(len(counts))], counts)
    rows = measure(images(len(names), place=names), *model(np.arange(len(names)) % 3 > 0))
    found = {row["value"]: row["count"] for row in rows}
    assert found == {f"place {i}": counts[i] for i in range(MAX_SLICES - 1)} | {"other": 14}


def test_a_text_that_is_different_for_every_image_has_no_slices():
    assert measure(images(100, name=[f"name {i}" for i in range(100)]), *model(np.arange(100) % 3 > 0)) == []


def test_missing_values_are_a_slice():
    rows = measure(images(60, place=["a", None, ""] * 20), *model(np.arange(60) % 4 > 0))
    assert {row["value"]: row["count"] for row in rows} == {"a": 20, "missing": 40}


def test_missing_numbers_are_a_slice_beside_the_quarters():
    numbers = [None if i % 5 == 0 else str(i) for i in range(100)]
    rows = measure(images(100, year=numbers), *model(np.arange(100) % 3 > 0))
    assert {row["value"]: row["count"] for row in rows}["missing"] == 20
    assert sum(row["count"] for row in rows) == 100 and len(rows) == 5
    words = ["NA" if i % 10 == 0 else number or "nan" for i, number in enumerate(numbers)]
    assert measure(images(100, year=words), *model(np.arange(100) % 3 > 0)) == rows


def test_images_of_one_size_have_no_slices_by_size():
    assert measure(images(50), *model(np.arange(50) % 3 > 0)) == []


def test_sizes_are_sliced_by_megapixels():
    table = images(40).with_columns(width=pl.Series([1000, 2000] * 20), height=pl.lit(500))
    rows = measure(table, *model(np.arange(40) % 3 > 0))
    assert {(row["column"], row["value"]) for row in rows} == {("megapixels", "0.5"), ("megapixels", "1.0")}


def test_a_column_of_megapixels_of_ones_own_is_not_replaced():
    rows = measure(images(40, megapixels=np.where(np.arange(40) % 2, "12", "48")), *model(np.arange(40) % 3 > 0))
    assert {(row["column"], row["value"]) for row in rows} == {("megapixels", "12"), ("megapixels", "48")}


def test_a_slice_of_one_class_has_no_rank():
    probabilities, labels = model(np.arange(60) % 4 > 0)
    rows = by_value(measure(images(60, side=np.where(labels == 1, "left", "right")), probabilities, labels))
    assert rows["side", "left"]["roc_auc"] is None and rows["side", "left"]["accuracy"] is not None


def test_one_group_cannot_be_compared_with_a_rest():
    table = images(20, place=["a", "b"] * 10)
    rows = measure(table, *model(np.arange(20) % 4 > 0), groups=np.zeros(20, int))
    assert len(rows) == 2 and {row["p_value"] for row in rows} == {None}


def test_no_images_have_no_slices():
    table = images(0, place=pl.Series([], dtype=pl.String))
    assert measure(table, np.empty((0, 2)), np.empty(0, int)) == []
