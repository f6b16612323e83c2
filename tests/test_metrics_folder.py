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


def test_a_repository_without_a_commit_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["dvc", "init", "-q"], check=True)
    with (
        pytest.raises(ThawError, match="needs a commit in this Git repository"),
        metrics_folder.replace(tmp_path / "r"),
    ):
        pass
