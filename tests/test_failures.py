"""Which photographs are shown, and how; what is gone since the run is shown as gone."""

import io

import numpy as np
import pytest
from PIL import Image

from thaw import failures
from thaw.predictions import Photographs

PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.45, 0.55], [0.01, 0.99], [0.5, 0.5], [0.7, 0.3]])
LABELS = np.array([1, 1, 0, 0, 0, 0])


def photographs(splits):
    count = len(splits)
    ids = np.array([f"p{i}" for i in range(count)])
    return Photographs(ids, np.array(splits), np.arange(count), LABELS[:count], np.ones(count), ids)


def test_the_surest_mistakes_come_first():
    assert failures.confident_mistakes(PROBABILITIES, LABELS, 10).tolist() == [3, 0, 2]
    assert failures.confident_mistakes(PROBABILITIES, LABELS, 2).tolist() == [3, 0]


def test_without_a_mistake_none_is_shown():
    assert failures.confident_mistakes(np.eye(2)[LABELS], LABELS, 10).tolist() == []


def test_the_least_certain_come_first():
    assert failures.least_certain(PROBABILITIES, 3).tolist() == [4, 2, 5]


def test_equal_probabilities_keep_the_order_of_the_photographs():
    equal = np.full((6, 3), 1 / 3)
    assert failures.least_certain(equal, 4).tolist() == [0, 1, 2, 3]
    assert failures.confident_mistakes(equal, LABELS, 4).tolist() == [0, 1]


def test_a_mistake_is_told_from_its_label_and_a_right_answer_from_the_runner_up():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    answers, others = failures.rivals(probabilities, np.array([1, 0]))
    assert answers.tolist() == [1, 1]
    assert others.tolist() == [2, 0]


def test_only_test_photographs_are_shown_as_mistakes_but_labels_of_any_split():
    chosen = failures.choose(
        photographs(["test", "train", "train", "train", "test", "validation"]),
        PROBABILITIES,
        np.array([0.9, 0.9, 0.8, 0.1, 0.9, 0.2]),
        2,
    )
    assert {name: rows.tolist() for name, rows in chosen.items()} == {
        "mistakes": [0],
        "doubts": [4, 0],
        "labels": [3, 5],
    }


def test_the_neighbours_are_training_photographs_but_never_itself():
    features = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [1, 0.3], [1, 0.04]], np.float16)
    of = photographs(["train", "train", "train", "train", "train", "test"])
    assert failures.nearest(features, of, [0, 5]) == {0: [1, 2, 4], 5: [0, 1, 2]}


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_a_photograph_that_is_gone_or_damaged_is_none(tmp_path, content):
    path = tmp_path / "photograph.png"
    if content is not None:
        path.write_bytes(content)
    assert failures.see(path, 32, "crop") is None
    assert failures.jpeg(failures.see(path, 32, "crop"), 32) is None


def test_a_photograph_is_shown_as_the_network_sees_it(tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = 255  # the middle square
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert (failures.see(tmp_path / "wide.png", 32, "crop") == 255).all()
    assert (failures.see(tmp_path / "wide.png", 32, "pad")[:8] == 0).all()


def test_the_overlay_has_one_colour_for_each_side_and_none_where_nothing_speaks():
    evidence = np.zeros((9, 9), np.float32)
    evidence[2, 2], evidence[6, 6] = 1, -1
    shown = failures.overlay(np.full((90, 90, 3), 128, np.uint8), evidence)
    grey = np.array([128, 128, 128])
    towards = {
        name: np.sign(np.array(colour) - grey) for name, colour in vars(failures).items() if name in "FOR AGAINST"
    }
    assert (np.sign(shown[25, 25] - grey) == towards["FOR"]).all()
    assert (np.sign(shown[65, 65] - grey) == towards["AGAINST"]).all()
    assert (shown[25, 65] == grey).all()


def test_evidence_that_is_all_0_leaves_the_photograph_grey():
    pixels = np.full((20, 20, 3), 77, np.uint8)
    assert (failures.overlay(pixels, np.zeros((5, 5), np.float32)) == 77).all()


def test_a_picture_is_a_jpeg_no_larger_than_asked():
    pixels = np.zeros((300, 300, 3), np.uint8)
    for size, written in ((112, 112), (400, 300)):
        with Image.open(io.BytesIO(failures.jpeg(pixels, size))) as image:
            assert (image.format, image.size) == ("JPEG", (written, written))
