"""Splits of photographs with several labels: each class is present and absent in each, groups are whole."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from thaw.core.errors import ThawError
from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN, LabelValues
from thaw.core.tables import SPLITS
from thaw.splitting import by_labels

CLASSES = ("rare", "common", "half")
FRACTIONS = {"train": 0.6, "validation": 0.15, "test": 0.25}


def section(**changes) -> SimpleNamespace:
    values = {"seed": 1, "validation": 0.15, "test": 0.25, "after": None, "duplicates_across": "leave_out"}
    return SimpleNamespace(**values | changes)


def drawn(count: int = 400, group: int = 1, seed: int = 0) -> tuple[pl.DataFrame, LabelValues]:
    """Images of three classes of 5, 80 and 50 %, of which a fifth of the pairs is unknown, in groups of one size."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((count, 3)) < [0.05, 0.8, 0.5], PRESENT, ABSENT)
    values[rng.random(values.shape) < 0.2] = UNKNOWN
    images = {"image_id": [f"i{n:04}" for n in range(count)], "group": [f"g{n // group:04}" for n in range(count)]}
    weights = (values != UNKNOWN).astype(float)
    return pl.DataFrame(images | {"subset": [""] * count}), LabelValues(values.astype(np.int8), weights)


def counts(split: pl.Series, labels: LabelValues, value: int) -> np.ndarray:
    """The images of each split with this value of each class, (splits, classes)."""
    return np.stack([(labels.values[(split == name).to_numpy()] == value).sum(axis=0) for name in SPLITS])


def deviation(split: pl.Series, labels: LabelValues) -> float:
    """By how many images a class of a split differs from its fraction, on average."""
    of_splits = np.concatenate([counts(split, labels, value) for value in (PRESENT, ABSENT)], axis=1)
    wanted = np.array([FRACTIONS[name] for name in SPLITS])[:, None] * of_splits.sum(axis=0)
    return float(np.abs(of_splits - wanted).mean())


@pytest.mark.parametrize(("group", "most"), [(1, 1.5), (4, 2.5)])
def test_each_label_is_divided_by_the_fractions_and_no_group_is(group, most):
    images, labels = drawn(group=group)
    split = by_labels.draw(images, labels, CLASSES, section())
    assert images.with_columns(split=split).group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
    by_chance = np.array(SPLITS)[np.searchsorted([0.6, 0.75], np.random.default_rng(1).random(len(images)))]
    assert deviation(split, labels) < most < deviation(pl.Series(by_chance), labels)


def test_the_order_of_the_rows_has_no_effect_and_the_seed_has():
    images, labels = drawn()
    split = by_labels.draw(images, labels, CLASSES, section())
    order = np.random.default_rng(2).permutation(len(images))
    shuffled = by_labels.draw(images[order], LabelValues(*(part[order] for part in labels)), CLASSES, section())
    assert shuffled.to_list() == split[order].to_list()
    assert by_labels.draw(images, labels, CLASSES, section(seed=2)).to_list() != split.to_list()


@pytest.mark.parametrize("seed", range(8))
def test_three_photographs_of_a_class_are_enough(seed):
    images, labels = drawn(30, seed=seed)
    labels.values[:, 0], labels.weights[:, 0] = ABSENT, 1
    labels.values[[3, 11, 20], 0] = PRESENT
    split = by_labels.draw(images, labels, CLASSES, section(seed=seed))
    assert counts(split, labels, PRESENT)[:, 0].tolist() == [1, 1, 1]


def test_a_split_of_ones_own_stays_and_what_shares_a_group_with_it_is_left_out_or_trains():
    images, labels = drawn(group=2)
    images = images.with_columns(
        subset=pl.when(pl.int_range(pl.len()) % 8 == 0).then(pl.lit("test")).otherwise(pl.lit(""))
    )
    split = by_labels.draw(images, labels, CLASSES, section())
    assert split.eq_missing(pl.Series(["test"])).to_list() == (images["subset"] == "test").to_list()
    assert split.null_count() == 50 and split[1] is None
    kept = by_labels.draw(images, labels, CLASSES, section(duplicates_across="keep"))
    assert kept.null_count() == 0 and kept[1] == "train"


def test_what_is_marked_to_train_only_trains_where_others_may_be_in_any_split():
    images, labels = drawn(group=2)
    images = images.with_columns(subset=pl.Series(["train", "", "", ""] * 100))
    split = by_labels.draw(images, labels, CLASSES, section())
    assert set(split.gather_every(4)) == set(split.gather_every(4, offset=1)) == {"train"}
    assert set(split) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("grouped", "no photograph of validation is known to show the class 'rare' (18 of all are): photographs of on"),
        ("own split", "no photograph of test is known not to show the class 'common' (64 of all are): it is the sourc"),
        ("after", "no photograph of test is known not to show the class 'common' (64 of all are): test is what is new"),
        ("weightless", "no photograph of train is known to show the class 'rare' (0 of all are): photographs of one g"),
    ],
)  # fmt: skip
def test_a_class_that_a_split_lacks_is_one_line_that_names_both(change, message):
    images, labels = drawn()
    rare, absent = labels.values[:, 0] == PRESENT, labels.values[:, 1] == ABSENT
    if change == "grouped":
        images = images.with_columns(group=pl.when(pl.Series(rare)).then(pl.lit("one")).otherwise("group"))
    elif change == "weightless":
        labels.weights[rare, 0] = 0
    else:
        own = np.flatnonzero(~absent)[:60]
        images = images.with_columns(subset=pl.Series(np.where(np.isin(np.arange(400), own), "test", "")))
    with pytest.raises(ThawError) as error:
        by_labels.draw(images, labels, CLASSES, section(after="2024-01-01" if change == "after" else None))
    assert str(error.value).startswith(message)


def test_what_is_marked_to_train_and_shares_a_group_with_a_photograph_of_test_is_left_out():
    images, labels = drawn(group=2)
    images = images.with_columns(subset=pl.Series(["test", "train", *[""] * 6] * 50))
    split = by_labels.draw(images, labels, CLASSES, section())
    assert set(split.gather_every(8)) == {"test"} and set(split.gather_every(8, offset=1)) == {None}


def test_groups_are_drawn_alike_in_any_order_of_the_rows():
    images, labels = drawn(group=4)
    split = by_labels.draw(images, labels, CLASSES, section())
    order = np.random.default_rng(2).permutation(len(images))
    shuffled = by_labels.draw(images[order], LabelValues(*(part[order] for part in labels)), CLASSES, section())
    assert shuffled.to_list() == split[order].to_list()


def test_photographs_without_a_known_label_are_divided_by_the_fractions_too():
    images, labels = drawn()
    sizes = np.repeat(np.arange(100), np.tile([1, 7], 50))
    images = images.with_columns(group=pl.Series([f"g{n:03}" for n in sizes[:400]]))
    labels.values[60:], labels.weights[60:] = UNKNOWN, 0
    split = by_labels.draw(images, labels, CLASSES, section())
    assert abs((split == "test").mean() - 0.25) < 0.02 and abs((split == "validation").mean() - 0.15) < 0.02


def test_a_label_of_no_weight_does_not_count_where_its_class_is_divided():
    images, labels = drawn(600)
    labels.weights[::2, 0] = 0
    split = by_labels.draw(images, labels, CLASSES, section())
    labels.values[::2, 0] = UNKNOWN
    assert split.to_list() == by_labels.draw(images, labels, CLASSES, section()).to_list()
