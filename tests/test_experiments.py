"""Experiments: what is tried, in which order, which is best, and what a run does to the repository."""

import contextlib
import dataclasses
import datetime
import functools
import json
import os
import re
import shutil
import sys
import time
import xml.etree.ElementTree as ElementTree
from itertools import product
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL, Checkout, scripts_run

import compare
import search as search_script
import share
import sweep
from thaw.core.errors import ThawError
from thaw.experiments import (
    params_edit,
    photographs,
    plot,
    programs,
    ranking,
    remote,
    runs,
    search,
    sweeps,
    table,
    trials,
)
from thaw.experiments.runs import Data, Experiment
from thaw.experiments.search import Trial
from thaw.experiments.sweeps import Choice, Interval
from thaw.report.estimate import Estimate

DEFAULTS = ROOT / "params.yaml"
FILES = compare.FILES


def experiment(name: str, validation: float, cost: float | None = None, test: float = 0.5, **parameters) -> Experiment:
    accuracies = {"validation": Estimate(validation, validation - 0.02, validation + 0.02), "test": Estimate(test)}
    return Experiment(name, f"{name}-hash", {k.replace("__", "."): v for k, v in parameters.items()}, accuracies, cost)


def entry(rev: str, validation: float, name: str | None = None, **parameters) -> dict:
    """A commit as `dvc exp show --json` has it, with parameters of one section."""
    scores = {"accuracy_weighted": validation, "accuracy_weighted_low": 0.1}  # DVC leaves out what is null
    metrics = {
        "reports/metrics.json": {"data": {"fine_tuned": {"validation": scores, "test": scores}}},
        "reports/fine_tune/metrics.json": {"data": {"tera_multiply_adds": 3.5}},
    }
    return {
        "rev": rev, "name": name, "experiments": None,
        "data": {"params": {"params.yaml": {"data": {"fine_tune": parameters}}}, "metrics": metrics},
    }  # fmt: skip


def experiment_entry(name: str, state: str | None, entry: dict) -> dict:
    return {"name": name, "executor": state and {"state": state}, "revs": [entry]}


# What DVC says


def test_experiments_are_read_with_their_parameters_accuracies_and_cost():
    baseline = entry("workspace", 0.8, epochs=3) | {
        "experiments": [experiment_entry("warm-up", None, entry("abc", 0.9, epochs=4))]
    }
    experiments, unfinished = runs.parse([baseline], FILES)
    assert {
        experiment.name: (experiment.parameters, experiment.accuracies["test"], experiment.training_cost)
        for experiment in experiments
    } == {
        "warm-up": ({"fine_tune.epochs": 4}, (0.9, 0.1, None), 3.5),
        "workspace": ({"fine_tune.epochs": 3}, (0.8, 0.1, None), 3.5),
    }
    assert unfinished == []


def test_the_same_run_in_several_places_is_one_under_the_name_of_the_experiment():
    head = entry("0123456789abcdef", 0.9, epochs=4) | {
        "experiments": [experiment_entry("applied", "success", entry("abc", 0.9, epochs=4))]
    }
    experiments, _ = runs.parse([entry("workspace", 0.9, epochs=4), head], FILES)
    assert [experiment.name for experiment in experiments] == ["applied", "workspace", "012345678"]
    assert [experiment.name for experiment in ranking.distinct(experiments)] == ["applied"]


def test_commits_that_are_asked_for_stand_under_the_names_they_were_asked_by():
    commits = [entry("a" * 40, 0.9, epochs=4), entry("b" * 40, 0.9, epochs=4)]
    experiments, _ = runs.parse([entry("workspace", 0.7), *commits], FILES, {"a" * 40: "HEAD", "b" * 40: "origin/main"})
    assert sorted(experiment.name for experiment in experiments) == ["HEAD", "origin/main"]


@pytest.mark.parametrize("state", ["failed", "queued", "running"])
def test_what_is_not_finished_is_told_apart(state):
    baseline = entry("workspace", 0.8) | {"experiments": [experiment_entry("slow", state, entry("abc", 0.9))]}
    experiments, unfinished = runs.parse([baseline], FILES)
    assert [experiment.name for experiment in experiments] == ["workspace"]
    assert unfinished == [("slow", state)]


def test_a_commit_without_results_is_left_out():
    empty = entry("workspace", 0.8) | {"data": {"params": {}, "metrics": {"reports/metrics.json": {"error": {}}}}}
    assert runs.parse([empty, empty | {"data": None}], FILES) == ([], [])


def test_a_run_that_is_asked_for_or_an_experiment_without_results_is_said():
    commit = entry("a" * 40, 0.8) | {
        "data": None, "experiments": [experiment_entry("half", "success", {"rev": "b" * 40, "data": None})]
    }  # fmt: skip
    assert runs.parse([commit], FILES, {"a" * 40: "HEAD~1"}) == (
        [],
        [("half", runs.NO_RESULTS), ("HEAD~1", runs.NO_RESULTS)],
    )


def test_what_belongs_to_another_project_of_the_repository_is_no_part_of_a_run():
    run = entry("a" * 40, 0.9, epochs=4)
    deps = {"sub/src/thaw/training": {"hash": "1"}, "src/other.py": {"hash": "2"}, "other/images.csv": {"hash": "3"}}
    data = {kind: {f"sub/{path}": file for path, file in files.items()} for kind, files in run["data"].items()}
    data["params"]["params.yaml"] = {"data": {"other": 1}}
    data["metrics"]["other/metrics.json"] = {"data": {"head": {}}}
    ((found,), _) = runs.parse([run | {"data": data | {"deps": deps}}], FILES, project="sub/")
    assert found.parameters == {"fine_tune.epochs": 4}
    assert found.code == repr([("src/thaw/training", "1")])
    assert found.data == Data(None, None)


def test_stages_of_ones_own_bring_no_parameters_no_results_and_no_photographs_of_a_run():
    run = entry("a" * 40, 0.9, epochs=4)
    run["data"]["deps"] = {path: {"hash": path} for path in ("data/raw/images.csv", "data/split.csv", "src/split.py")}
    ((plain,), _) = runs.parse([run], FILES)
    head = {"validation": {"accuracy_weighted": 0.1}, "test": {"accuracy_weighted": 0.1}}
    mine = {"folds": {"kept": "head"}, "head": head, "tera_multiply_adds": 99, "fine_tuned": {}}
    data = run["data"] | {
        "params": run["data"]["params"] | {"mine.yaml": {"data": {"x": 1}}, "farm/params.yaml": {"data": {"y": 1}}},
        "metrics": run["data"]["metrics"] | {"farm/metrics.json": {"data": mine}, "count.json": {"data": 5}},
        "deps": run["data"]["deps"] | {f"farm/{name}.csv": {"hash": "x"} for name in ("images", "split", "labels")},
    }
    assert runs.parse([run | {"data": data}], FILES) == ([plain], [])
    assert plain.data == Data("data/raw/images.csv", "data/split.csv", None)


LOCK = {
    "split": {
        "params": {"params.yaml": {"fine_tune": {"seed": 1, "rate": 1e-5, "after": datetime.date(2024, 5, 1)}}},
        "outs": [{"path": "data/split.csv", "md5": "new"}],
    },
    "evaluate": {
        "deps": [{"path": "data/split.csv", "md5": "new"}],
        "params": {"params.yaml": {"fine_tune.rate": 1e-5}, "mine.yaml": {"fine_tune.seed": 7}},
        "outs": [{"path": "reports/metrics.json", "md5": "x"}],
    },
    "mine": {"deps": [{"path": "src/mine.py", "md5": "1"}], "params": {"params.yaml": {"fine_tune.seed": 8}}},
    "mine too": {"deps": [{"path": "src/mine.py", "md5": "2"}]},
}


@pytest.mark.parametrize(
    ("changed", "lock", "is_shown"),
    [
        ({}, LOCK, True),
        ({"new": 1}, LOCK, True),
        ({}, {}, True),
        ({"seed": 2}, LOCK, False),
        ({"rate": 1e-4}, LOCK, False),
        ({}, LOCK | {"split": LOCK["split"] | {"outs": [{"path": "data/split.csv", "md5": "newer"}]}}, False),
    ],
    ids=["as run", "new parameter", "no lock", "edited", "edited for one stage", "interrupted"],
)
def test_results_are_those_of_the_parameters_and_files_that_ran_or_are_not_shown(changed, lock, is_shown):
    parameters = {"seed": 1, "rate": 1e-5, "after": "2024-05-01"} | changed
    run, other = entry("workspace", 0.9, **parameters), entry("a" * 40, 0.8)
    locks = {"workspace": {"stages": lock}, "a" * 40: {}}
    experiments, unfinished = runs.parse([run, other], FILES, lock_of=locks.get)
    assert [experiment.name for experiment in experiments] == ["workspace"] * is_shown + ["aaaaaaaaa"]
    assert unfinished == [("workspace", runs.OUT_OF_DATE)] * (not is_shown)


