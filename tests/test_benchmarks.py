"""Benchmarks measure the last commit. They print what they leave out and run the rest."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, draw_photographs

sys.path.append(str(ROOT / "benchmarks"))

import clones
import race
import torture

from thaw.core.errors import ThawError


@pytest.fixture(autouse=True)
def isolated(dvc_of_its_own):
    """DVC uses no settings of the user."""


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
