"""The statistics of the data equal a count by hand."""

import polars as pl

from thaw.core import tables
from thaw.report import health


def described(missing=(), weights=(1.0, 1.0, 0.5, 1.0), labels=("a", "b", "a", "b"), with_left_out=False, alike="p1"):
    images = pl.DataFrame(
        {
            "image_id": ["p1", "p2", "p3", "p4", "p5"],
            "label": [*labels, "c"],
            "width": [300, 300, 200, 640, 50],
            "height": [200, 200, 300, 480, 50],
        }
    )
    rows = [("p1", "p1", "kept", "p1"), ("p1", "p2", "kept", alike)]
    rows += [("p4", "p5", "left out", "p4"), ("p4", "p4", "kept", "p4")][: 2 * with_left_out]
    duplicates = pl.DataFrame(rows, ["group", "image_id", "action", "alike"], orient="row")
    split = pl.DataFrame(
        {
            "image_id": ["p1", "p2", "p3", "p4"],
            "label": labels,
            "weight": weights,
            "group": ["p1", "p1", "p3", "p4"],
            "split": ["train", "train", "validation", "test"],
        }
    )
    left_out = pl.DataFrame(list(missing), tables.MISSING, orient="row")
    return health.describe(images, split, duplicates, left_out, ("a", "b"))


def test_classes_are_counted_in_their_order_by_split():
    assert described().counts == {"train": [1, 1], "validation": [1, 0], "test": [0, 1]}


def test_sizes_stand_in_the_order_of_their_number():
    measured = described()
    assert measured.sizes == [("300 × 200", 2), ("200 × 300", 1), ("640 × 480", 1)]
    assert (measured.distinct_sizes, measured.shorter_side) == (3, (200, 200, 480))


def test_near_duplicates_with_different_labels_are_named():
    measured = described()
    assert (measured.groups, measured.grouped, measured.largest_group) == (1, 2, 2)
    assert measured.disputed == [("p1", "p2")]
    assert described(labels=("a", "a", "b", "b")).disputed == []
    assert described(labels=("a", "a", "b", "b"), with_left_out=True).disputed == [("p4", "p5")]


def test_a_group_that_the_source_names_may_have_different_labels():
    measured = described(alike="p2")
    assert (measured.groups, measured.grouped) == (1, 2)
    assert measured.disputed == []


def test_weights_are_counted_by_class_the_heaviest_first():
    assert described().weights == [("1", [1, 2]), ("0.5", [1, 0])]


def test_weights_that_differ_by_rounding_are_one():
    assert described(weights=(1 / 3, 0.33333, 1.0, 1.0)).weights == [("1", [1, 1]), ("0.333", [1, 1])]


def test_small_weights_are_not_0_and_large_ones_stay_apart():
    assert [name for name, _ in described(weights=(0.0002, 0.0004, 0.0, 1e-9)).weights] == [
        "0.0004",
        "0.0002",
        "1e-09",
        "0",
    ]
    assert [name for name, _ in described(weights=(1001.0, 1002.0, 2500.5, 2e6)).weights] == [
        "2,000,000",
        "2,500.5",
        "1,002",
        "1,001",
    ]


def test_of_many_weights_tenths_are_counted(monkeypatch):
    monkeypatch.setattr(health, "MAX_WEIGHTS", 1)
    measured = described(weights=(0.0, 1.0, 0.5, 0.55)).weights
    assert [name for name, _ in measured][:2] == ["0.9–1", "0.8–0.9"]
    assert {name: counts for name, counts in measured if sum(counts)} == {
        "0.9–1": [0, 1],
        "0.5–0.6": [0, 1],
        "0.4–0.5": [1, 0],
        "0–0.1": [1, 0],
    }


def test_the_heaviest_weights_are_counted_whatever_their_tenths_round_to(monkeypatch):
    monkeypatch.setattr(health, "MAX_WEIGHTS", 1)  # 10 * 0.235 / 10 is less than 0.235
    assert described(weights=(0.235, 0.235, 0.1, 0.01)).weights[0] == ("0.211–0.235", [1, 1])
    assert described(weights=(1001.0, 2000.0, 3.0, 4.0)).weights[0] == ("1,800–2,000", [0, 1])


def test_reasons_of_what_was_left_out_are_counted():
    rows = [("x", "x.jpg", "damaged"), ("y", "y.jpg", "empty"), ("z", "z.jpg", "damaged")]
    assert described(rows).missing == [("damaged", 2), ("empty", 1)]


def test_nothing_left_out_is_nothing():
    assert described().missing == []
