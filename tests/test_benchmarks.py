"""Benchmarks measure the last commit. They print what they leave out and run the rest."""

import argparse
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, draw_photographs

sys.path.append(str(ROOT / "benchmarks"))

import bench
import clones
import exports
import league
import million
import race
import results
import torture

from thaw.core.errors import ThawError
from thaw.handbook import measured


@pytest.fixture(autouse=True)
def isolated(dvc_of_its_own, tmp_path, monkeypatch):
    """DVC uses no settings of the user, and no result of the repository is replaced."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)


def test_a_clone_has_the_changed_parameters_and_no_results(tmp_path):
    clone = clones.fresh(tmp_path / "clone", fine_tune={"freeze_depth": "block6"}, image={"size": 96})
    values = yaml.safe_load((clone / "params.yaml").read_text())
    assert (values["fine_tune"]["freeze_depth"], values["image"]["size"]) == ("block6", 96)
    assert not (clone / "dvc.lock").exists()
    assert clones.run(clone, "git", "status", "--porcelain") == ""
    assert clones.dvc(clone, "cache", "dir").strip() == str(clone / ".dvc" / "cache")


def test_a_clone_needs_no_git_name_and_no_signature(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    (tmp_path / "gitconfig").write_text("[commit]\ngpgsign = true\n[gpg]\nprogram = /bin/false\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    clone = clones.fresh(tmp_path / "clone")
    assert clones.run(clone, "git", "log", "-1", "--format=%an %s") == "benchmarks nothing is done\n"
    assert clones.run(clone, "sh", "-c", "command -v python").strip() == str(Path(sys.executable).parent / "python")


def test_a_command_that_fails_in_a_clone_raises_one_line(tmp_path):
    with pytest.raises(ThawError, match="`git status --porcelain` failed"):
        clones.run(tmp_path, "git", "status", "--porcelain")


# --- The race ---


def script(path: Path, *lines: str) -> list:
    path.write_text("\n".join(["import sys", *lines]))
    return [sys.executable, path]


def print_result(part: str, accuracy: float) -> str:
    return f"print({json.dumps(json.dumps({'part': part, 'accuracy': accuracy}))}, flush=True)"


def test_a_peer_is_timed_part_by_part(tmp_path):
    results = race.timed(script(tmp_path / "peer.py", print_result("head", 0.75), print_result("fine_tuned", 0.5)))
    assert {part: accuracy for part, (_, accuracy) in results.items()} == {"head": 0.75, "fine_tuned": 0.5}
    assert 0 < results["head"][0] <= results["fine_tuned"][0]


def test_a_peer_chooses_its_own_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # as Thaw sets it for itself
    lines = "import os, json", 'print(json.dumps({"part": "head", "accuracy": os.environ.get("OPENBLAS_NUM_THREADS")}))'
    assert race.timed(script(tmp_path / "peer.py", *lines))["head"][1] is None


def test_a_peer_that_fails_is_left_out_with_its_last_line(tmp_path):
    with pytest.raises(race.LeftOutError, match=r"peer\.py ended with status 3: no module named so"):
        lines = print_result("head", 0.75), "print('no module named so', file=sys.stderr)", "sys.exit(3)"
        race.timed(script(tmp_path / "peer.py", *lines))


@pytest.mark.parametrize("python", [None, Path("/no/such/python"), Path("/bin/false")])
def test_timm_without_its_python_is_left_out(tmp_path, python):
    with pytest.raises(race.LeftOutError, match=r"--torch|No such file"):
        race.timm(tmp_path, tmp_path, ("head",), None, python)


def finished(folder: Path, backbone: str, cut_points: list[str]) -> Path:
    """Write the files of a finished run that `race.timm` reads."""
    (folder / "models/backbone").mkdir(parents=True)
    points = [{"layer": layer} for layer in cut_points]
    (folder / "models/backbone/backbone.json").write_text(json.dumps({"cut_points": points}))
    text = (ROOT / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("name: EfficientNetLite0", f"name: {backbone}"))
    return folder


def test_timm_thaws_the_same_blocks_or_is_left_out(tmp_path):
    points = ["block4c_add", "block5b_add", "block5c_add", "block6a_bn", "features"]
    run, python, both = finished(tmp_path / "run", "EfficientNetLite0", points), Path("/bin/true"), race.PARTS
    assert race.timm(run, tmp_path, both, "block5c_add", python)[-2:] == ["--thaw-from", "5"]
    assert race.timm(run, tmp_path, ("head",), None, python)[-2:] == ["--thaw-from", "0"]
    for cut in ("block5b_add", "features", None):
        with pytest.raises(race.LeftOutError, match=f"{cut or 'the input'} ends none"):
            race.timm(run, tmp_path, both, cut, python)
    with pytest.raises(race.LeftOutError, match="its weights are EfficientNetLite0's"):
        race.timm(finished(tmp_path / "other", "ResNet50", points), tmp_path, both, "block5c_add", python)


def test_classes_whose_names_are_numbers_are_laid_out(tmp_path):
    raw = tmp_path / "clone/data/raw"
    draw_photographs(raw / "photographs")
    photographs = sorted(path.relative_to(raw) for path in raw.rglob("*.*") if path.is_file())[:2]
    rest = "license,author,landing_url,sha256,width,height"
    rows = [f"p{i},{path},{i:03},1.0,drawn,,,,,64,64" for i, path in enumerate(photographs)]
    (raw / "images.csv").write_text("\n".join([f"image_id,path,label,weight,source,{rest}", *rows]) + "\n")
    rows = [f"p{i},{i:03},1.0,p{i},train" for i in range(2)]
    (raw.parent / "split.csv").write_text("\n".join(["image_id,label,weight,group,split", *rows]) + "\n")
    folder = race.lay_out(tmp_path / "clone", tmp_path / "laid_out")
    assert sorted(path.name for path in (folder / "train").iterdir()) == ["000", "001"]


def test_a_failure_in_a_later_round_keeps_the_rounds_before(tmp_path, monkeypatch, capsys):
    result = dict.fromkeys(race.PARTS, (1.0, 0.5))
    rounds = {
        "Thaw": iter([result, result, ThawError("a full disk")]),
        "Keras": iter([result, race.LeftOutError("no memory")]),
        "Keras, cached": iter([result, result]),
    }

    def next_result(name: str) -> race.Result:
        outcome = next(rounds[name])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(race, "thaw", lambda *arguments: next_result("Thaw"))
    monkeypatch.setattr(race, "peer", lambda name, *arguments: next_result(name))
    monkeypatch.setattr(race, "lay_out", lambda *arguments: tmp_path)
    monkeypatch.setattr(sys, "argv", ["race.py", "--rounds", "3", "--without", "timm"])
    race.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "race: Keras is left out: no memory"
    assert lines[1] == "race: ended after 2 rounds: a full disk"
    assert [line.split("  ")[1].strip() for line in lines[4:6]] == ["Thaw", "Keras, cached"]
    written = measured.read(results.FOLDER / "race.json")
    head = clones.run(ROOT, "git", "rev-parse", "--short", "HEAD").strip()
    assert (written["command"], written["commit"]) == ("python benchmarks/race.py --rounds 3 --without timm", head)
    lines = measured.table(written).splitlines()
    assert lines[0] == "| seconds, and accuracy on validation | Thaw | Keras, features cached by hand |"
    assert lines[2] == "| 0 default photographs, rounds: 2: head | 1 (50.0\u00a0%) | 1 (50.0\u00a0%) |"


# --- All of them ---


def test_what_fails_does_not_fit_or_writes_nothing_is_named_and_the_rest_is_measured(tmp_path, monkeypatch, capsys):
    keys = {"command": "", "commit": "", "date": "", "machine": "", "columns": [], "rows": []}
    written = f"import pathlib; pathlib.Path({str(tmp_path)!r}, 'last.json').write_text({json.dumps(keys)!r})"
    codes = {"fails": "raise SystemExit(3)", "long": written, "silent": "", "last": written}
    monkeypatch.setattr(bench, "BENCHMARKS", {name: bench.Benchmark((), 9 * (name == "long")) for name in codes})
    monkeypatch.setattr(bench, "command", lambda name, photographs: [sys.executable, "-c", codes[name]])
    monkeypatch.setattr(sys, "argv", ["bench.py", "--minutes", "5"])
    with pytest.raises(ThawError) as error:
        bench.main()
    assert str(error.value) == (
        "not measured: fails (it ended with status 3), long (takes 9 minutes, 5 are left), "
        "silent (it wrote no silent.json)"
    )
    assert "last: it took" in capsys.readouterr().out


def test_each_benchmark_of_time_is_a_script_and_what_it_wrote_is_shown():
    shown = {name for page in (ROOT / "docs").rglob("*.md") for name in measured.names(page.read_text("utf-8"))}
    assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in bench.BENCHMARKS)
    assert {path.stem for path in (ROOT / "benchmarks/results").glob("*.json")} == shown


def test_the_table_of_exports_is_what_the_script_prints():
    printed = (
        "export: models/model.keras into out, checked on 200 photographs (tflite-int8 on 656); the largest difference\n"
        f"{'format':15} {'file':22} {'MB':>6} {'difference':>11} {'images/s':>9}\n"
        f"{'keras':15} {'model.keras':22} {'14.2':>6} {'':>11} {'66':>9}\n"
        f"{'tflite-int8':15} {'model-int8.tflite':22} {'4.0':>6} {'6.0e-01':>11} {'162':>9}\n"
        "tflite-int8: 97.1 % of the predictions are Keras'\n"
    )
    assert exports.rows(printed) == [["`model.keras` itself", 14.2, None, 66], ["`tflite-int8`", 4.0, 0.6, 162]]
    assert exports.note(printed) == (
        "Checked on 200 photographs (tflite-int8 on 656). `tflite-int8`: 97.1 % of the predictions are Keras'."
    )


# --- The league ---


@pytest.fixture
def contest(tmp_path) -> league.Contest:
    """Four photographs of two classes: two for validation, two for test; and none to train on."""
    prepared = tmp_path / "prepared" / "clone"
    (prepared / "data").mkdir(parents=True)
    (prepared / "data/split.csv").write_text("a split")
    labels = {"train": {}, "validation": {"v1": "a", "v2": "b"}, "test": {"t1": "a", "t2": "b"}}
    ids = {f"{image_id}.png": image_id for part in labels.values() for image_id in part}
    return league.Contest("drawn", tmp_path, prepared, tmp_path, labels, ids)


@pytest.fixture
def options(tmp_path):
    (tmp_path / "results").mkdir()
    return league.argparse.Namespace(results=tmp_path / "results", seeds=[1, 2], kept=False, try_out=None, torch=None)


def write_peer(folder: Path, monkeypatch, **predicted: str) -> Path:
    """Let a script take the place of every peer: it predicts the same for any seed, and counts how often it ran."""
    lines = [f"{name}.png,{label}" for name, label in predicted.items()]
    code = "import pathlib, sys", f"pathlib.Path(sys.argv[-1]).write_text({chr(10).join(lines)!r})"
    command = script(folder / "peer.py", *code, f"pathlib.Path({str(folder)!r}, 'ran').open('a').write('x')")
    monkeypatch.setattr(league, "command_of", lambda *arguments: list(command))
    return folder / "ran"


def test_a_league_that_was_killed_goes_on_with_the_results_it_has(tmp_path, contest, options, monkeypatch):
    ran = write_peer(tmp_path, monkeypatch, v1="a", v2="b", t1="a", t2="a")
    first = league.compete("Keras", contest, options)
    assert [run.predicted for run in first.values()] == [{"v1": "a", "v2": "b", "t1": "a", "t2": "a"}] * 2
    assert league.compete("Keras", contest, options) == first
    assert ran.read_text() == "xx"
    (contest.prepared / "data/split.csv").write_text("another split")
    league.compete("Keras", contest, options)
    assert ran.read_text() == "xxxx"


def test_a_league_of_what_is_kept_runs_nothing(tmp_path, contest, options, monkeypatch, capsys):
    ran = write_peer(tmp_path, monkeypatch, v1="a", v2="b", t1="a", t2="a")
    league.compete("Keras", contest, options)
    options.seeds, options.kept = [1, 2, 3], True
    with pytest.raises(race.LeftOutError, match="has nothing of it at"):
        league.prepare("drawn", tmp_path, options)
    assert list(league.compete("Keras", contest, options)) == [1, 2]
    assert "league: drawn, Keras, seed 3: not run" in capsys.readouterr().err
    assert ran.read_text() == "xx"


def test_a_contender_that_fails_or_leaves_photographs_out_takes_no_part(
    tmp_path, contest, options, monkeypatch, capsys
):
    write_peer(tmp_path, monkeypatch, v1="a", t1="a", t2="a")
    assert league.compete("Keras", contest, options) == {}
    assert "league: drawn, Keras: left out: it did not predict each photograph" in capsys.readouterr().err
    command = script(tmp_path / "fails.py", "print('epoch 1')", "sys.exit('no memory')")
    monkeypatch.setattr(league, "command_of", lambda *arguments: list(command))
    assert league.compete("Keras", contest, options) == {}
    assert "league: drawn, Keras: left out: fails.py ended with status 1: no memory" in capsys.readouterr().err
    assert not list(options.results.glob("*.json"))


def test_a_peer_without_its_python_is_left_out(contest, options, capsys):
    assert league.compete("timm", contest, options) == {}
    assert "left out: no Python that can `import timm, torchvision` was named (--torch)" in capsys.readouterr().err


def test_the_row_of_a_contender_has_its_mean_over_the_seeds_and_the_difference_to_thaw(contest):
    right = {"v1": "a", "v2": "b", "t1": "a", "t2": "b"}
    runs = {1: league.Result(right, 10, 20), 2: league.Result({**right, "t2": "a"}, 30, 40)}
    worse = dict.fromkeys([1, 2], league.Result({**right, "t1": "b", "t2": "a"}, 50, 60))
    thaw, keras = league.table_rows(contest, {"Thaw": runs, "Keras": worse})
    assert thaw["test"][0] == 0.75
    assert thaw["test"][1:] == pytest.approx(league.wilson(1.5, 2))
    assert (thaw["seconds"], thaw["cpu_seconds"]) == (20, 30)
    assert "less_thaw" not in thaw
    assert keras["less_thaw"] == pytest.approx([-0.75, -1, -0.26], abs=1e-3)
    columns, lines = league.as_table([thaw, keras])
    header, _, *lines = measured.grid(results.described(columns), lines).replace("\u00a0", " ").splitlines()
    assert header.startswith("| data: training, validation, test | contender | seeds | validation | test |")
    assert lines[0].startswith("| drawn: 0, 2, 2 | Thaw | 1, 2 | 100.0 % (34.2 to 100.0) | 75.0 % (")
    assert lines[1].endswith(" | -75.0 (-100.0 to -26.0) | 50 | 60 |")


def test_data_that_is_not_there_is_left_out_with_a_line(tmp_path, options, capsys):
    (tmp_path / "waste" / "glass").mkdir(parents=True)
    options.without_cells, options.trashnet, options.open_images = False, tmp_path / "waste", tmp_path / "none"
    assert league.sources(options) == {"solar cells": None, "trashnet": tmp_path / "waste"}
    assert f"open images is left out: there is no folder {tmp_path / 'none'}" in capsys.readouterr().err


def test_photographs_of_open_images_are_laid_out_by_what_people_verified(tmp_path):
    sample = tmp_path / "sample"
    (sample / "annotations").mkdir(parents=True)
    (sample / "images").mkdir()
    rows = "ImageID,Source,LabelName,Confidence\nx,v,/m/0pcr,1\ny,v,/m/0pcr,0\nx,v,/m/other,1\nz,v,/m/other,1\n"
    (sample / "annotations/test-annotations-human-imagelabels-boxable.csv").write_text(rows)
    for name in "xyz":
        (sample / f"images/{name}.jpg").write_text(name)
    folder = league.alpacas(sample, tmp_path / "alpacas")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*")) == ["alpaca/x.jpg", "other/y.jpg"]


def test_the_cpu_seconds_of_a_command_are_those_of_all_its_processes(tmp_path):
    busy = "import time; start = time.process_time()\nwhile time.process_time() < start + 0.5: pass"
    command = script(tmp_path / "parent.py", "import subprocess", f"subprocess.run([sys.executable, '-c', {busy!r}])")
    seconds, cpu_seconds = league.execute(command, tmp_path, tmp_path / "log")
    assert seconds > 0.5
    assert cpu_seconds > 0.5


# --- Faults ---


def test_a_refused_mount_raises_an_error_that_skips_the_fault(tmp_path, monkeypatch):
    (tmp_path / "mount").write_text("#!/bin/sh\necho 'only root can do that' >&2\nexit 1\n")
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(torture.CannotMountError, match="only root can do that"), torture.mounted(tmp_path, "--bind"):
        pytest.fail("nothing was mounted")


def test_a_skipped_fault_is_no_success_and_no_failure(capsys):
    assert torture.show(iter([("a clock", None, "no faketime here"), ("one core", [], "")]))
    assert torture.show(iter([("a clock", None, "no faketime here"), ("one core", ["dvc.lock"], "")])) is False
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["a", "clock", "SKIPPED", "no", "faketime", "here"]
    assert lines[1] == ["one", "core", "identical"]
    assert lines[2] == ["1", "SKIPPED,", "1", "identical"]
    assert lines[4] == ["one", "core", "DIFFERS", "dvc.lock"]


def test_a_missing_locale_is_noticed():
    assert torture.has_locale("C")
    assert not torture.has_locale("xx_XX.UTF-8")


# --- A million ---


def test_tables_of_a_run_are_drawn_as_the_stages_write_them(tmp_path):
    drawn = million.Run(tmp_path, count=300, classes=3, width=4)
    for step in ("tables", "split", "plan", "features", "examples"):
        million.STEPS[step](drawn)
    assert {"images.csv read", "split", "plan drawn", "rows.csv written", "examples read"} <= set(drawn.seconds)


def test_what_a_photograph_costs_among_more_is_a_ratio():
    measured = {
        ("evaluate", "intervals"): [1, 2],
        ("evaluate", "page"): [1, 12.4],
        ("evaluate", million.MEMORY): [50, 99.6],
    }
    columns, rows = million.table(measured, [100, 1000])
    assert columns[1:] == [("100", "{:,}"), ("1,000", "{:,}"), ("one of 1,000 by one of 100", "{:.2f}")]
    assert rows == [["`evaluate`: page", 1, 12, 1.24], ["`evaluate`: peak memory, MB", 50, 100, None]]


def test_a_step_that_was_measured_at_this_commit_is_not_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "CHANGES", "")
    kept = {"commit": results.COMMIT, "classes": 2, "width": 8, "values": {"page": 1.5, million.MEMORY: 50}}
    (tmp_path / "evaluate.json").write_text(json.dumps(kept))
    assert million.measure("evaluate", tmp_path, 100, argparse.Namespace(classes=2, width=8)) == kept["values"]
    monkeypatch.setattr(million.sys, "executable", "false")  # what it is measured with
    for changes, other in (("", {"classes": 3, "width": 8}), (" M src/thaw/x.py", {"classes": 2, "width": 8})):
        monkeypatch.setattr(results, "CHANGES", changes)
        with pytest.raises(SystemExit, match="million: evaluate failed with 100 photographs"):
            million.measure("evaluate", tmp_path, 100, argparse.Namespace(**other))