def test_stages_that_are_frozen_or_gone_do_not_make_a_run_out_of_date(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = {"path": "src/thaw/core", "md5": "new"}
    lock = {
        "download": {"deps": [code | {"md5": "old"}], "outs": [{"path": "data/raw", "md5": "1"}]},
        "evaluate": {
            "deps": [code, {"path": "data/raw", "md5": "1"}], "outs": [{"path": "reports/metrics.json", "md5": "2"}]
        },
        "before": {"outs": [{"path": "data/raw", "md5": "0"}]},
    }  # fmt: skip
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": lock}))
    for frozen in (True, False):
        stages = {"download": {"cmd": "x", "frozen": frozen}, "evaluate": {"cmd": "y"}}
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        experiments, _ = runs.parse([entry("workspace", 0.9)], FILES, lock_of=functools.partial(runs._lock_of, FILES))
        assert len(experiments) == frozen


def test_a_run_whose_test_labels_weigh_nothing_is_listed_all_the_same():
    weightless = entry("a" * 40, 0.8, a__seed=1)
    weightless["data"]["metrics"]["reports/metrics.json"]["data"]["fine_tuned"]["test"] = {"accuracy": 0.9}
    other = weightless | {
        "rev": "b" * 40,
        "data": weightless["data"] | {"params": entry("b", 0, seed=2)["data"]["params"]},
    }
    experiments, _ = runs.parse([weightless, other], FILES)
    assert len(experiments) == 2
    for several in (experiments, ranking.average_repeats(experiments)):
        assert all(row[2] == "–" and row[1].startswith("80.0%") for row in table.make(several, [])[1:])
        assert "80.0%" in plot.draw(several, [])


def test_runs_of_other_scripts_or_packages_are_of_other_code_and_runs_on_other_data_are_not():
    def code(**hashes: str) -> str:
        dependencies = {"src/evaluate.py": "a", "src/thaw/core": "b", "data/raw": "c"} | hashes
        commit = entry("workspace", 0.8)
        commit["data"]["deps"] = {path: {"hash": value} for path, value in dependencies.items()}
        ((experiment,), _) = runs.parse([commit], FILES)
        return experiment.code

    assert code(**{"src/evaluate.py": "x"}) != code() != code(**{"src/thaw/core": "x"})
    assert code(**{"data/raw": "x"}) == code()


# What differs, and what repeats say


def test_what_changed_leaves_seeds_limits_and_what_one_does_not_have_aside():
    several = [
        experiment("a", 0.8, a__rate=1, a__depth="x", a__seed=1, fine_tune__prune_above=[], a__same=1),
        experiment("b", 0.8, a__rate=1, a__depth="y", a__seed=2, fine_tune__prune_above=[1.0], a__same=1, a__new=1),
        experiment("c", 0.8, a__rate=2, a__depth="z", a__seed=3, fine_tune__prune_above=[], a__same=1, a__new=1),
    ]
    assert ranking.changed_parameters(several) == ["a.depth", "a.rate"]  # the one with more values first


def test_runs_over_seeds_are_their_mean_with_a_standard_deviation():
    repeats = [
        experiment(f"run{seed}", accuracy, 4.0, a__rate=1, a__seed=seed)
        for seed, accuracy in enumerate((0.8, 0.9, 0.7))
    ]
    other = experiment("other", 0.6, a__rate=2, a__seed=0)
    mean, alone = ranking.average_repeats([*repeats, other])
    assert (mean.name, mean.training_cost, alone) == ("run0 ×3", 4.0, other)
    assert mean.accuracies["validation"] == pytest.approx((0.8, 0.7, 0.9))
    assert ranking.spread(mean) == pytest.approx(0.1)
    assert ranking.spread(alone) is None


def test_repeats_over_other_seeds_are_told_apart():
    repeats = [
        experiment(f"run{order}{split}", accuracy, a__seed=order, b__seed=split)
        for order, split, accuracy in ((1, 1, 0.8), (2, 1, 0.81), (1, 2, 0.9), (1, 3, 0.6))
    ]
    means = ranking.average_repeats(repeats)
    named = [("run11 ×2 over a.seed", 2), ("run11 ×3 over b.seed", 3)]
    assert sorted((mean.name, len(mean.repeats)) for mean in means) == named
    assert min(ranking.spread(mean) for mean in means) == pytest.approx(0.01 / 2**0.5)


def test_the_name_of_an_experiment_is_never_cut_and_a_value_is():
    name = "sapid-dews ×3 over fine_tune.seed and head.seed"
    text = table.as_text([["experiment", "depth"], [name, "d" * 40]], width=200)
    assert text.splitlines()[1] == f"{name}  {'d' * 23}…"


def test_a_table_is_cut_at_the_width_of_the_terminal():
    text = table.as_text([["experiment", "validation"], ["a", "80.0%"]], width=14)
    assert text == "experiment  va\na           80"


def test_a_row_has_the_accuracies_the_cost_and_what_was_changed():
    several = [experiment("a", 0.8, 1234.5, a__rate=0.1, a__flip=True), experiment("b", 0.9, b__rate=2)]
    assert table.make(several, ["a.rate", "b.rate", "a.flip"]) == [
        ["experiment", "validation", "test", "cost", "a.rate", "b.rate", "flip"],
        ["a", "80.0% (78.0–82.0)", "50.0%", "1,234.5", "0.1", "", "true"],
        ["b", "90.0% (88.0–92.0)", "50.0%", "", "", "2", ""],
    ]
    (mean,) = ranking.average_repeats([experiment(f"run{seed}", 0.8 + seed / 10, a__seed=seed) for seed in (0, 1)])
    assert table.make([mean], [])[1] == ["run0 ×2", "85.0% ± 7.1", "50.0% ± 0.0", ""]


def test_a_table_in_markdown_has_no_cell_that_ends_early():
    assert table.as_markdown([["a", "b"], ["x|y", "z"]]) == "| a | b |\n| --- | --- |\n| x&#124;y | z |"


def test_of_seeds_that_cross_only_runs_that_differ_in_one_are_repeats():
    repeats = [experiment(f"run{a}{b}", 0.8, a__seed=a, b__seed=b) for a in (1, 2, 3) for b in (1, 2)]
    names = {experiment.name for experiment in ranking.average_repeats(repeats)}
    assert names == {"run11 ×3 over a.seed", "run11 ×2 over b.seed", "run22", "run32"}


def test_a_diagonal_of_seeds_that_cross_is_no_repeat():
    repeats = [experiment(f"run{a}{b}", 0.8, a__seed=a, b__seed=b) for a in (1, 2) for b in (1, 2)]
    names = {experiment.name for experiment in ranking.average_repeats(repeats)}
    assert names == {"run11 ×2 over a.seed", "run11 ×2 over b.seed", "run22"}


def test_of_seeds_that_all_cross_elsewhere_than_at_the_first_run_each_run_stays():
    crossed = [experiment(f"run{a}{b}", 0.8, a__seed=a, b__seed=b) for a, b in ((1, 1), *product((2, 3), (2, 3)))]
    assert ranking.average_repeats(crossed) == crossed


def test_seeds_that_move_together_make_repeats():
    repeats = [experiment(f"run{seed}", 0.8, a__seed=seed, b__seed=seed) for seed in (1, 2, 3)]
    assert [experiment.name for experiment in ranking.average_repeats(repeats)] == ["run1 ×3"]


def test_the_rival_of_the_best_differs_from_it_in_more_than_its_seeds():
    repeats = [
        experiment(f"run{a}", accuracy, a__seed=a, b__x=x) for a, x, accuracy in ((1, 1, 0.9), (2, 1, 0.8), (3, 2, 0.7))
    ]
    assert ranking.find_rival(repeats) is repeats[2]
    assert ranking.find_rival(repeats[:2]) is ranking.find_rival(repeats[:1]) is None
    other = dataclasses.replace(repeats[1], code="other")
    assert ranking.find_rival([repeats[0], other]) is other


def test_a_seed_that_older_code_did_not_have_makes_no_repeats():
    repeats = [experiment("older", 0.8, a__seed=1), experiment("newer", 0.9, a__seed=1, b__seed=1)]
    assert ranking.average_repeats(repeats) == repeats


def test_limits_of_a_search_make_no_repeats():
    repeats = [
        experiment(name, 0.8, a__seed=1, fine_tune__prune_above=limits) for name, limits in (("a", []), ("b", [1]))
    ]
    assert ranking.average_repeats(repeats) == repeats


def test_a_trial_whose_limits_ended_nothing_is_the_run_that_repeats_it():
    trial = experiment("trial", 0.8, a__seed=1, fine_tune__prune_above=[None, 0.4])
    repeats = [experiment(f"run{seed}", 0.8 + seed / 100, a__seed=seed, fine_tune__prune_above=[]) for seed in (1, 2)]
    same = [trial, experiment("run1", 0.8, a__seed=1, fine_tune__prune_above=[]), repeats[1]]
    assert ranking.distinct(same) == [trial, repeats[1]]
    assert ranking.distinct([trial, *repeats]) == [trial, *repeats]  # its results are others: it was ended
    (mean,) = ranking.average_repeats(ranking.distinct(same))
    assert mean.name == "trial ×2"


def test_results_of_other_code_are_no_repeats():
    repeats = [experiment("before", 0.8, a__seed=1), experiment("after", 0.9, a__seed=1)]
    assert ranking.average_repeats(repeats) == repeats
    older = dataclasses.replace(experiment("older", 0.8, a__seed=2), code="other")
    assert ranking.average_repeats([older, repeats[0]]) == [older, repeats[0]]


def test_a_gain_below_the_spread_of_seeds_is_said_to_be_one():
    repeats = [experiment(f"run{seed}", accuracy, a__seed=seed) for seed, accuracy in enumerate((0.8, 0.9))]
    (mean,) = ranking.average_repeats(repeats)
    assert "0.5 points before other: no more than the spread" in ranking.verdict(mean, experiment("other", 0.845))
    assert "25.0 points before other: more than the spread" in ranking.verdict(mean, experiment("other", 0.6))


def test_seeds_that_change_nothing_and_equal_results_are_said_to_be_such():
    (mean,) = ranking.average_repeats([experiment(f"run{seed}", 0.9, a__seed=seed) for seed in range(3)])
    assert "the seeds that were tried change nothing" in ranking.verdict(mean, experiment("other", 0.8))
    assert ranking.verdict(experiment("a", 0.9), experiment("b", 0.9)) == "On validation a is as good as b."


def test_of_single_runs_the_verdict_asks_for_repeats():
    assert "src/sweep.py --seeds" in ranking.verdict(experiment("a", 0.9), experiment("b", 0.8))


# The picture


def drawn(several, keys):
    text = plot.draw(several, keys)
    root = ElementTree.fromstring(text)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    return root, texts, circles


def test_the_picture_has_a_dot_and_a_ring_for_each_experiment_in_both_panels():
    several = [experiment("a", 0.8, 2.0, a__rate=0.1), experiment("b", 0.9, 9.0, a__rate=0.01)]
    _, texts, circles = drawn(several, ["a.rate"])
    assert len(circles) == 2 * 2 * 2
    assert texts.index("0.01") < texts.index("0.1")


def test_what_is_no_number_stands_in_the_order_of_its_cost():
    several = [experiment("a", 0.8, 9.0, a__depth="block3"), experiment("b", 0.9, 2.0, a__depth="block6")]
    _, texts, _ = drawn(several, ["a.depth"])
    assert texts.index("block6") < texts.index("block3")


def test_a_second_parameter_is_told_by_colour():
    several = [
        experiment(f"{depth}{rate}", 0.8, 2.0, a__depth=depth, a__rate=rate)
        for depth in ("x", "y", "z")
        for rate in (1, 2)
    ]
    _, texts, circles = drawn(several, ["a.depth", "a.rate"])
    assert {"rate 1", "rate 2"} <= set(texts)
    assert len({c.get("fill") or c.get("stroke") for c in circles}) == 2


def test_many_values_are_not_all_named_and_few_come_first():
    several = [experiment(f"e{i}", 0.8, 1.0, a__rate=i / 100, a__depth="xyz"[i % 3]) for i in range(20)]
    _, texts, _ = drawn(several, ["a.rate", "a.depth"])
    assert {"x", "y", "z"} <= set(texts)
    _, texts, _ = drawn(several, ["a.rate"])
    assert len([text for text in texts if text in {f"{i / 100:g}" for i in range(1, 20)}]) <= 8


def test_a_name_cannot_break_the_picture():
    drawn([experiment("<a&b>", 0.8, 1.0, a__x="<&>"), experiment("b", 0.8, 1.0, a__x='"')], ["a.x"])


# What was measured on other photographs

STANDS_IN = """
import csv, json, pathlib, random
import yaml

params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
rows = [line.split() for line in pathlib.Path(params["download"]["folder"]["path"]).read_text().splitlines()]
"""
DOWNLOAD = """
raw = pathlib.Path("data/raw")
raw.mkdir(parents=True, exist_ok=True)
with (raw / "images.csv").open("w") as file:
    names = "image_id path label weight source license author landing_url sha256 width height".split()
    table = [[n, n, label, 1.0, "", "", "", "", "hash of " + n, 9, 9] for n, label, _ in rows]
    csv.writer(file).writerows([names, *table])
"""
SPLIT = """
if params["split"]["seed"] > 1:  # any other split
    splits = [split for _, _, split in rows]
    random.Random(params["split"]["seed"]).shuffle(splits)
    rows = [(n, label, split) for (n, label, _), split in zip(rows, splits)]
with open("data/split.csv", "w") as file:
    names = "image_id label weight group split".split()
    csv.writer(file).writerows([names, *([n, label, 1.0, n, split] for n, label, split in rows)])
"""
EVALUATE = """
scores = {"accuracy_weighted": params["evaluate"]["bins"] / 100}
pathlib.Path("reports").mkdir(exist_ok=True)
pathlib.Path("reports/metrics.json").write_text(json.dumps({"fine_tuned": {"validation": scores, "test": scores}}))
"""
PHOTOGRAPHS = [f"photo{i:02} {'ab'[i % 2]} {('train', 'train', 'validation', 'test')[i // 2 % 4]}" for i in range(24)]


@pytest.fixture
def quick(quick_once, tmp_path):
    shutil.copytree(quick_once, tmp_path / "quick", symlinks=True)
    return Checkout(tmp_path / "quick")


@pytest.fixture(scope="module")
def quick_once(tmp_path_factory, dvc_of_its_own):
    """A repository of DVC whose stages stand in for the pipeline: they write its tables and figures in no time.

    The first commit is measured on other photographs than the workspace.
    """
    checkout = Checkout(tmp_path_factory.mktemp("scratch") / "quick")
    path = checkout.path
    shutil.copytree(ROOT / "src", path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name, code in (("download", DOWNLOAD), ("split", SPLIT), ("evaluate", EVALUATE)):
        (path / f"{name}.py").write_text(STANDS_IN + code)
    images = "data/raw/images.csv"
    deps = {"download": [], "split": [images], "evaluate": [images, "data/split.csv"]}
    outs = {"download": [images], "split": ["data/split.csv"]}
    stages = {
        name: {"cmd": f"{sys.executable} {name}.py", "deps": deps[name], "params": [name], "outs": outs.get(name, [])}
        for name in deps
    }
    stages["evaluate"]["metrics"] = [{"reports/metrics.json": {"cache": False}}]
    (path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (path / "params.yaml").write_text(
        "download:\n  folder:\n    path: cells.txt\nsplit:\n  seed: 1\nevaluate:\n  bins: 90\n  seed: 1\n"
    )
    (path / "cells.txt").write_text("\n".join(PHOTOGRAPHS).replace("photo", "cell"))
    (path / "own.txt").write_text("\n".join(PHOTOGRAPHS))
    checkout.run("git", "init", "--quiet", "--initial-branch", "main", check=True)
    assert checkout.dvc("init", "--quiet").returncode == 0
    checkout.repro()
    checkout.run("git", "add", "--all", check=True)
    checkout.run("git", "commit", "--quiet", "--message", "solar cells", check=True)
    checkout.set(download__folder__path="own.txt", evaluate__bins=80)
    checkout.repro()
    return path


def compared(checkout, *arguments: str) -> tuple[list[str], str]:
    """The lines of the first table, and all lines after it."""
    result = thaw(checkout, "compare", *arguments)
    assert result.returncode == 0, result.stderr
    rows, _, rest = result.stdout.partition("\n\n")
    return rows.splitlines(), rest


def names(rows: list[str]) -> list[str]:
    return [row.split("  ")[0] for row in rows[1:]]


def test_a_run_on_other_photographs_is_set_apart_with_the_reason(quick):
    rows, rest = compared(quick)
    assert names(rows) == ["workspace"]
    assert "points before" not in rest
    assert "as good as" not in rest
    assert "Not compared with workspace: other data, 0 of 6 test photographs are among its 6.\n" in rest
    assert re.search(r"^main +90\.0% ", rest, re.MULTILINE)
    assert "compare: 2 runs; reports/comparison.svg, 1 row on other test photographs not drawn" in rest
    picture = (quick.path / "reports/comparison.svg").read_text()
    assert "main, test" not in picture
    assert "workspace, test" in picture
    assert "1 row on other test photographs not drawn" in picture


def test_a_run_on_other_photographs_is_set_apart_in_markdown_too(quick):
    quick.run("git", "commit", "--quiet", "--all", "--message", "own", check=True)
    rows, rest = compared(quick, "--md", "HEAD", "HEAD~1")
    assert rows[1:] == ["| --- | --- | --- | --- |", "| HEAD | 80.0% | 80.0% |  |"]
    assert "Not compared with HEAD: other data" in rest
    assert "| HEAD~1 | 90.0% | 90.0% |  |" in rest


def test_more_photographs_to_train_on_are_compared_on_the_same_test_photographs(quick):
    quick.run("git", "commit", "--quiet", "--all", "--message", "own", check=True)
    more = [*PHOTOGRAPHS, "new0 a train", "new1 b train"]
    (quick.path / "own.txt").write_text("\n".join(more))
    quick.set(evaluate__bins=85)
    quick.repro("-f")
    rows, rest = compared(quick)
    assert names(rows) == ["workspace", "main"]
    assert "On validation workspace is 5.0 points before main" in rest
    assert "Not compared" not in rest
    assert "training photographs" in rows[0]
    assert [row.split()[-1] for row in rows[1:]] == ["14", "12"]


def test_other_validation_photographs_are_marked_and_give_no_verdict(quick):
    quick.run("git", "commit", "--quiet", "--all", "--message", "own", check=True)
    (quick.path / "own.txt").write_text("\n".join([*PHOTOGRAPHS, "new0 a validation"]))
    quick.set(evaluate__bins=85)
    quick.repro("-f")
    rows, rest = compared(quick)
    assert names(rows) == ["workspace", "main"]
    assert "points before" not in rest
    assert "* on other validation photographs than workspace" in rest
    assert "80.0%*" in rows[2]


def test_changed_labels_of_test_photographs_are_said(quick):
    quick.run("git", "commit", "--quiet", "--all", "--message", "own", check=True)
    corrected = [line.replace(" a test", " b test", 1) for line in PHOTOGRAPHS]
    (quick.path / "own.txt").write_text("\n".join(corrected))
    quick.repro("-f")
    rows, rest = compared(quick)
    assert names(rows) == ["workspace"]
    assert "the same test photographs, 3 of 6 with another label or weight." in rest


def test_a_workspace_that_was_edited_has_no_row_and_the_commit_stands_in_its_place(quick):
    quick.run("git", "commit", "--quiet", "--all", "--message", "own", check=True)
    assert names(compared(quick)[0])[0] == "workspace"  # and the commit, which is the same run
    quick.set(evaluate__seed=2)
    rows, rest = compared(quick)
    assert names(rows) == ["main"]
    assert rest.startswith(f"workspace: {runs.OUT_OF_DATE}\n")
    quick.run("git", "commit", "--quiet", "--all", "--message", "not run", check=True)
    result = thaw(quick, "compare")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"thaw: workspace: {runs.OUT_OF_DATE}\n"


def test_a_workspace_whose_run_was_interrupted_has_no_row(quick):
    quick.run("git", "commit", "--quiet", "--all", "--message", "own", check=True)
    quick.set(download__folder__path="cells.txt")
    quick.repro("split")  # and not evaluate
    rows, rest = compared(quick)
    assert names(rows) == ["main"]
    assert rest.startswith(f"workspace: {runs.OUT_OF_DATE}\n")
    quick.repro()
    assert names(compared(quick)[0])[0] == "workspace"


def write_data(cache: Path, raw: str, split: str, splits: str) -> Data:
    """Write the tables of a run into a folder that stands for DVC's cache; `splits` has the first letter of each."""
    names = {"r": "train", "v": "validation", "t": "test"}
    images = [f"{raw}{i},hash of {raw} {i}" for i in range(len(splits))]
    (cache / f"{raw}.dir").write_text(json.dumps([{"relpath": "images.csv", "md5": f"{raw}.csv"}]))
    (cache / f"{raw}.csv").write_text("\n".join(["image_id,sha256", *images]))
    rows = [f"{raw}{i},a,1.0,{names[letter]}" for i, letter in enumerate(splits)]
    (cache / split).write_text("\n".join(["image_id,label,weight,split", *rows]))
    return Data(f"{raw}.csv", split)


def test_a_mean_over_splits_is_compared_with_one_over_the_same_splits_only(tmp_path):
    splits = [write_data(tmp_path, "raw", name, letters) for name, letters in (("x", "rvtr"), ("y", "trvr"))]
    repeats = [
        dataclasses.replace(experiment(f"bins{bins}-{seed}", bins, split__seed=seed, bins=bins), data=data)
        for bins in (0.7, 0.8)
        for seed, data in enumerate(splits)
    ]
    alone = dataclasses.replace(experiment("alone", 0.9, split__seed=0, bins=0.9), data=splits[0])
    rows = ranking.average_repeats([*repeats, alone])
    catalogue = photographs.Catalogue(tmp_path.joinpath)
    comparable, ((reason, others),) = catalogue.partition(rows, repeats[0])
    assert [row.name for row in comparable] == ["bins0.7-0 ×2", "bins0.8-0 ×2"]
    assert (reason, others) == ("other splits of the same data, 1 where it has 2", [alone])
    comparable, ((reason, others),) = catalogue.partition(rows, alone)
    assert comparable == [alone]
    assert (reason, len(others)) == ("other splits of the same data, 2 where it has 1", 2)


@pytest.mark.parametrize("raw", ["raw.csv", "raw.dir"])  # the second as earlier versions have it in dvc.lock
def test_another_split_says_how_many_test_photographs_are_shared(tmp_path, raw):
    datas = [write_data(tmp_path, "raw", name, letters) for name, letters in (("x", "rvtt"), ("y", "rtvt"))]
    datas = [data._replace(raw=raw) for data in datas]
    one, other = (dataclasses.replace(experiment(data.split, 0.9), data=data) for data in datas)
    _, ((reason, _),) = photographs.Catalogue(tmp_path.joinpath).partition([one, other], one)
    assert reason == "another split of the same data, 1 of 2 test photographs are among its 2"


def test_the_same_test_photographs_with_another_weight_are_not_compared(tmp_path):
    data = write_data(tmp_path, "raw", "x", "rvtt")
    (tmp_path / "y").write_text((tmp_path / "x").read_text().replace("1.0,test", "0.5,test", 1))
    one, other = (dataclasses.replace(experiment(d.split, 0.9), data=d) for d in (data, data._replace(split="y")))
    comparable, ((reason, _),) = photographs.Catalogue(tmp_path.joinpath).partition([one, other], one)
    assert [row.name for row in comparable] == ["x"]
    assert "1 of 2 with another label or weight" in reason


def with_folds(cache: Path, data: Data, name: str, folds: str) -> Data:
    """Write the same split with a column of folds, a digit each, as `split.folds` has it."""
    header, *rows = (cache / data.split).read_text().splitlines()
    rows = [f"{row.rpartition(',')[0]},train,{fold}" for row, fold in zip(rows, folds, strict=True)]
    (cache / name).write_text("\n".join([f"{header},fold", *rows]))
    return data._replace(split=name)


def test_with_folds_every_photograph_is_one_of_test_and_other_folds_are_the_same_photographs(tmp_path):
    split = write_data(tmp_path, "raw", "x", "rrvtrrvt")
    three, other = (
        with_folds(tmp_path, split, name, digits) for name, digits in (("y", "01201201"), ("z", "00112233"))
    )
    one, two, apart = (dataclasses.replace(experiment(d.split, 0.9), data=d) for d in (three, other, split))
    catalogue = photographs.Catalogue(tmp_path.joinpath)
    comparable, ((reason, others),) = catalogue.partition([one, two, apart], one)
    assert [(row.name, row.other_validation) for row in comparable] == [("y", False), ("z", False)]
    assert others == [apart] and reason == "another split of the same data, 2 of 2 test photographs are among its 8"
    counted = catalogue.with_training_counts([one, two])
    assert [row.parameters[photographs.TRAINING] for row in counted] == [2.7, 4.0]  # of 8: a third, and half of them


@pytest.mark.parametrize("datas", [(Data("x", "s"), Data("y", "s")), (Data("x", "s", "1"), Data("x", "s", "2"))])
def test_runs_on_other_photographs_or_labels_are_no_repeats_and_not_the_same_run(datas):
    runs_ = [
        dataclasses.replace(experiment(f"run{seed}", 1.0, a__seed=seed), data=data)
        for seed, data in enumerate(datas, start=1)
    ]
    assert ranking.average_repeats(runs_) == runs_
    same = [dataclasses.replace(run, parameters={"a.seed": 1}) for run in runs_]
    assert ranking.distinct(same) == same


def test_photographs_that_the_cache_does_not_have_are_not_taken_for_the_same(quick):
    shutil.rmtree(quick.path / ".dvc/cache/files")
    rows, rest = compared(quick)
    assert names(rows) == ["workspace"]
    assert "Not compared with workspace: other data, and DVC's cache here does not have its tables" in rest


def test_trials_on_other_validation_photographs_are_left_out_and_counted(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("a: {rate: 1}\n")
    datas = [
        write_data(tmp_path, raw, f"{raw} split", letters)
        for raw, letters in (("old", "rvt"), ("new", "rvt"), ("new", "rvtr"))
    ]
    several = [
        dataclasses.replace(experiment(f"search-{i:03}", 0.9, a__rate=1), data=data) for i, data in enumerate(datas)
    ]
    monkeypatch.setattr(runs, "read", lambda files: (several, []))
    monkeypatch.setattr(photographs, "in_repository", lambda: photographs.Catalogue(tmp_path.joinpath))
    monkeypatch.setattr(trials, "_trial", lambda experiment, losses: experiment.name)
    found, left_out = trials.read(
        "search", {}, FILES._replace(parameters=str(tmp_path / "params.yaml")), Path("losses.tsv")
    )
    assert (list(found), left_out) == (["search-001", "search-002"], 1)
    several[1] = dataclasses.replace(several[1], code="edited since")
    found, left_out = trials.read(
        "search", {}, FILES._replace(parameters=str(tmp_path / "params.yaml")), Path("losses.tsv")
    )
    assert (list(found), left_out) == (["search-002"], 2)


def test_a_search_refuses_what_changes_the_photographs(tmp_path):
    with pytest.raises(ThawError, match=r"split\.seed changes the photographs, so trials could not be ranked"):
        trials.check(sweeps.parse(["split.seed=1,2"]), DEFAULTS, tmp_path / "none.json")


# Ranges


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=1,2", (1, 2)),
        ("a.b=choice(all,block6)", ("all", "block6")),
        ("a.b=range(1,4)", (1, 2, 3)),
        ("a.b=choice([1e-3],[1e-2,1])", ([1e-3], [1e-2, 1])),
        ("a.b=recall:0.95", ("recall:0.95",)),
        ("a.b=null", (None,)),
        ("a.b=1,2,1", (1, 2)),
        ("a.b=\"x y\",'z'", ("x y", "z")),
        ('a.b=["all","block6"],block5', (["all", "block6"], "block5")),
    ],
)
def test_values_are_listed_as_hydra_writes_them(text, values):
    assert sweeps.parse([text]) == {"a.b": Choice(values)}


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("a=interval(0,0.5)", Interval(0, 0.5)),
        ("a=interval(0,1)", Interval(0, 1)),
        ("a=interval(4,64)", Interval(4, 64, integer=True)),
        ("a=tag(log,interval(1e-5,1e-3))", Interval(1e-5, 1e-3, logarithmic=True)),
    ],
)
def test_intervals_are_spanned_as_hydra_writes_them(text, interval):
    assert sweeps.parse([text]) == {"a": interval}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a"], "is no KEY=VALUES"),
        (["a=choice("], "is no KEY=VALUES"),
        (["a=glob(*)"], "is no KEY=VALUES"),
        (["a=1", "a=2"], "a is given twice"),
        (["a=interval(2,1)"], "spans nothing"),
        (["a=tag(log,interval(0,1))"], "spans nothing"),
    ],
)
def test_what_is_no_range_is_one_line(texts, message):
    with pytest.raises(ThawError, match=message):
        sweeps.parse(texts)


