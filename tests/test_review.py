"""Which images are shown, and how; what is gone since the run is shown as gone."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from thaw.evaluation import review
from thaw.evaluation.predictions import Predictions
from thaw.features.examples import Examples

PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.45, 0.55], [0.01, 0.99], [0.5, 0.5], [0.7, 0.3]])
LABELS = np.array([1, 1, 0, 0, 0, 0])


def examples(splits):
    count = len(splits)
    ids = np.array([f"p{i}" for i in range(count)])
    return Examples(ids, np.array(splits), np.arange(count)[:, None], LABELS[:count], np.ones(count), ids)


def test_the_surest_mistakes_come_first():
    assert review.confident_mistakes(PROBABILITIES, LABELS, 10).tolist() == [3, 0, 2]
    assert review.confident_mistakes(PROBABILITIES, LABELS, 2).tolist() == [3, 0]


def test_without_a_mistake_none_is_shown():
    assert review.confident_mistakes(np.eye(2)[LABELS], LABELS, 10).tolist() == []


def test_the_least_certain_come_first():
    assert review.least_certain(PROBABILITIES, 3).tolist() == [4, 2, 5]


def test_equal_probabilities_keep_the_order_of_the_images():
    equal = np.full((6, 3), 1 / 3)
    assert review.least_certain(equal, 4).tolist() == [0, 1, 2, 3]
    assert review.confident_mistakes(equal, LABELS, 4).tolist() == [0, 1]


def test_the_rival_of_a_mistake_is_its_label_and_of_a_right_prediction_the_runner_up():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    predicted, rivals = review.predicted_and_rivals(probabilities, np.array([1, 0]))
    assert predicted.tolist() == [1, 1]
    assert rivals.tolist() == [2, 0]


def test_only_test_images_are_shown_as_mistakes_but_labels_of_any_split():
    predictions = Predictions(
        examples(["test", "train", "train", "train", "test", "validation"]),
        ("a", "b"),
        {"head": 1 - PROBABILITIES, "fine_tuned": PROBABILITIES},
        np.array([0.9, 0.9, 0.8, 0.1, 0.9, 0.2]),
        np.zeros(6, int),
    )
    everything = review.choose_images(predictions, 6)
    assert everything["labels"].tolist() == [3, 5]  # no label that is likelier than the others together
    chosen = review.choose_images(predictions, 2)
    assert {name: rows.tolist() for name, rows in chosen.items()} == {
        "mistakes": [0],
        "doubts": [4, 0],
        "labels": [3, 5],
    }


def test_the_neighbours_are_training_images_but_never_itself():
    features = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [1, 0.3], [1, 0.04]], np.float16)
    images = examples(["train", "train", "train", "train", "train", "test"])
    assert review.nearest_training_images(features, images, np.zeros(6, int), [0, 5]) == {0: [1, 2, 4], 5: [0, 1, 2]}


def test_a_card_names_the_split_of_its_image_or_the_fold_that_tests_it():
    images, answers = examples(["test", "validation", "test"]), {"fine_tuned": PROBABILITIES[:3]}
    predictions = Predictions(images, ("a", "b"), answers, np.ones(3), np.array([2, 0, 1]))
    folded = dataclasses.replace(predictions, examples=dataclasses.replace(images, folds=np.array([[2], [0], [1]])))
    for given, expected in ((predictions, ["test", "validation", "test"]), (folded, ["fold 2", "fold 0", "fold 1"])):
        cards = review.make_cards(given, {i: [] for i in range(3)}, dict.fromkeys(range(3)), {})
        assert [cards[i].split for i in range(3)] == expected


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_an_image_that_is_gone_or_damaged_is_none(tmp_path, content):
    path = tmp_path / "image.png"
    if content is not None:
        path.write_bytes(content)
    assert review.load_image(path, 32, "crop") is None
    assert review.jpeg(review.load_image(path, 32, "crop"), 32) is None


def test_an_image_is_shown_as_the_network_sees_it(tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = 255  # the middle square
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert (review.load_image(tmp_path / "wide.png", 32, "crop") == 255).all()
    assert (review.load_image(tmp_path / "wide.png", 32, "pad")[:8] == 0).all()


def test_the_heatmap_has_one_colour_for_each_side_and_none_where_nothing_speaks():
    activation_map = np.zeros((9, 9), np.float32)
    activation_map[2, 2], activation_map[6, 6] = 1, -1
    shown = review.heatmap(np.full((90, 90, 3), 128, np.uint8), activation_map)
    grey = np.array([128, 128, 128])
    towards = {name: np.sign(np.array(colour) - grey) for name, colour in vars(review).items() if name in "FOR AGAINST"}
    assert (np.sign(shown[25, 25] - grey) == towards["FOR"]).all()
    assert (np.sign(shown[65, 65] - grey) == towards["AGAINST"]).all()
    assert (shown[25, 65] == grey).all()


def test_a_map_that_is_all_0_leaves_the_image_grey():
    pixels = np.full((20, 20, 3), 77, np.uint8)
    assert (review.heatmap(pixels, np.zeros((5, 5), np.float32)) == 77).all()


def test_a_picture_is_a_jpeg_no_larger_than_its_size():
    pixels = np.zeros((300, 300, 3), np.uint8)
    for size, written in ((112, 112), (400, 300)):
        with Image.open(io.BytesIO(review.jpeg(pixels, size))) as image:
            assert (image.format, image.size) == ("JPEG", (written, written))
