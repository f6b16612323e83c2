"""Runs of several labels among other runs: their main metric, what they are compared with, and what a person reads."""

import dataclasses
from pathlib import Path

import pytest
from test_experiments import FILES, entry, experiment, write_data

from thaw.core.metrics_file import MEAN_AVERAGE_PRECISION as MAP
from thaw.experiments import photographs, plot, runs, table, trials
from thaw.experiments.search import Trial
from thaw.guide import outcome


def multi_entry(rev: str, value: float | None, **parameters) -> dict:
    """Return what DVC shows of a run of several labels; like DVC, without what is null."""
    shown = entry(rev, 0.5, **parameters)
    shown["data"]["params"]["params.yaml"]["data"]["task"] = "multi"
    scores = {"micro_accuracy": 0.9} | ({} if value is None else {MAP: value, f"{MAP}_low": 0.5, f"{MAP}_high": 0.9})
    for file in shown["data"]["metrics"].values():
        if "fine_tuned" in file["data"]:
            file["data"]["fine_tuned"] = {"validation": scores, "test": scores}
    return shown


def commit(shown: dict) -> dict:
    return {"name": "main", "rev": shown["rev"], "data": shown["data"], "experiments": None}


def test_the_main_metric_of_a_run_of_several_labels_is_its_mean_average_precision():
    ((several,), _) = runs.parse([commit(multi_entry("a", 0.75))], FILES)
    assert several.measure == MAP
    assert several.accuracies["test"] == (0.75, 0.5, 0.9)
    ((single,), _) = runs.parse([commit(entry("b", 0.8))], FILES)
    assert single.measure == "accuracy_weighted" and single.accuracies["validation"].value == 0.8
    assert runs.parse([commit(multi_entry("a", None))], FILES)[0] == []


def several(name: str, value: float, data: runs.Data = runs.UNKNOWN_DATA) -> runs.Experiment:
    return dataclasses.replace(experiment(name, value), data=data, measure=MAP)


def test_the_table_and_the_picture_name_it():
    rows = table.make([several("a", 0.7), several("b", 0.8)], [])
    assert rows[0] == ["experiment", "validation mAP", "test mAP", "cost"]
    assert table.make([experiment("a", 0.7)], [])[0] == ["experiment", "validation", "test", "cost"]
    assert ">Mean average precision<" in plot.draw([several("a", 0.7), several("b", 0.8)], [])
    assert ">Accuracy<" in plot.draw([experiment("a", 0.7), experiment("b", 0.8)], [])


def write_labels(cache: Path, name: str, values: list[int]) -> str:
    rows = [f"raw{i},sheep,{value},1.0" for i, value in enumerate(values)]
    (cache / name).write_text("\n".join(["image_id,label,value,weight", *rows]))
    return name


@pytest.mark.parametrize("in_cache", [True, False])
def test_a_run_of_one_label_is_not_compared_with_one_of_several(tmp_path, in_cache):
    data = write_data(tmp_path, "raw", "x", "rvtt")
    data = data._replace(labels=write_labels(tmp_path, "none", []))
    if not in_cache:
        (tmp_path / "x").unlink()
    one = dataclasses.replace(experiment("one", 0.9), data=data)
    other = several("other", 0.8, data)
    comparable, ((reason, others),) = photographs.Catalogue(tmp_path.joinpath).partition([one, other], one)
    assert ([row.name for row in comparable], others) == (["one"], [other])
    assert reason == "another task, measured by mean average precision and not by weighted accuracy"


def test_runs_of_several_labels_are_compared_only_where_the_same_is_known_of_the_test_photographs(tmp_path):
    data = write_data(tmp_path, "raw", "x", "rvtt")
    known = {"same": [1, 0, 1, 0], "train": [0, 0, 1, 0], "test": [1, 0, 1, 1]}
    datas = {name: data._replace(labels=write_labels(tmp_path, name, values)) for name, values in known.items()}
    run, train, test = (several(name, 0.9, of) for name, of in datas.items())
    comparable, ((reason, others),) = photographs.Catalogue(tmp_path.joinpath).partition([run, train, test], run)
    assert [row.name for row in comparable] == ["same", "train"]
    assert [row.name for row in others] == ["test"]
    assert reason == "the same test photographs, 1 of 2 with another label or weight"


def test_a_run_of_one_label_is_the_same_with_a_table_of_several_that_is_empty_and_without_one(tmp_path):
    before = write_data(tmp_path, "raw", "x", "rvtt")
    now = before._replace(labels=write_labels(tmp_path, "none", []))
    one, other = (dataclasses.replace(experiment(name, 0.9), data=of) for name, of in (("a", before), ("b", now)))
    comparable, apart = photographs.Catalogue(tmp_path.joinpath).partition([one, other], one)
    assert len(comparable) == 2 and apart == []


def test_trials_of_a_search_name_what_they_show():
    trial = Trial({"task": "multi", "fine_tune.prune_above": []}, [0.5, 0.4], 1, accuracy=0.8)
    assert "mAP, both on validation" in trials.as_text({"search-000": trial}, {})
    single = trial._replace(values={"task": "single", "fine_tune.prune_above": []})
    assert "accuracy, both on validation" in trials.as_text({"search-000": single}, {})


def test_the_last_line_of_a_run_says_the_mean_average_precision_and_the_known_pairs():
    scores = {MAP: 0.831, f"{MAP}_low": 0.79, f"{MAP}_high": 0.87, "known_present": 1200, "known_absent": 3400}
    line = outcome.last_line(scores, 655, Path("/r"))
    expected = "the mean average precision on 655 test photographs (1,200 classes present and 3,400 absent) is 83.1%"
    assert f"result: {expected} (95% interval 79.0% to 87.0%); open /r" in line
    assert "nothing can be said of the 3 test photographs" in outcome.last_line(dict.fromkeys(scores), 3, Path("/r"))