def test_combinations_are_all_of_them_and_an_interval_has_none():
    combinations = list(sweeps.combinations(sweeps.parse(["a=1,2", "b=x,y"])))
    assert combinations == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(ThawError, match=r"src/search\.py"):
        list(sweeps.combinations(sweeps.parse(["a=interval(0,1)"])))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        1e-5,
        "block6",
        "recall:0.95",
        "two words",
        [0.001, None],
        ["a", "b"],
        "/d/Möbel 1",
        "/d/Möbel",
        ["ü"],
        "123",
        "1e-3",
        "-1",
        "null",
        "True",
        "NaN",
        "_1",
        "1:30",
    ],
)
def test_a_value_is_written_so_that_it_is_read_again(value):
    assert sweeps.parse([f"a={sweeps.set_param_text(value)}"]) == {"a": Choice((value,))}


@pytest.mark.parametrize("value", ["/d/Möbel 1", "/d/Möbel", ["ü", "b"], "2023", "1e-3", "null", "block5"])
def test_dvc_reads_a_value_as_it_was_meant(value, tmp_path):
    from dvc.utils.hydra import apply_overrides

    (tmp_path / "params.yaml").write_text("a: null\n")
    apply_overrides(tmp_path / "params.yaml", [f"a={sweeps.set_param_text(value)}"])
    assert yaml.safe_load((tmp_path / "params.yaml").read_text()) == {"a": value}


