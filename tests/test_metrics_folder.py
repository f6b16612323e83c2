"""The metrics of a training are whole, or they are those of the training before."""

import json
import subprocess

import pytest

from thaw.core.errors import ThawError
from thaw.training import metrics_folder


def test_metrics_replace_those_of_the_training_before_only_when_it_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "reports"
    for number in (1, 2):
        with metrics_folder.replace(folder) as live:
            live.summary["number"] = number
    with pytest.raises(KeyboardInterrupt), metrics_folder.replace(folder) as live:
        live.summary["number"] = 3
        raise KeyboardInterrupt
    assert json.loads((folder / "metrics.json").read_text()) == {"number": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["reports"]


def test_the_files_have_fixed_names_whatever_is_logged_and_what_else_is_there_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = [tmp_path / name for name in ("mine", "plots/mine", "plots/metrics/mine")]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with metrics_folder.replace(tmp_path, ["loss", "train_loss"]) as live:
        live.log_metric("loss", 0.5)
    assert (tmp_path / "plots/metrics/loss.tsv").read_text() == "step\tloss\n0\t0.5\n"
    assert (tmp_path / "plots/metrics/train_loss.tsv").read_text() == "step\ttrain_loss\n"
    with metrics_folder.replace_with_table(tmp_path, "plots/table.csv") as live:
        for live.step in (0, 1):
            for name in ("a/b/loss", "plain/loss", *(["plain/train_loss"] if live.step else [])):
                live.log_metric(name, live.step / 4)
    assert (tmp_path / "plots/table.csv").read_text() == (
        "training,step,loss,train_loss\na/b,0,0.0,\na/b,1,0.25,\nplain,0,0.0,\nplain,1,0.25,0.25\n"
    )
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    curves = {f"plots/metrics/{name}.tsv" for name in ("loss", "train_loss")}
    assert files == {"mine", "plots/mine", "plots/metrics/mine", "metrics.json", "plots/table.csv"} | curves
    assert json.loads((tmp_path / "metrics.json").read_text())["plain"] == {"loss": 0.25, "train_loss": 0.25}


def test_a_repository_without_a_commit_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["dvc", "init", "-q"], check=True)
    with (
        pytest.raises(ThawError, match="needs a commit in this Git repository"),
        metrics_folder.replace(tmp_path / "r"),
    ):
        pass
