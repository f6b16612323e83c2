"""The files behind `dvc plots`: one a kind and model, whole, rounded, of a header alone where nothing is defined."""

import csv
import re
from itertools import pairwise

import numpy as np
import pytest

from thaw import metrics, plots


def example(count=300, classes=2):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, count)
    odds = np.exp(generator.normal(size=(count, classes)) + np.eye(classes)[labels])
    return odds / odds.sum(axis=1, keepdims=True), labels


def curves(probabilities, labels, classes=("a,b", "ç")):
    return plots.curves({"head": probabilities}, {"head": probabilities}, labels, classes, 10)


@pytest.mark.parametrize("lowest", [0.02, 0.31, 0.52, 0.83, 1.0])
def test_the_labels_of_the_picture_of_accuracies_stand_apart_and_end_at_100_percent(lowest):
    values = {"accuracy_weighted": 1.0, "accuracy_weighted_low": lowest, "accuracy_weighted_high": 1.0}
    picture = plots.accuracy_svg({"head": {"test": values}, "fine_tuned": {"test": values}})
    ticks = re.findall(r'<text x="([\d.]+)" y="\d+" text-anchor="middle">(\d+)%<', picture)
    places, labels = [float(x) for x, _ in ticks], [int(label) for _, label in ticks]
    assert labels[0] <= 100 * lowest and labels[-1] == 100
    assert min(b - a for a, b in pairwise(places)) > 34 and len(labels) > 1


def test_the_curves_are_those_of_the_metrics():
    probabilities, labels = example()
    drawn = curves(probabilities, labels)
    assert drawn["roc"]["head"] == metrics.roc_curve(probabilities, labels)
    assert drawn["confusion"]["head"] == metrics.confusion(labels, probabilities.argmax(axis=1), ["a,b", "ç"])
    assert drawn["calibrated"]["head"] == metrics.calibration_curve(probabilities, labels, 10)


def test_each_kind_and_model_has_a_file_with_the_same_bytes_twice(tmp_path):
    drawn = curves(*example())
    for name in ("one", "two"):
        plots.write(tmp_path / name, drawn, {"learning_curve": []})
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    kinds = ("calibrated", "calibration", "confusion", "precision_recall", "roc")
    assert names == sorted([*(f"{kind}_head.csv" for kind in kinds), "learning_curve.csv"])
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)


def test_a_file_reads_back_as_its_rows_whatever_the_classes_are_called(tmp_path):
    drawn = curves(*example())
    plots.write(tmp_path / "plots", drawn, {})
    with (tmp_path / "plots" / "confusion_head.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == drawn["confusion"]["head"]


def test_a_file_of_a_run_before_does_not_stay(tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "gone.csv").write_text("old\n")
    plots.write(tmp_path / "plots", {}, {"learning_curve": []})
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["learning_curve.csv"]


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
    known = {"counts": counts, "differences": differences, "mcnemar_p": 0.5}
    rows = plots.flat({"a_against_b": known})
    assert rows == [
        {"pair": "a against b", "both_right": 5, "first_right": 3, "second_right": 1, "both_wrong": 0, "mcnemar_p": 0.5}
        | {"accuracy": 0.2, "accuracy_low": -0.1, "accuracy_high": None}
    ]


def test_a_slice_is_named_in_one_text():
    rows = plots.named({"head": [{"column": "camera", "value": "north", "accuracy": 0.5}]})["head"]
    assert rows == [{"slice": "camera: north", "column": "camera", "value": "north", "accuracy": 0.5}]
