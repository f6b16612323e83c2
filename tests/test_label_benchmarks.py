"""The benchmarks of labelling: each rule chooses what it may, and the table is filled in as a person does it."""

import csv
import re
import sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import label_rounds
import labels_saved
from labels_saved import RULES, Data, curve


@pytest.fixture(scope="module")
def data() -> Data:
    """Three kinds that overlap, sixty photographs of each."""
    centres = 2 * np.eye(3, 8)
    features = np.concatenate([np.random.default_rng(i).normal(centre, 1, (60, 8)) for i, centre in enumerate(centres)])
    labels = np.repeat([0, 1, 2], 60)
    return Data(features, labels, np.ones(180), np.arange(180), ("a", "b", "c"))


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_learns_from_what_it_chooses(data, rule, capsys):
    points, full = curve(data, RULES[rule], seed=1, step=10, last=60)
    assert [count for count, _ in points] == [10, 20, 30, 40, 50, 60]
    assert points[-1][1] > 0.5 and full > 0.7
    cell = labels_saved.report("kinds", rule, [(points, full)] * 2, [0.0, 0.02])
    assert re.fullmatch(r"(over )?\d+ \(0\)", cell.removesuffix(", +1.0 points (1.4)")), cell
    assert f"kinds: {rule}: " in capsys.readouterr().out


def test_a_seed_gives_the_same_curve(data):
    assert curve(data, RULES["next"], 3, 10, 30) == curve(data, RULES["next"], 3, 10, 30)


def test_a_table_is_filled_in_with_the_true_labels_or_for_drawn_photographs(tmp_path):
    table = tmp_path / "photographs.csv"
    row = {"path": str(tmp_path / "0001.jpg"), "label": "", "sha256": "12"}
    label_rounds.write(table, [row])
    label_rounds.fill(table, {"0001.jpg": "glass"})
    assert label_rounds.read(table)[0]["label"] == "glass"
    label_rounds.draw(table, ["0001.jpg", "0002.jpg", "0003.jpg"], seed=1, count=2)
    drawn = list(csv.DictReader(table.open()))
    assert len(drawn) == 2 and len({row["path"] for row in drawn}) == 2 and not drawn[0]["sha256"]
