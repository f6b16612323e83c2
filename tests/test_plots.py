"""The files behind `dvc plots`: one a kind and model, whole, rounded, of a header alone where nothing is defined."""

import csv

import numpy as np
import pytest

from thaw.evaluation import plots
from thaw.evaluation.curves import calibration_curve, confusion, roc_curve
from thaw.evaluation.scored import Scored


def example(count=300, classes=2):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, count)
    odds = np.exp(generator.normal(size=(count, classes)) + np.eye(classes)[labels])
    return Scored(odds / odds.sum(axis=1, keepdims=True), labels, np.ones(count), np.arange(count))


def curves(scored, classes=("a,b", "ç")):
    return plots.compute_curves({"head": scored}, {"head": scored}, classes, 10)


def test_the_curves_are_those_of_each_kind():
    scored = example()
    drawn = curves(scored)
    assert drawn["roc"]["head"] == roc_curve(scored)
    assert drawn["confusion"]["head"] == confusion(scored, ["a,b", "ç"])
    assert drawn["calibrated"]["head"] == calibration_curve(scored, 10)


def test_each_kind_and_model_has_a_file_with_the_same_bytes_twice(tmp_path):
    drawn = curves(example())
    for name in ("one", "two"):
        plots.write(tmp_path / name, drawn, {"learning_curve": []})
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    kinds = ("calibrated", "calibration", "confusion", "coverage", "precision_recall", "roc")
    assert names == sorted([*(f"{kind}_head.csv" for kind in kinds), "learning_curve.csv"])
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)


def test_a_file_reads_back_as_its_rows_whatever_the_classes_are_called(tmp_path):
    drawn = curves(example())
    plots.write(tmp_path / "plots", drawn, {})
    with (tmp_path / "plots" / "confusion_head.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == drawn["confusion"]["head"]


def test_a_file_of_a_run_before_is_replaced_and_one_of_a_persons_stays(tmp_path):
    (tmp_path / "plots").mkdir()
    for name in ("learning_curve.csv", "mine.csv"):
        (tmp_path / "plots" / name).write_text("old\n")
    plots.write(tmp_path / "plots", {}, {"learning_curve": []})
    written = {path.name: path.read_text() == "old\n" for path in (tmp_path / "plots").iterdir()}
    assert written == {"learning_curve.csv": False, "mine.csv": True}


@pytest.mark.parametrize("kind", plots.COLUMNS)
def test_what_is_undefined_is_a_file_of_its_header(tmp_path, kind):
    plots.write(tmp_path / "plots", {kind: {"head": []}}, {})
    assert (tmp_path / "plots" / f"{kind}_head.csv").read_text() == ",".join(plots.COLUMNS[kind]) + "\n"


def test_numbers_are_rounded_and_none_is_empty(tmp_path):
    rows = [{"images": 10, "accuracy": 2 / 3, "accuracy_low": None}]
    plots.write(tmp_path / "plots", {}, {"learning_curve": rows})
    text = (tmp_path / "plots" / "learning_curve.csv").read_text()
    assert text == "images,accuracy,accuracy_low\n10,0.666667,\n"


def test_a_comparison_is_a_row_with_its_counts_and_differences():
    counts = {"both_right": 5, "only_a_right": 3, "only_b_right": 1, "both_wrong": 0}
    differences = {"accuracy": {"difference": 0.2, "low": -0.1, "high": None}}
    compared = {"counts": counts, "differences": differences, "mcnemar_p": 0.5}
    rows = plots.comparison_rows({"a_against_b": compared})
    assert rows == [
        {"pair": "a against b", "both_right": 5, "first_right": 3, "second_right": 1, "both_wrong": 0, "mcnemar_p": 0.5}
        | {"accuracy": 0.2, "accuracy_low": -0.1, "accuracy_high": None}
    ]


def test_a_slice_is_named_in_one_text():
    rows = plots.name_slices({"head": [{"column": "camera", "value": "north", "accuracy": 0.5}]})["head"]
    assert rows == [{"slice": "camera: north", "column": "camera", "value": "north", "accuracy": 0.5}]


def test_confusions_of_many_images_are_thinned_and_each_pair_keeps_its_share(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "MAX_CONFUSION_ROWS", 40)
    pairs = {("a", "a"): 500, ("a", "b"): 100, ("b", "a"): 150, ("b", "b"): 250}
    rows = [{"actual": actual, "predicted": predicted} for (actual, predicted), n in pairs.items() for _ in range(n)]
    plots.write(tmp_path, {"confusion": {"head": rows}}, {})
    with (tmp_path / "confusion_head.csv").open(encoding="utf-8", newline="") as file:
        kept = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]
    assert {pair: kept.count(pair) for pair in pairs} == {pair: n // 25 for pair, n in pairs.items()}
    assert "shows 40 of the 1,000 photographs" in plots.thinned_text({"confusion": {"head": rows}})
    assert plots.thinned_text({"confusion": {"head": rows[:40]}}) == ""
