"""Examples: which rows of an extracted array show each image, by split; how they weigh, and how predictions score."""

import json

import numpy as np
import polars as pl
import pytest

from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.features import examples
from thaw.features.examples import NO_VIEW, Examples

SPLITS = {"c": "train", "a": "train", "d": "validation", "b": "test", "e": "train"}


@pytest.fixture
def folder(tmp_path):
    """Five images in rows that are in no order: c has three views, a and e have two, b and d only the plain one."""
    rows = [("c", 0), ("b", 0), ("c", 2), ("a", 0), ("c", 1), ("e", 0), ("d", 0), ("e", 2), ("a", 1)]
    rows = [(*row, {0: None, 1: "gentle", 2: "strong"}[row[1]]) for row in rows]
    tables.write(pl.DataFrame(rows, schema=tables.ROWS, orient="row"), tmp_path / "rows.csv")
    (tmp_path / "classes.json").write_text(json.dumps(["dog", "cat"]))
    write_split(tmp_path / "split.csv", SPLITS)
    return tmp_path


def write_split(path, splits):
    columns = {
        "image_id": list(splits),
        "label": ["cat" if image_id in "ac" else "dog" for image_id in splits],
        "weight": [ord(image_id) - 96.0 for image_id in splits],
        "group": [f"group of {image_id}" for image_id in splits],
        "split": list(splits.values()),
    }
    tables.write(pl.DataFrame(columns), path)


@pytest.fixture
def images(folder) -> Examples:
    return examples.read(folder, folder / "split.csv")


def test_images_come_in_the_order_of_their_ids_with_all_that_the_tables_say(images):
    assert images.image_ids.tolist() == ["a", "b", "c", "d", "e"]
    assert images.splits.tolist() == ["train", "test", "train", "validation", "train"]
    assert images.labels.tolist() == [1, 0, 1, 0, 0]  # positions in the classes
    assert images.weights.tolist() == [1, 2, 3, 4, 5]
    assert images.groups.tolist() == [f"group of {image_id}" for image_id in "abcde"]
    assert len(images) == 5


def test_views_are_rows_of_the_array_plain_first_and_an_image_with_fewer_has_none_behind(images):
    assert images.views.tolist() == [
        [3, 8, NO_VIEW], [1, NO_VIEW, NO_VIEW], [0, 4, 2], [6, NO_VIEW, NO_VIEW], [5, 7, NO_VIEW],
    ]  # fmt: skip
    assert images.rows.tolist() == [3, 1, 0, 6, 5]
    assert images.view_counts.tolist() == [2, 1, 3, 1, 2]
    assert images.without_augmented_views().views.tolist() == [[3], [1], [0], [6], [5]]


def test_of_one_preset_only_its_views_are_listed_beside_the_plain_ones(folder):
    assert examples.read_presets(folder) == ["gentle", "strong"]
    images = examples.read(folder, folder / "split.csv", "strong")
    assert images.views.tolist() == [[3, NO_VIEW], [1, NO_VIEW], [0, 2], [6, NO_VIEW], [5, 7]]


def test_a_split_has_its_images_and_no_column_of_views_that_none_of_them_has(images):
    assert images.positions("train").tolist() == [0, 2, 4]
    assert images.split("train").image_ids.tolist() == ["a", "c", "e"]
    assert images.split("train").views.shape == (3, 3)
    assert images.split("validation").views.tolist() == [[6]]
    assert images.split("test").groups.tolist() == ["group of b"]


def test_images_are_taken_in_the_order_of_the_positions(images):
    taken = images.take(np.array([4, 0]))
    assert taken.image_ids.tolist() == ["e", "a"]
    assert taken.views.tolist() == [[5, 7], [3, 8]]
    assert taken.labels.tolist() == [0, 1]


def test_an_empty_split_still_has_a_column_of_plain_views(images):
    empty = images.split("train").split("test")
    assert len(empty) == 0
    assert empty.views.shape == (0, 1)
    assert empty.rows.tolist() == []


@pytest.mark.parametrize("splits", [{"a": "train"}, SPLITS | {"f": "test"}], ids=["too few", "too many"])
def test_a_split_table_of_other_images_is_one_line(folder, splits):
    write_split(folder / "split.csv", splits)
    with pytest.raises(
        ThawError, match=r"rows\.csv and .*split\.csv do not list the same photographs: run `dvc repro`"
    ):
        examples.read(folder, folder / "split.csv")


def test_training_weights_have_a_mean_of_one_and_balanced_classes_the_same_sum(images):
    np.testing.assert_allclose(examples.training_weights(images, None), np.array([1, 2, 3, 4, 5]) / 3)
    balanced = examples.training_weights(images, "balanced")
    assert balanced.mean() == pytest.approx(1)
    assert balanced[images.labels == 0].sum() == pytest.approx(balanced[images.labels == 1].sum())
    assert balanced[2] / balanced[0] == pytest.approx(3)  # within a class as the source has them


def test_a_class_without_any_weight_cannot_be_learnt(images):
    weightless = Examples(**vars(images) | {"weights": np.array([0.0, 1, 0, 1, 1])})
    with pytest.raises(ThawError, match="all training photographs of a class have the weight 0"):
        examples.training_weights(weightless, None)


def test_scores_are_weighted_and_a_probability_of_zero_has_a_finite_loss(images):
    p = np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4], [0.0, 1.0], [0.7, 0.3]])
    loss, accuracy = examples.weighted_scores(p, images)
    losses = -np.log([0.8, 0.9, 0.4, examples.MIN_PROBABILITY, 0.7])
    assert loss == pytest.approx(np.average(losses, weights=[1, 2, 3, 4, 5]))
    assert accuracy == pytest.approx((1 + 2 + 5) / 15)


def test_scores_without_any_weight_are_one_line(images):
    weightless = Examples(**vars(images) | {"weights": np.zeros(5)})
    with pytest.raises(ThawError, match="all validation photographs have the weight 0"):
        examples.weighted_scores(np.full((5, 2), 0.5), weightless)