def test_changes_are_checked_as_the_stages_would():
    nowhere = Path("nowhere.json")
    params_edit.check(
        DEFAULTS, {"fine_tune.epochs": 3, "augment.rotation": 2, "fine_tune.freeze_depth": "any"}, nowhere
    )
    with pytest.raises(ThawError, match=r"fine_tune\.epochs"):
        params_edit.check(DEFAULTS, {"fine_tune.epochs": 0}, nowhere)
    with pytest.raises(ThawError, match=r"did you mean fine_tune\.epochs"):
        params_edit.check(DEFAULTS, {"fine_tune.epoch": 3}, nowhere)


@pytest.mark.parametrize(
    "changes", [{"evaluate.threshold": "best_f1"}, {"head.kind": "network", "head.output": "sigmoid"}]
)
def test_changes_that_do_not_fit_the_classes_are_refused_before_any_experiment(changes, tmp_path):
    source = tmp_path / "source.json"
    for classes, is_wrong in (["a", "b"], False), (["a", "b", "c"], True):
        source.write_text(json.dumps({"classes": classes}))
        with pytest.raises(ThawError, match="needs two classes") if is_wrong else contextlib.nullcontext():
            params_edit.check(DEFAULTS, changes, Path("nowhere.json"), source)
    params_edit.check(DEFAULTS, changes | {"download.elpv.threshold": 0.2}, Path("nowhere.json"), source)


