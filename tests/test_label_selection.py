"""What is chosen for labelling: what is typical while labels are few, later what is doubtful and spread out."""

import numpy as np
import pytest

from thaw.labelling import selection
from thaw.labelling.selection import Labelled, choose

CLASSES = ("cat", "dog")


def blobs(centres, each, seed=0, spread=0.05):
    """Points around centres, one blob after another."""
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.normal(centre, spread, (each, len(centre))) for centre in centres])


def labelled(features, labels):
    return Labelled(np.asarray(features, float), np.array(labels, int), np.ones(len(labels)))


NOTHING = labelled(np.empty((0, 3)), [])
KINDS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, -1, -1))


def test_without_labels_each_kind_gives_one_photograph():
    choice = choose(blobs(KINDS, 30), NOTHING, CLASSES, 4)
    assert sorted(choice.positions // 30) == [0, 1, 2, 3]
    assert not choice.by_doubt


def test_a_kind_that_has_labels_comes_last():
    before = labelled(blobs(KINDS[:2], 1), [0, 0])
    choice = choose(blobs(KINDS, 30), before, CLASSES, 2)
    assert sorted(choice.positions // 30) == [2, 3]
    assert all("0 of which are labelled" in reason for reason in choice.reasons)


def test_an_outlier_is_not_typical():
    pool = np.concatenate([blobs(KINDS, 30), [[5.0, -5.0, 0.0]]])
    assert 120 not in choose(pool, NOTHING, CLASSES, 4).positions


def test_with_labels_the_photographs_between_the_classes_are_chosen():
    before = labelled(blobs(((1, 0), (-1, 0)), 20), [0] * 20 + [1] * 20)
    pool = blobs(((1, 0), (0, 0.3), (-1, 0)), 40, seed=1)
    choice = choose(pool, before, CLASSES, 4)
    assert choice.by_doubt
    assert set(choice.positions // 40) == {1}
    assert np.all(np.diff(choice.scores) <= 0)
    assert "cat" in choice.reasons[0] and "dog" in choice.reasons[0]


def test_of_two_doubtful_kinds_both_are_chosen():
    before = labelled(np.repeat([[1.0, 0, 0], [-1, 0, 0]], 20, axis=0), [0] * 20 + [1] * 20)
    pool = blobs(((0, 1, 0), (0, 0, 1)), 20, seed=1, spread=0.01)
    pool[:, 0] = np.tile(np.linspace(-0.2, 0.2, 20), 2)  # what the classes differ in: both kinds are as doubtful
    choice = choose(pool, before, CLASSES, 2)
    assert sorted(choice.positions // 20) == [0, 1]


@pytest.mark.parametrize("before", [NOTHING, labelled(blobs(KINDS[:2], 10), [0] * 10 + [1] * 10)])
@pytest.mark.parametrize("count", [1, 7, 120, 500])
def test_each_is_chosen_once_and_no_more_than_there_are(before, count):
    pool = blobs(KINDS, 30)
    choice = choose(pool, before, CLASSES, count)
    assert len(set(choice.positions.tolist())) == len(choice.positions) == min(count, 120)
    assert len(choice.scores) == len(choice.reasons) == len(choice.positions)


@pytest.mark.parametrize("most", [1, 300])
def test_what_is_typical_does_not_depend_on_how_many_are_compared_at_a_time(monkeypatch, most):
    x = selection._unit(blobs(KINDS, 30), 0)
    at_once = selection._typicality(x)
    monkeypatch.setattr(selection, "MAX_SIMILARITIES", most)
    assert selection._typicality(x) == pytest.approx(at_once, abs=1e-6)


def test_a_cluster_that_is_empty_gives_its_place_to_the_most_doubtful_left():
    before = labelled(np.repeat([[1.0, 0], [-1, 0]], 10, axis=0), [0] * 10 + [1] * 10)
    pool = np.array([[0.9, 0.0]] * 3 + [[0.0, 1.0]] * 4)  # two points, five photographs
    assert sorted(choose(pool, before, CLASSES, 5).positions)[-4:] == [3, 4, 5, 6]


def test_the_choice_is_the_same_every_time():
    before = labelled(blobs(KINDS[:2], 10), [0] * 10 + [1] * 10)
    once, again = (choose(blobs(KINDS, 30), before, CLASSES, 9) for _ in range(2))
    assert once.positions.tolist() == again.positions.tolist()
    assert once.reasons == again.reasons


def test_equal_photographs_can_be_chosen():
    choice = choose(np.zeros((12, 3)), NOTHING, CLASSES, 5)
    assert len(set(choice.positions.tolist())) == 5


def test_labels_without_weight_do_not_count_and_an_unseen_class_has_no_probability():
    features = blobs(KINDS[:3], 10)
    weights = np.repeat([1.0, 1.0, 0.0], 10)
    known = Labelled(features, np.repeat([0, 1, 2], 10), weights)
    p = selection.probabilities(known, features, 4)
    assert p.shape == (30, 4)
    assert np.allclose(p.sum(axis=1), 1)
    assert not p[:, 2:].any()
    assert (p[:20].argmax(axis=1) == np.repeat([0, 1], 10)).all()


@pytest.mark.parametrize(("count", "by_doubt"), [(9, False), (10, True)])
def test_five_labels_a_class_are_enough_for_doubt(count, by_doubt):
    before = labelled(blobs(KINDS[:2], 5)[:count], ([0] * 5 + [1] * 5)[:count])
    assert choose(blobs(KINDS, 30), before, CLASSES, 4).by_doubt is by_doubt
