"""`make doctor` says what is needed to help someone, and nothing about whose machine it is."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Checkout
from dependencies import ROOT, closure

from thaw.support import facts

DOCTOR = ROOT / "src" / "doctor.py"
NAMES = [
    "thaw", "python", "environment", "packages", "system", "processor", "instructions", "cores", "memory", "disk",
    "kernels", "commit", "changes", "clone", "remote", "cache", "links", "source", "stages",
]  # fmt: skip


@pytest.fixture(scope="module")
def project(source_dir, tmp_path_factory) -> Checkout:
    """A repository whose names, remote and parameters tell who somebody is."""
    path = tmp_path_factory.mktemp("doctor") / "project"
    shutil.copytree(source_dir, path)
    checkout = Checkout(path)
    for name in ("pyproject.toml", "Makefile"):
        shutil.copyfile(ROOT / name, path / name)
    checkout.run("git", "config", "user.name", "Ada Secretary", check=True)
    checkout.dvc("remote", "add", "--default", "store", "s3://ada-bucket/cells")
    checkout.dvc("remote", "modify", "--local", "store", "secret_access_key", "hunter2")
    checkout.set(download__folder__path="/home/ada/patients")
    (path / "ada.txt").write_text("a file of one's own")
    return checkout


@pytest.fixture(scope="module")
def said(project) -> dict[str, str]:
    return doctor(project.path)


def doctor(path: Path, python: str = sys.executable, **environment: str) -> dict[str, str]:
    done = subprocess.run(
        [python, path / "src" / "doctor.py"], cwd=path.parent, capture_output=True, text=True,
        env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done.stdout.splitlines())


def test_it_says_versions_machine_and_state(said):
    assert list(said) == NAMES
    assert re.match(r"\d+\.\d+\.\d+$", said["thaw"])
    assert "dvc 3." in said["packages"] and "keras 3." in said["packages"]
    assert (
        re.match(r"\d+ of \d+$", said["cores"]) and " GB free of " in said["memory"] and " GB free of " in said["disk"]
    )
    assert said["changes"].startswith(("2 tracked files changed", "1 tracked file"))
    assert said["remote"] == "s3"
    assert said["source"] == "folder"
    assert said["stages"].startswith("out of date: augment, backbone, download")


def test_it_tells_no_path_no_address_no_name_and_no_secret(said):
    told = " ".join(f"{name} {value}" for name, value in said.items())
    for secret in ("ada", "Ada", "Secretary", "hunter2", "bucket", "patients", "/home", "/tmp", str(Path.home())):
        assert secret not in told


def test_stages_of_ones_own_are_counted_and_not_named(project, monkeypatch):
    status = {"split": ["changed"], "ada.dvc": ["changed"], "patients/dvc.yaml:clean": ["changed"]}
    monkeypatch.setattr(facts, "_run", lambda *arguments: json.dumps(status))
    said = dict(facts.pipeline_state(project.path, project.path / "params.yaml"))
    assert said["stages"] == "out of date: split, 2 of your own"


def test_what_is_broken_stops_no_other_fact(project):
    broken = project.path.parent / "broken"
    broken.mkdir()
    (broken / "pyproject.toml").write_bytes(b"\xff")
    said = dict(facts.collect(broken, broken / "params.yaml"))
    assert said["versions"] == "not to be found out (UnicodeDecodeError)"
    assert said["pipeline"] == "not to be found out (FileNotFoundError)"
    assert said["commit"] == "none" and said["changes"] == said["clone"] == facts.UNKNOWN
    assert " GB free of " in said["disk"]


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="this Python is no environment's, and may have DVC itself")
def test_it_works_without_git_dvc_and_the_packages(project, tmp_path):
    """As before `make setup`: with the Python that the environment is made from, and no other program."""
    said = doctor(project.path, python=sys._base_executable, PATH=str(tmp_path))
    assert list(said) == NAMES
    assert "dvc" not in said["packages"] and "keras" not in said["packages"]
    asked = ("commit", "changes", "clone", "remote", "cache", "links")  # of programs that are not there
    assert {said[name] for name in asked} == {facts.UNKNOWN}
    assert said["stages"] == "`dvc status` gave no answer"


def test_what_git_refuses_to_say_is_unknown(project, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as in a container: "dubious ownership"
    assert dict(facts.git_state(project.path)) == dict.fromkeys(("commit", "changes", "clone"), facts.UNKNOWN)


OLD = next((path for path in Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python")), None) or shutil.which(
    "python3.9"
)


@pytest.mark.skipif(OLD is None, reason="no old Python is there")
def test_an_old_python_is_told_which_one_is_needed():
    done = subprocess.run([OLD, DOCTOR], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"thaw: Python 3\.11 to 3\.13 is needed, this is 3\.\d\.\d+: make PYTHON=python3\.12 doctor\n", done.stderr
    )


def test_an_old_python_meets_no_import_of_thaw_before_it_is_told():
    code = (
        f"import runpy, sys; sys.version_info = (3, 9, 18); sys.modules['thaw'] = None; runpy.run_path({str(DOCTOR)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.startswith("thaw: Python 3.11 to 3.13 is needed") and done.stderr.count("\n") == 1


def test_the_python_that_is_named_is_the_one_that_setup_takes():
    (line,) = re.findall(r"Python 3\.\d+ to 3\.\d+ is needed", DOCTOR.read_text())
    assert line in (ROOT / "Makefile").read_text()


KEYS = "".join(f"  key{i}: {i}  # {'word ' * 9}\n\n" for i in range(60))


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (f"task: single\ndownload:\n{KEYS}  source: elpv  # or another\n", "elpv"),
        (f"download:   # mine\n# a line\n{KEYS}  source: open_images\n", "open_images"),
        (f'download:\n{KEYS}  source: "folder"   # quoted\nsplit:\n{KEYS}', "folder"),
        ("download:\r\n  source: 'table'\r\n", "table"),
        (f"download:\n{KEYS}  source: /home/ada\nother:\n  source: elpv\n{KEYS}", "unknown"),
        (f"other:\n  source: elpv\n{KEYS}download:\n{KEYS}", "unknown"),
    ],
)
def test_the_source_is_read_line_by_line(text, source, tmp_path):
    (tmp_path / "params.yaml").write_bytes(text.encode())
    assert facts._source(tmp_path / "params.yaml") == source


def test_it_imports_the_standard_library_alone():
    for module in closure(DOCTOR, lazy=False):
        found = re.findall(r"^(?:import|from) (\w+)", module.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(found) <= {*sys.stdlib_module_names, "thaw"}, module


@pytest.mark.parametrize(
    ("url", "kind"),
    [("s3://bucket/x", "s3"), ("ssh://me@host/x", "ssh"), ("/mnt/x", "a folder"), ("../store", "a folder")],
)
def test_the_kind_of_a_remote(url, kind):
    assert facts._kind(url) == kind