def test_a_section_cannot_have_a_value_beside_what_is_in_it():
    for changes in ({"split": 3, "split.seed": 1}, {"split.seed": 1, "split": 3}):
        with pytest.raises(ThawError, match=r"split\.seed is given, and split has a value"):
            params_edit.check(DEFAULTS, changes, Path("nowhere.json"))
    assert params_edit.nest({"a.b": 1, "a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}


def test_sections_that_are_laid_over_one_another_stay_as_they_were():
    section = {"seed": 1}
    assert params_edit.nest({"a": section, "a.seed": 2}) == {"a": {"seed": 2}}
    assert section == {"seed": 1}


def test_true_is_not_1():
    with pytest.raises(ThawError, match=r"split\.seed should be a whole number, not true"):
        params_edit.check(DEFAULTS, {"split.seed": True}, Path("nowhere.json"))
    with pytest.raises(ThawError, match=r"augment\.flip_horizontal"):
        params_edit.check(DEFAULTS, {"augment.flip_horizontal": 1}, Path("nowhere.json"))


def test_a_freeze_depth_is_checked_against_the_backbone(tmp_path):
    backbone = tmp_path / "backbone.json"
    content = {"cut_points": [{"layer": "block1_add"}, {"layer": "features"}], "behind_cut": []}
    backbone.write_text(json.dumps(content | {"name": "ResNet50"}))  # of the run before: params.yaml has another one
    params_edit.check(DEFAULTS, {"fine_tune.freeze_depth": ["conv4"]}, backbone)
    backbone.write_text(json.dumps(content))
    params_edit.check(DEFAULTS, {"fine_tune.freeze_depth": ["all", "block1"]}, backbone)
    params_edit.check(DEFAULTS, {"fine_tune.freeze_depth": "conv5", "backbone.name": "ResNet50"}, backbone)
    with pytest.raises(ThawError, match="'blok1' is no cut point of this backbone"):
        params_edit.check(DEFAULTS, {"fine_tune.freeze_depth": "blok1"}, backbone)


# What to try next

RANGES = {"a.rate": Interval(1e-4, 1e-1, logarithmic=True), "a.depth": Choice(("all", "block6", "block5"))}


def history(count: int) -> list[Trial]:
    """Trials that are the better the higher the rate, with a depth that matters not."""
    trials: list[Trial] = []
    for number in range(count):
        values = search.propose(trials, RANGES, number, seed=1)
        loss = 1 - values["a.rate"]
        trials.append(Trial(values, [2.0, loss, loss + 0.1], 2))
    return trials


def test_a_proposal_lies_in_its_ranges_and_is_the_same_for_the_same_history():
    proposals = [search.propose(history(3), RANGES, 3, seed=1) for _ in range(2)]
    assert proposals[0] == proposals[1]
    assert 1e-4 <= proposals[0]["a.rate"] <= 1e-1
    assert proposals[0]["a.depth"] in ("all", "block6", "block5")
    assert search.propose(history(3), RANGES, 3, seed=2) != proposals[0]


def test_proposals_learn_from_what_was_tried():
    rates = [trial.values["a.rate"] for trial in history(25)]
    assert sum(rate > 0.03 for rate in rates[-10:]) > sum(rate > 0.03 for rate in rates[: search.STARTUP_TRIALS]) * 2


def test_what_was_tried_is_not_tried_again_while_something_is_left():
    ranges = {"a.depth": Choice(("all", "block6", "block5"))}
    tried = [Trial({"a.depth": depth}, [1.0], 1) for depth in ("all", "block5")]
    for number in range(5):
        assert search.propose(tried, ranges, number, seed=1) == {"a.depth": "block6"}


def test_after_every_combination_there_is_nothing_to_propose():
    ranges = {"a.depth": Choice(("all", "block6")), "a.turn": Choice(tuple(range(40)))}
    tried = [Trial(values, [1.0], 1) for values in sweeps.combinations(ranges)]
    assert search.propose(tried, ranges, 80, seed=1) is None
    left = tried.pop(11)
    assert search.propose(tried, ranges, 79, seed=1) == left.values
    endless = {"a.rate": Interval(0, 1)}
    assert search.propose([Trial({"a.rate": 0.5}, [1.0], 1)], endless, 1, seed=1)


def test_trials_outside_of_the_ranges_teach_nothing():
    tried = [Trial({"a.rate": 5.0, "a.depth": "all"}, [1.0], 1), Trial({"a.rate": 0.01}, [1.0], 1)]
    assert search.propose(tried, RANGES, 3, seed=1) == search.propose([], RANGES, 3, seed=1)


def test_a_fraction_is_outside_of_a_range_of_whole_numbers():
    ranges = {"a.turn": Interval(0, 15, integer=True)}
    values = [search.propose([Trial({"a.turn": turn}, [1.0], 1)], ranges, 1, seed=1) for turn in (7.5, 20, 7, 7.0)]
    assert values[0] == values[1] == search.propose([], ranges, 1, seed=1)
    assert all(isinstance(value["a.turn"], int) for value in values)


def test_whole_numbers_stay_whole():
    value = search.propose([], {"a.epochs": Interval(2, 40, integer=True)}, 1, seed=1)["a.epochs"]
    assert isinstance(value, int)
    assert 2 <= value <= 40


def test_nothing_is_pruned_by_a_few_trials_nor_in_the_first_epochs():
    losses = [1.0, 0.9, 0.8, 0.7, 0.6]
    assert search.limits([Trial({}, losses, 4)] * (search.STARTUP_TRIALS - 1)) == []
    assert search.limits([Trial({}, losses, 4)] * search.STARTUP_TRIALS) == [None, None, 0.7]


def test_a_loss_of_nothing_is_no_limit():
    assert search.limits([Trial({}, [0.1, 0.0, 0.0, 0.0, 0.0], 5)] * search.STARTUP_TRIALS) == [None, None, None, None]


def test_limits_are_medians_of_the_best_loss_so_far():
    trials = [Trial({}, [1.0, 0.5 + i / 10, 2.0, 0.4 + i / 10, 0.1], 4) for i in range(5)]
    assert search.limits(trials) == [None, None, 0.6]


def test_a_trial_that_ended_early_counts_with_what_it_had():
    whole = [Trial({}, [1.0, 0.9, 0.8, 0.7, 0.6], 4)] * 2
    early = [Trial({}, [1.0, 0.95], 4)] * 3
    assert search.limits([*whole, *early]) == [None, None, 0.95]


def test_a_trial_that_keeps_its_last_epoch_is_as_good_as_that():
    early, late = [0.5, 0.28, 0.6], [0.5, 0.35, 0.3]
    assert Trial({}, early, 2).loss < Trial({}, late, 2).loss
    assert Trial({}, early, 2, keeps_last=True).loss == 0.6
    assert Trial({}, late, 2, keeps_last=True).loss == 0.3


@pytest.mark.parametrize(
    ("trial", "was_pruned"),
    [
        (([0.5, 0.5, 0.5, 0.4], 6), True),
        (([0.5, 0.5, 0.5, 0.2], 6), False),  # lower than its limit
        (([0.5, 0.5, 0.5, 0.4], 3), False),  # at its last epoch
        (([0.5], 6), False),  # an extended head: it has no epochs
        (([0.5, 0.2, 0.2, 0.4], 6, True), False),  # worse at its end than at its best, which is what limits count
    ],
)
def test_a_trial_is_pruned_where_its_limit_ended_it(trial, was_pruned):
    assert Trial({"fine_tune.prune_above": [None, None, 0.3]}, *trial).was_pruned is was_pruned


def test_with_folds_no_trial_has_limits_none_was_pruned_and_that_is_said():
    early = {"losses": [1.0, 0.9, 0.9, 0.9], "epochs": 6, "accuracy": 0.8}
    values = {"fine_tune.prune_above": [None, None, 0.3]}
    folded, single = Trial(values, **early, has_folds=True), Trial(values, **early)
    assert search.limits([single] * search.STARTUP_TRIALS) and search.limits([folded] * search.STARTUP_TRIALS) == []
    assert single.was_pruned and not folded.was_pruned
    assert "With folds no trial is pruned" in trials.as_text({"search-000": folded}, {})
    assert "With folds" not in trials.as_text({"search-000": single}, {})


def test_an_experiment_with_folds_is_known_by_its_metrics():
    plain, folded = entry("abc", 0.9), entry("def", 0.9)
    folded["data"]["metrics"]["reports/metrics.json"]["data"]["folds"] = {"count": 5, "kept": "fine_tuned"}
    assert [experiment.has_folds for experiment in runs.parse([plain, folded], FILES)[0]] == [False, True]


def test_what_is_searched_by_default_are_ranges_with_the_last_blocks_of_the_backbone(tmp_path):
    backbone = tmp_path / "backbone.json"
    layers = [f"block{i}a_add" for i in range(1, 7)] + ["features"]
    backbone.write_text(json.dumps({"cut_points": [{"layer": layer} for layer in layers], "behind_cut": []}))
    for kind, key in (("linear", "head.strengths"), ("network", "head.learning_rate")):
        ranges = sweeps.parse(trials.default_ranges(kind, backbone))
        assert ranges["fine_tune.freeze_depth"] == Choice(("all", "block3", "block4", "block5", "block6"))
        assert key in ranges
    with pytest.raises(ThawError, match=r"backbone\.json is missing: `dvc repro` first, or name KEY=RANGE"):
        trials.default_ranges("linear", tmp_path / "none" / "backbone.json")


# The real pipeline


@pytest.fixture(scope="module")
def repository(finished_once):
    """The finished scratch repository, with what `make compare` and `make current` want."""
    shutil.copyfile(ROOT / "Makefile", finished_once.path / "Makefile")
    return finished_once


def thaw(repository, script: str, *arguments: str):
    return repository.run(sys.executable, f"src/{script}.py", *arguments)


def test_a_queue_on_a_dirty_tree_takes_it_along_and_one_that_fails_does_not_stop_the_others(repository):
    before = repository.run("git", "status", "--short").stdout
    repository.set(evaluate__shown=3)
    result = repository.dvc("exp", "run", "--queue", "--set-param", "evaluate.bins=choice(-1,7)")
    assert result.returncode == 0, result.stderr
    repository.dvc("queue", "start")
    deadline = time.monotonic() + 120
    while re.search("Queued|Running", status := repository.dvc("queue", "status").stdout):
        assert time.monotonic() < deadline, status
        time.sleep(1)
    repository.set(evaluate__shown=12)
    assert repository.run("git", "status", "--short").stdout == before
    assert len(re.findall("Failed", status)) == len(re.findall("Success", status)) == 1
    failed = re.search(r"^(\w+).*Failed", status, re.MULTILINE)[1]
    log = repository.dvc("queue", "logs", failed).stdout
    assert "evaluate.bins should be greater than or equal to 2, not -1" in log
    assert scripts_run(log) == []  # it was said before any of these: `fingerprints`, the first, reads all sections
    (done,) = [experiment for experiment in shown(repository) if experiment["params"]["evaluate"]["bins"] == 7]
    assert done["params"]["evaluate"]["shown"] == 3


def shown(repository) -> list[dict]:
    """The parameters and metrics of each finished experiment."""
    finished = []
    for baseline in json.loads(repository.dvc("exp", "show", "--json").stdout):
        for entry in baseline["experiments"] or []:
            data = entry["revs"][0]["data"]
            if data and data["params"]:
                finished.append({"name": entry["name"], "params": data["params"]["params.yaml"]["data"]})
    return finished


def test_a_sweep_checks_all_values_before_the_first_runs(repository):
    before = shown(repository)
    result = thaw(repository, "sweep", "evaluate.bins=5,6,1")
    assert result.returncode == 1
    assert result.stderr == (
        "thaw: params.yaml with evaluate.bins=1: evaluate.bins should be greater than or equal to 2, not 1\n"
    )
    assert shown(repository) == before


@pytest.mark.parametrize(
    ("ranges", "seeds"),
    [
        ([], ["fine_tune.seed"]),
        (["head.kind=linear,network"], ["fine_tune.seed", "head.seed"]),
        (["head.kind=linear"], ["fine_tune.seed"]),
    ],
)
def test_repeats_count_the_seed_of_a_head_on_where_one_is_a_network(ranges, seeds):
    parameters = {"head.kind": "linear", "head.seed": 1, "fine_tune.seed": 1}
    assert list(sweeps.first_seeds(parameters, sweeps.parse(ranges), None)) == seeds


def test_repeats_are_one_row_with_their_spread(repository):
    result = thaw(repository, "sweep", "--seeds", "2", "--seed-of", "evaluate.seed")
    assert result.returncode == 0, result.stderr
    assert "  evaluate  " in result.stdout
    picture = repository.path / "reports" / "comparison.svg"
    result = repository.run("make", "RUN=python", "-o", "setup", "compare")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    header, *rows = lines[next(i for i, line in enumerate(lines) if line.startswith("experiment ")) :]
    assert header.split()[:4] == ["experiment", "validation", "test", "cost"]
    assert set(header.split()[4:]) == {"shown", "bins"}
    assert sum(row.split("  ")[0].endswith("×2") for row in rows) == 1
    assert "dvc queue logs" in result.stdout  # of the one that failed before
    ElementTree.parse(picture)


def test_a_search_goes_on_from_its_experiments_and_the_best_is_applied(repository):
    ranges = ["fine_tune.learning_rate=2e-3,3e-3", f"fine_tune.freeze_depth={SMALL['fine_tune.freeze_depth']}"]
    first = thaw(repository, "search", "--trials", "1", *ranges)
    assert first.returncode == 0, first.stderr
    second = thaw(repository, "search", "--trials", "1", *ranges)
    assert second.returncode == 0, second.stderr
    assert "search-001: fine_tune.learning_rate=0.00" in second.stdout
    assert "fine_tune  evaluate" in second.stdout
    assert "test labels" not in second.stdout  # what evaluate says of test is for later
    rates = {experiment["name"]: experiment["params"]["fine_tune"]["learning_rate"] for experiment in shown(repository)}
    same = thaw(repository, "sweep", f"fine_tune.learning_rate={rates['search-001']}")  # as a trial, whom it hides not
    assert same.returncode == 0, same.stderr
    assert trials_of(repository, "search", ranges) == ["search-000", "search-001"]
    assert rates["search-000"] == SMALL["fine_tune.learning_rate"]
    assert rates["search-001"] in (2e-3, 3e-3)
    result = repository.dvc("exp", "apply", "search-001")
    assert result.returncode == 0, result.stderr
    params = yaml.safe_load((repository.path / "params.yaml").read_text())
    assert float(params["fine_tune"]["learning_rate"]) == rates["search-001"]
    assert repository.repro() == []
    rows = (repository.path / search_script.LOSSES).read_text().splitlines()[1:]
    best = min(float(row.split("\t")[1]) for row in rows)
    assert re.search(rf"^search-001 +{best:.4f} ", second.stdout, re.MULTILINE)


def trials_of(repository, name: str, ranges: list[str]) -> list[str]:
    """The trials that the next search of this name would go on from."""
    code = "import sys; sys.path.insert(0, 'src'); import search; from thaw.experiments import sweeps, trials; "
    code += f"ranges = sweeps.parse({ranges!r}); "
    code += f"print(*sorted(trials.read({name!r}, ranges, search.FILES, search.LOSSES)[0]))"
    result = repository.run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_a_search_that_would_be_invalid_runs_nothing(repository):
    before = shown(repository)
    result = thaw(repository, "search", "--trials", "1", "fine_tune.learning_rate=interval(-1,1e-3)")
    assert result.returncode == 1
    assert "fine_tune.learning_rate should be greater than 0" in result.stderr
    result = thaw(repository, "search", "--trials", "1", "fine_tune={learning_rate:1e-3},{learning_rate:1e-4}")
    assert (result.returncode, result.stdout) == (1, "")
    assert "fine_tune is a section" in result.stderr
    assert shown(repository) == before


# What DVC says it has done, and what is there


@pytest.fixture
def shallow(quick, tmp_path):
    """A clone without the earlier commits, as CI makes one. See https://github.com/treeverse/dvc/issues/8844."""
    quick.run("git", "commit", "--quiet", "--all", "--message", "own", check=True)
    quick.run("git", "clone", "--quiet", "--depth", "1", f"file://{quick.path}", str(tmp_path / "shallow"), check=True)
    return Checkout(tmp_path / "shallow")


@pytest.mark.parametrize(
    "command", [["sweep", "evaluate.bins=60,70"], ["search", "--trials", "1", "evaluate.bins=60,70"]]
)
def test_in_a_shallow_clone_nothing_runs_and_one_line_says_why(shallow, command):
    result = thaw(shallow, *command)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("thaw: this clone is shallow") and result.stderr.count("\n") == 1
    assert "git fetch --unshallow" in result.stderr


def test_an_experiment_that_is_not_there_afterwards_has_failed_whatever_dvc_says(shallow, monkeypatch):
    monkeypatch.chdir(shallow.path)
    assert "ended without an error, but kept no experiment" in runs.run({"evaluate.bins": "70"})


def test_experiments_that_did_not_arrive_at_the_remote_are_named(quick, tmp_path, monkeypatch):
    """`dvc exp push` succeeds, too, where the remote has another experiment of that name."""
    monkeypatch.chdir(quick.path)

    def git(*arguments: str) -> str:
        return quick.run("git", *arguments, check=True).stdout.strip()

    head = git("rev-parse", "HEAD")
    for name in ("one", "two"):
        commit = git("commit-tree", "-m", name, "-p", head, f"{head}^{{tree}}")
        git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", commit)
    git("clone", "--quiet", "--bare", ".", str(tmp_path / "team"))
    git("remote", "add", "team", str(tmp_path / "team"))
    experiments = runs.finished_commits()
    one, two = (f"refs/exps/{head[:2]}/{head[2:]}/{name}" for name in ("one", "two"))
    git("push", "--quiet", "team", f"{experiments[one]}:{two}")
    with pytest.raises(ThawError, match=r"^1 of 2 experiments did not arrive at team: two "):
        share.push_experiments(experiments, "team")
    assert runs.commits_on("team")[one] == experiments[one]
    share.push_experiments({one: experiments[one]}, "team")


def test_experiments_of_one_name_on_several_commits_are_told_apart(quick, tmp_path, monkeypatch):
    """As where a teammate's search had the same name on another commit."""
    monkeypatch.chdir(quick.path)

    def git(*arguments: str) -> str:
        return quick.run("git", *arguments, check=True).stdout.strip()

    head, refs = git("rev-parse", "HEAD"), []
    for message in ("mine", "theirs"):
        baseline = git("commit-tree", "-m", f"baseline, {message}", "-p", head, f"{head}^{{tree}}")
        commit = git("commit-tree", "-m", message, "-p", baseline, f"{head}^{{tree}}")
        refs.append(f"refs/exps/{baseline[:2]}/{baseline[2:]}/search-000")
        git("update-ref", refs[-1], commit)
    git("clone", "--quiet", "--bare", ".", str(tmp_path / "team"))
    git("remote", "add", "team", str(tmp_path / "team"))
    experiments = runs.finished_commits()
    assert set(refs) <= set(experiments)
    mine, theirs = refs
    git("push", "--quiet", "team", f"{experiments[theirs]}:{theirs}")
    share.push_experiments({theirs: experiments[theirs]}, "team")
    git("push", "--quiet", "team", "--delete", mine)
    monkeypatch.setattr(share.programs, "dvc", lambda *_: ["true"])  # DVC's own push, which would bring it
    with pytest.raises(ThawError, match=r"^1 of \d+ experiments did not arrive at team: search-000 "):
        share.push_experiments({ref: experiments[ref] for ref in refs}, "team")
    with pytest.raises(ThawError, match=r"^2 experiments are called search-000: name one by its commit: "):
        runs.commit_of("search-000")
    for ref in refs:
        git("update-ref", "-d", ref)


@pytest.mark.parametrize("of_dvc", [".", "sub"])
def test_the_remote_of_a_project_in_a_folder_of_a_larger_repository_is_found(
    dvc_of_its_own, tmp_path, monkeypatch, of_dvc
):
    outer = Checkout(tmp_path)
    for folder in (tmp_path / of_dvc / ".dvc", tmp_path / "sub"):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / of_dvc / ".dvc" / "config").write_text("[core]\n    remote = team\n")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "remote"]):
        outer.run("git", *command, check=True)
    monkeypatch.chdir(tmp_path / "sub")
    assert remote.knows_remote("HEAD")


