"""How long a run will take, and what the last line of `make repro` says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from thaw.core import params
from thaw.guide import outcome, time_needed
from thaw.guide.time_needed import Counts, Speed

QUIET = Speed(multiply_adds=150e9, share=1.0)
SOLAR_CELLS = Counts(train=1574, validation=394, test=656, classes=2)


@pytest.fixture(scope="module")
def defaults():
    return params.load(ROOT / "params.yaml")


def seconds(parameters, counts=SOLAR_CELLS, speed=QUIET, decode=1.3e-3) -> float:
    """The middle of the estimate."""
    low, high = time_needed.estimate(parameters, counts, decode, speed)
    assert 0 < low < high
    return (low / time_needed.RANGE[0] + high / time_needed.RANGE[1]) / 2


def changed(parameters, **sections):
    return parameters.model_copy(
        update={name: getattr(parameters, name).model_copy(update=values) for name, values in sections.items()}
    )


def test_the_default_run_is_estimated_as_it_was_measured(defaults):
    """149 s on two cores that multiply 150e9 times per second (`benchmarks/results/changes.json`)."""
    usual = changed(
        defaults, augment={"preset": "any_way_up", "copies": 3}, fine_tune={"epochs": 12, "freeze_depth": "block5"}
    )
    low, high = time_needed.estimate(usual, SOLAR_CELLS, 1.3e-3, QUIET)
    assert low < 149 < high


@pytest.mark.parametrize(
    "more",
    [
        {"fine_tune": {"freeze_depth": "none"}},
        {"fine_tune": {"epochs": 100}},
        {"augment": {"copies": 9}},
        {"augment": {"preset": "auto"}},
        {"image": {"size": 320}},
    ],
    ids=str,
)
def test_what_costs_more_is_estimated_longer(more, defaults):
    assert seconds(changed(defaults, **more)) > 1.05 * seconds(defaults)


def test_folds_are_trained_on_once_each_and_then_all_together(defaults):
    """Fine-tuning alone is longer, by 3 / 5 of the photographs in each of 5 rounds, and all of them at the end."""
    one_split, folds = Counts(600, 200, 200, 2), Counts(600, 200, 200, 2, folds=5)
    tuning = changed(defaults, fine_tune={"epochs": 1000, "freeze_depth": "none"}, augment={"preset": "none"})
    expected = (5 * (3 * 600 + 200) + 3 * 1000) / (3 * 600 + 200)
    assert seconds(tuning, folds) / seconds(tuning, one_split) == pytest.approx(expected, rel=0.02)


def test_a_busy_machine_and_more_photographs_take_longer(defaults):
    assert seconds(defaults, speed=Speed(multiply_adds=30e9, share=0.2)) > 4 * seconds(defaults)
    assert seconds(defaults, Counts(15_740, 3_940, 6_560, 2)) > 5 * seconds(defaults)
    assert seconds(defaults, Counts(1574, 394, 656, 100)) > 1.2 * seconds(defaults)


def test_a_network_of_unknown_cost_has_no_estimate(defaults):
    assert time_needed.estimate(changed(defaults, backbone={"name": "VGG16"}), SOLAR_CELLS, 1e-3, QUIET) is None


def test_the_speed_of_this_machine_is_measured():
    speed = time_needed.measure_speed(0.1)
    assert speed.multiply_adds > 1e8 and 0 < speed.share <= 1


@pytest.mark.parametrize(
    ("ends", "text"),
    [((24, 52), "20 to 50 seconds"), ((100, 230), "2 to 4 minutes"), ((2000, 9000), "1 to 3 hours")],
)
def test_a_range_is_short(ends, text):
    assert time_needed.text(ends) == text


SCORES = {
    "accuracy": 0.8, "accuracy_weighted": 0.8, "accuracy_weighted_low": 0.75, "accuracy_weighted_high": 0.844,
}  # fmt: skip


def test_the_last_line_has_result_interval_report_and_what_comes_next():
    line = outcome.last_line(SCORES, 655, Path("/a b/reports/report.html"))
    assert line.startswith(
        "result: 80.0% of the 655 test photographs are right (95% interval 75.0% to 84.4%); "
        "open /a b/reports/report.html; next: docs/guides/read-the-report.md explains it, "
    )
    assert "src/predict.py" in line and "make compare" in line and "\n" not in line


def test_weights_that_matter_are_named():
    assert "80.0% of the 655 test photographs, by weight, are right" in outcome.last_line(
        SCORES | {"accuracy": 0.7}, 655, Path("/r")
    )


def test_with_folds_each_photograph_is_said_to_be_tested():
    line = outcome.last_line(SCORES | {"accuracy": 0.7}, 125, Path("/r"), folds=True)
    assert "80.0% of the 125 photographs, each tested by a model that had not seen it, by weight, are right" in line


def test_a_model_with_a_threshold_is_said_to_answer_by_it():
    threshold = {"threshold": 0.1234, "test": {"precision": 0.55, "recall": 0.951}}
    line = outcome.last_line(SCORES, 655, Path("/r"), threshold=threshold)
    assert (
        "are right (95% interval 75.0% to 84.4%), if the likeliest class is predicted; predict.py predicts by a "
        "threshold, 0.123, with a precision of 55.0% and a recall of 95.1% there; open"
    ) in line


def test_only_all_are_all():
    nearly = SCORES | {"accuracy": 2623 / 2624, "accuracy_weighted": 2623 / 2624}
    assert "99.9% of the 2,624 test photographs are right" in outcome.last_line(nearly, 2624, Path("/r"))
    every = SCORES | {"accuracy": 1.0, "accuracy_weighted": 1.0}
    assert "100.0% of the 9 test" in outcome.last_line(every, 9, Path("/r"))


def test_what_has_no_interval_or_no_value_is_said_without():
    none = dict.fromkeys(SCORES)
    assert "nothing can be said of the 3 test photographs;" in outcome.last_line(none, 3, Path("/r"))
    assert "interval" not in outcome.last_line(SCORES | {"accuracy_weighted_low": None}, 3, Path("/r"))


@pytest.fixture
def results(tmp_path):
    """A folder with what the script reads, committed."""
    metrics = {"fine_tuned": {"test": SCORES}}
    for name, text in {
        "reports/metrics.json": json.dumps(metrics),
        "data/split.csv": "image_id,label,weight,group,split\na,x,1,a,test\nb,x,1,b,train\n",
        "params.yaml": "download: {source: elpv, elpv: {threshold: 0.5}, folder: {path: null}}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    identity = ["-c", "user.name=x", "-c", "user.email=x"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "run"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def result(folder: Path) -> list[str]:
    command = [sys.executable, ROOT / "src" / "result.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()


def test_after_a_run_on_other_photographs_the_branch_is_advised(results):
    assert [line.split(":")[0] for line in result(results)] == ["result"]
    (results / "params.yaml").write_text("download: {source: folder, folder: {path: /mine}}\n")
    lines = result(results)
    assert [line.split(":")[0] for line in lines] == ["git", "result"] and "git switch -c" in lines[0]
    assert f"of the 1 test photographs are right (95% interval 75.0% to 84.4%); open {results}/reports" in lines[1]


@pytest.mark.parametrize("committed", ["download: {source: elpv}".encode("utf-16"), b"download: [", b"", b"- x"])
def test_a_commit_whose_parameters_cannot_be_read_brings_no_advice_about_git(results, committed):
    text = (results / "params.yaml").read_text()
    (results / "params.yaml").write_bytes(committed)
    identity = ["-c", "user.name=x", "-c", "user.email=x"]
    subprocess.run(["git", *identity, "commit", "-qam", "saved by an editor"], cwd=results, check=True)
    (results / "params.yaml").write_text(text)
    assert [line.split(":")[0] for line in result(results)] == ["result"]


def test_thresholds_of_several_labels_do_not_end_the_last_line(results):
    path = results / "reports/metrics.json"
    each = {"cat": {"threshold": 0.3, "reached": True}, "threshold": {"threshold": 0.4, "reached": False}}
    content = json.loads(path.read_text()) | {"threshold": {"fine_tuned": each}, "pairs": {}}
    path.write_text(json.dumps(content))
    assert "of the 1 test photographs are right" in result(results)[0]


def test_outside_of_git_there_is_no_advice_about_git(results):
    (results / ".git").rename(results / "git")
    (results / "params.yaml").write_text("download: {source: folder, folder: {path: /mine}}\n")
    assert [line.split(":")[0] for line in result(results)] == ["result"]
