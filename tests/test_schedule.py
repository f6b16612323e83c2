"""The course of a training: the learning rate, the phases in which layers thaw, and what it costs."""

from types import SimpleNamespace

import numpy as np
import pytest

from thaw.training.schedule import learning_rate, phase, training_cost


def test_the_rate_rises_over_the_warm_up_and_falls_to_nothing():
    params = SimpleNamespace(epochs=5, warmup_epochs=2.0, learning_rate=0.5)
    rates = np.array([learning_rate(step, 10, params) for step in range(50)])
    np.testing.assert_allclose(np.diff(rates[:21]), 0.5 / 21)
    assert rates[0] == pytest.approx(0.5 / 21)
    assert rates[20] == 0.5
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[35] == pytest.approx(0.25)
    assert 0 < rates[-1] < 0.01


def test_the_phases_of_a_training_are_equal_and_count_from_its_first_epoch():
    assert [phase(epoch, 6, 3) for epoch in range(7)] == [0, 0, 0, 1, 1, 2, 2]


def test_the_cost_of_a_training_counts_what_thaws_in_each_epoch_that_was_trained():
    multiply_adds = {"a": 10, "b": 60, "features": 100}
    assert training_cost(multiply_adds, ["b", "a"], trained_epochs=4, planned_epochs=4) == 3 * (2 * 40 + 2 * 90)
    assert training_cost(multiply_adds, ["b", "a"], trained_epochs=1, planned_epochs=4) == 3 * 40
    assert training_cost(multiply_adds, [None], trained_epochs=2, planned_epochs=4) == 3 * 2 * 100
    assert training_cost(multiply_adds, ["features"], trained_epochs=2, planned_epochs=4) == 0


def test_of_epochs_that_cannot_be_divided_the_first_phases_have_one_more():
    assert [phase(epoch, 5, 2) for epoch in range(6)] == [0, 0, 0, 0, 1, 1]
    assert [phase(epoch, 7, 3) for epoch in range(8)] == [0, 0, 0, 0, 1, 1, 2, 2]