def test_a_remote_that_refuses_an_object_is_one_line():
    import asyncssh

    with pytest.raises(ThawError, match=r"^it cannot be read: .*denied"), remote._repository("it cannot be read"):
        raise asyncssh.SFTPPermissionDenied("denied")


def test_git_says_in_one_line_why_it_cannot_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ThawError, match=r"^`git rev-parse --is-shallow-repository`: not a git repository"):
        runs.refuse_shallow_clone()


@pytest.mark.parametrize("output", ["", "no changes", "[{]"])
def test_an_answer_that_is_no_json_is_one_line_whatever_the_exit_status(output):
    with pytest.raises(ThawError, match=r"ended without an error, but its answer is no JSON: '"):
        programs.json_answer(["echo", output])


def test_a_program_that_is_killed_or_not_there_is_said_to_be():
    with pytest.raises(ThawError, match=r"^`sh -c .*`: was killed \(SIGKILL\), as where memory runs out$"):
        programs.answer(["sh", "-c", "echo warning >&2; kill -9 $$"])
    with pytest.raises(ThawError, match=r"^no-such-program is not installed, or not in PATH$"):
        programs.answer(["no-such-program"])


def test_an_experiment_whose_dvc_is_killed_has_failed_and_says_why(quick, monkeypatch):
    monkeypatch.chdir(quick.path)
    monkeypatch.setattr(programs, "dvc", lambda *arguments: ["sh", "-c", "kill -9 $$", "dvc", *arguments])
    said = "`dvc exp run --temp --set-param evaluate.bins=70` was killed (SIGKILL), as where memory runs out"
    assert runs.run({"evaluate.bins": "70"}) == said


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            ["thaw: warning: few", "", "thaw: split.seed is wrong", "", "ERROR: failed to run"],
            "thaw: split.seed is wrong",
        ),
        (
            ["thaw: results may differ in their last digits", "Traceback", "ERROR: failed to run"],
            "ERROR: failed to run",
        ),
        (["ERROR: these exist:", "  a", "  b"], "ERROR: these exist:   a   b"),
        (["thaw: the cache is full", "Killed"], None),
    ],
)
def test_the_reason_of_a_failure_is_no_note_that_came_before_it(lines, error):
    assert runs._error(lines) == error


