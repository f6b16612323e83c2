"""Axes hold their values between round bounds; a value lies where it should; drawings that stand alone are whole."""

import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from thaw.report import axes
from thaw.report.accuracy import accuracy_svg
from thaw.report.axes import Axis, Panel, Track
from thaw.report.estimate import Estimate


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.82, 0.91], [0.8, 0.85, 0.9, 0.95]),
        ([0.1, 0.9], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ([0.5], [0.45, 0.5, 0.55]),
        ([1.0], [0.95, 1]),
        ([-0.3, 1.4], [0, 0.5, 1]),  # it does not leave 0 … 1
    ],
)
def test_an_axis_has_round_ticks_and_holds_its_values(values, ticks):
    axis = axes.round_axis("accuracy", values)
    assert axis.ticks == pytest.approx(ticks)
    assert (axis.low, axis.high) == pytest.approx((ticks[0], ticks[-1]))


def test_an_axis_without_bounds_holds_any_value():
    axis = axes.round_axis("difference", [-0.012, 0.05, 0.0], -math.inf, math.inf)
    assert axis.low <= -0.012 and axis.high >= 0.05
    assert 0 in axis.ticks


def test_more_parts_give_more_ticks():
    assert len(axes.round_axis("", [0.3, 1.0], parts=8).ticks) > len(axes.round_axis("", [0.3, 1.0]).ticks)


def test_a_value_lies_between_the_ends_of_its_axis():
    panel = Panel(10, 20, 100, 50, Axis("", 1, 100, (), logarithmic=True), axes.unit_axis(""))
    assert [panel.across(value) for value in (1, 10, 100)] == ["10.0", "60.0", "110.0"]
    assert [panel.down(value) for value in (0, 0.5, 1)] == ["70.0", "45.0", "20.0"]
    assert Track(axes.unit_axis("")).across(0.25) == "25.00%"


def test_each_tick_has_a_line_and_a_label():
    panel = Panel(10, 20, 100, 50, axes.unit_axis(""), axes.unit_axis(""))
    for marks in (panel.x_ticks(str), panel.y_ticks(str)):
        assert ["path" in mark for mark in marks] == [True, False] * len(axes.UNIT_TICKS)
        assert [re.sub("<.*?>", "", mark) for mark in marks[1::2]] == [str(tick) for tick in axes.UNIT_TICKS]


def test_an_estimate_is_read_with_the_interval_where_there_is_one():
    scores = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": None, "f1": 0.5}
    assert Estimate.read(scores, "accuracy") == (0.8, 0.7, None)
    assert not Estimate.read(scores, "accuracy").has_interval
    assert Estimate.read(scores, "f1") == (0.5, None, None)
    assert Estimate(0.5, 0.4, 0.6).numbers == [0.5, 0.4, 0.6]
    assert Estimate(None).numbers == []
    assert Estimate.read_difference({"difference": 0.1, "low": -0.1, "high": 0.3}) == (0.1, -0.1, 0.3)


# --- The picture of the accuracies ---


def picture(**scores):
    return accuracy_svg({"head": {"test": scores}, "fine_tuned": {"test": scores}})


@pytest.mark.parametrize("lowest", [0.02, 0.31, 0.52, 0.83, 0.99, 1.0])
def test_the_labels_of_the_picture_of_accuracies_stand_apart_and_end_at_100_percent(lowest):
    svg = picture(accuracy_weighted=1.0, accuracy_weighted_low=lowest, accuracy_weighted_high=1.0)
    ticks = re.findall(r'<text class="x" x="([\d.]+)" y="\d+">(\d+)%<', svg)
    places, labels = [float(x) for x, _ in ticks], [int(label) for _, label in ticks]
    assert labels[0] <= 100 * lowest and labels[-1] == 100
    assert min(b - a for a, b in pairwise(places)) > 34 and len(labels) > 1
    assert len(set(labels)) == len(labels)


def test_each_accuracy_has_a_dot_its_interval_and_its_number():
    svg = picture(accuracy_weighted=0.8, accuracy_weighted_low=0.7, accuracy_weighted_high=0.9)
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("80.0%") == 2 and {"head, test", "fine-tuned, test"} <= set(texts)
    assert svg.count("<circle") == svg.count('<path class="interval"') == 2


def test_the_picture_names_its_size_since_dvc_plots_shows_it_in_a_box_as_large_as_it_is():
    root = ElementTree.fromstring(picture(accuracy_weighted=0.8, accuracy_weighted_low=0.7, accuracy_weighted_high=0.9))
    width, height = root.get("width"), root.get("height")
    assert root.get("viewBox") == f"0 0 {width} {height}" and int(width) >= 600


def test_an_accuracy_that_is_undefined_has_no_row_and_one_without_an_interval_no_line():
    undefined = picture(accuracy_weighted=None, accuracy_weighted_low=None, accuracy_weighted_high=None)
    ElementTree.fromstring(undefined)
    assert "<circle" not in undefined
    alone = picture(accuracy_weighted=0.8, accuracy_weighted_low=None, accuracy_weighted_high=None)
    assert alone.count("<circle") == 2 and 'class="interval"' not in alone