def test_an_experiment_says_what_its_stage_says_last(quick, monkeypatch):
    monkeypatch.chdir(quick.path)
    notes = 'import sys\nprint("thaw: warning: of no harm", file=sys.stderr)\n'
    for code, said in (('sys.exit("thaw: this is wrong")', "thaw: this is wrong"), ("1 / 0", "ERROR: failed to ")):
        (quick.path / "evaluate.py").write_text(notes + code)
        assert runs.run({"evaluate.bins": "70"}).startswith(said)


def test_a_search_with_a_trial_that_failed_says_so_at_its_end(tmp_path, monkeypatch):
    Checkout(tmp_path).run("git", "init", "--quiet", check=True)
    shutil.copyfile(DEFAULTS, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(programs, "dvc", lambda *arguments: ["sh", "-c", "kill -9 $$", "dvc", *arguments])
    finished = Trial({"evaluate.bins": 60, runs.PRUNE: []}, losses=[0.5, 0.4], epochs=1, accuracy=0.9)
    monkeypatch.setattr(trials, "read", lambda *_: ({"search-old": finished}, 0))
    monkeypatch.setattr(sys, "argv", ["search.py", "--trials", "2", "evaluate.bins=60,70,80"])
    with pytest.raises(ThawError, match=r"^2 of 2 trials failed: search-000, search-001; "):
        search_script.main()


def test_the_first_trial_of_a_call_has_no_limits_since_the_photographs_may_have_changed(tmp_path, monkeypatch):
    Checkout(tmp_path).run("git", "init", "--quiet", check=True)
    shutil.copyfile(DEFAULTS, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    earlier = Trial({"evaluate.bins": 60, runs.PRUNE: []}, losses=[0.5, 0.4, 0.3, 0.2, 0.1], epochs=4, accuracy=0.9)
    finished = {f"search-{number:03}": earlier for number in range(5)}
    monkeypatch.setattr(trials, "read", lambda *_: (finished, 0))
    monkeypatch.setattr(trials, "next_number", lambda _: 5)
    limits = []
    monkeypatch.setattr(runs, "run", lambda changes, name: limits.append(changes[runs.PRUNE]) or "not run")
    monkeypatch.setattr(sys, "argv", ["search.py", "--trials", "2", "evaluate.bins=60,70,80"])
    with pytest.raises(ThawError, match=r"^2 of 2 trials failed"):
        search_script.main()
    assert limits == ["[]", "[]"]  # none of this call has a result yet
    limits.clear()

    def run(changes: dict, name: str) -> None:
        limits.append(changes[runs.PRUNE])
        finished[name] = earlier

    monkeypatch.setattr(runs, "run", run)
    search_script.main()
    assert limits[0] == "[]" and json.loads(limits[1])


def test_a_sweep_that_is_interrupted_says_how_many_experiments_were_finished(tmp_path, monkeypatch):
    Checkout(tmp_path).run("git", "init", "--quiet", check=True)
    shutil.copyfile(DEFAULTS, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    answers = iter([None, "not run", KeyboardInterrupt])

    def run(changes):
        if (answer := next(answers)) is KeyboardInterrupt:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(sys, "argv", ["sweep.py", "evaluate.bins=60,70,80,90"])
    with pytest.raises(
        ThawError, match=r"^interrupted: 1 of 4 experiments were finished; the same sweep would run all"
    ):
        sweep.main()


# What CI does


def steps(job: str) -> list[dict]:
    return yaml.safe_load((ROOT / ".github/workflows/thaw.yaml").read_text())["jobs"][job]["steps"]


def test_ci_fails_where_the_lock_is_not_current(repository, tmp_path):
    (command,) = [step["run"] for step in steps("results") if step.get("name") == "dvc.lock is current"]
    command = command.replace("make ", "make RUN=python -o setup ")
    repository.run("git", "stash", "--quiet")  # the experiment that a test before applied
    repository.run("git", "clone", "--quiet", str(repository.path), str(tmp_path / "clone"), check=True)
    clone = type(repository)(tmp_path / "clone")
    shutil.copyfile(ROOT / "Makefile", clone.path / "Makefile")
    result = clone.run("bash", "-c", command)
    assert result.returncode == 0, result.stdout + result.stderr
    clone.set(evaluate__bins=3)
    result = clone.run("bash", "-c", command)
    assert result.returncode != 0
    assert "dvc.lock is not current" in result.stdout


def test_ci_compares_the_results_of_two_commits(repository):
    script = next(step["run"] for step in steps("results") if "gh pr comment" in step.get("run", ""))
    command = script.splitlines()[0].replace(".venv/bin/python", sys.executable)
    repository.run("git", "commit", "--quiet", "--allow-empty", "--message", "nothing", check=True)
    result = repository.run("bash", "-c", command, env={**os.environ, "BASE": "HEAD~1"})
    assert result.returncode == 0, result.stderr
    header, _, *rows = (repository.path / "comparison.md").read_text().splitlines()
    assert header.startswith("| experiment | validation | test |")
    assert {row.split(" | ")[0] for row in rows[:2]} == {"| HEAD", "| HEAD~1"}


def test_the_workflow_runs_what_the_makefile_has():
    commands = [step["run"] for job in ("test", "results") for step in steps(job) if "run" in step]
    targets = {target for command in commands for target in re.findall(r"make (\w+)", command)}
    assert targets == {"test", "setup", "current"}
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_best_is_chosen_on_validation_among_those_with_the_same_photographs():
    better, worse = experiment("b", 0.9, test=0.1), experiment("a", 0.8, test=0.99)
    other = dataclasses.replace(experiment("c", 0.95), other_validation=True)
    assert ranking.rank([other, worse, better]) == [better, worse, other]


def test_the_wider_of_two_spreads_decides():
    (still,) = ranking.average_repeats([experiment(f"still{seed}", 0.9, a__seed=seed) for seed in range(2)])
    runs = [experiment(f"wide{seed}", value, a__seed=seed) for seed, value in enumerate((0.7, 0.9))]
    (wide,) = ranking.average_repeats(runs)
    assert "no more than the spread over their seeds (14.1 points" in ranking.verdict(still, wide)
