"""`make verify` on a pipeline of one stage: it compares outputs and metrics, and finds damage in the cache."""

import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, Checkout

sys.path.append(str(ROOT / "benchmarks"))

from verify import COMPUTES, PROVENANCE, Difference, Output, causes, compare, damaged_files, differences, verdict

SCRIPT = """
import json
from pathlib import Path
for folder in ("data", "reports"):
    Path(folder).mkdir(exist_ok=True)
Path("data/table.csv").write_text("a,b\\n")
metrics = {"accuracy_weighted": VALUE, "accuracy_weighted_low": 0.7, "accuracy_weighted_high": 0.9}
Path("reports/metrics.json").write_text(json.dumps({"head": {"test": metrics}}))
"""
PIPELINE = {
    "stages": {
        "evaluate": {
            "cmd": "python evaluate.py",
            "deps": ["evaluate.py"],
            "outs": ["data/table.csv"],
            "metrics": [{"reports/metrics.json": {"cache": False}}],
        }
    }
}


@pytest.fixture(scope="module")
def committed(dvc_of_its_own, tmp_path_factory):
    """A repository of one stage whose results are committed."""
    checkout = Checkout(tmp_path_factory.mktemp("verify") / "repository")
    checkout.path.mkdir()
    (checkout.path / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (checkout.path / "evaluate.py").write_text(SCRIPT.replace("VALUE", "0.8"))
    (checkout.path / ".gitignore").write_text("/data\n")
    checkout.run("git", "init", "--quiet", check=True)
    checkout.run(sys.executable, "-m", "dvc", "init", "--quiet", check=True)
    checkout.repro()
    commit(checkout)
    return checkout


@pytest.fixture
def repository(committed, tmp_path):
    subprocess.run(["cp", "-a", committed.path, tmp_path / "work"], check=True)
    return Checkout(tmp_path / "work")


def commit(checkout):
    checkout.run("git", "add", "--all", check=True)
    checkout.run("git", "commit", "--quiet", "--message", "results", check=True)


def verify(checkout, *arguments):
    return checkout.run(sys.executable, str(ROOT / "benchmarks/verify.py"), *arguments)


def commit_other_accuracy(checkout, value):
    """Change the accuracy that the script writes, but not the committed results, as another processor would do."""
    path, lock = checkout.path / "evaluate.py", (checkout.path / "dvc.lock").read_bytes()
    metrics = (checkout.path / "reports/metrics.json").read_bytes()
    path.write_text(SCRIPT.replace("VALUE", str(value)))
    commit(checkout)
    assert (checkout.path / "dvc.lock").read_bytes() == lock
    assert (checkout.path / "reports/metrics.json").read_bytes() == metrics


# --- A run ---


def test_a_second_run_is_identical(repository):
    result = verify(repository)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["evaluate", "data/table.csv", "identical"] in rows
    assert ["evaluate", "reports/metrics.json", "identical"] in rows
    assert result.stdout.splitlines()[-1] == "verify: all 2 outputs are identical to those of the commit"


def test_uncommitted_changes_are_reported_and_ignored(repository):
    (repository.path / "evaluate.py").write_text("fails at once")
    result = verify(repository)
    assert result.returncode == 0, result.stderr
    assert "uncommitted changes are ignored: HEAD is verified" in result.stdout


@pytest.mark.parametrize(
    ("value", "status", "summary"), [(0.75, 0, "all of them within"), (0.65, 1, "1 metrics are outside")]
)
def test_changed_metrics_are_printed_with_their_intervals(repository, value, status, summary):
    commit_other_accuracy(repository, value)
    result = verify(repository)
    assert result.returncode == status, result.stderr
    outside = ": OUTSIDE" if status else ""
    line = f"head.test.accuracy_weighted: 0.8000 in the commit (0.7000 to 0.9000{outside}), now {value:.4f}"
    assert line in result.stdout.splitlines()
    first = "verify: the first output that differs is reports/metrics.json, of the stage evaluate"
    assert first in result.stdout.splitlines()
    assert "1 of 2 outputs are identical" in result.stdout.splitlines()[-1]
    assert summary in result.stdout.splitlines()[-1]


def test_a_commit_without_metrics_fails(repository):
    repository.run("git", "rm", "--quiet", "reports/metrics.json", check=True)
    commit(repository)
    result = verify(repository)
    assert result.returncode == 1
    assert "HEAD has no reports/metrics.json to compare with" in result.stderr


def test_a_stage_that_fails_ends_in_one_line(repository):
    (repository.path / "evaluate.py").write_text("import sys; sys.exit('no photographs')")
    commit(repository)
    result = verify(repository)
    assert result.returncode == 1
    assert "no photographs" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("thaw: the run in the clone failed")


def test_a_commit_without_a_lock_ends_in_one_line(repository):
    repository.run("git", "rm", "--quiet", "--cached", "dvc.lock", check=True)
    repository.run("git", "commit", "--quiet", "--message", "none", check=True)
    result = verify(repository)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("thaw: HEAD has no dvc.lock")


# --- Comparisons ---


def lock(**outputs):
    return {"stages": {"split": {"outs": [{"path": path, "md5": md5} for path, md5 in outputs.items()]}}}


def test_a_changed_new_or_missing_output_differs():
    assert compare(lock(same="1", other="1", gone="1"), lock(same="1", other="2", new="1")) == [
        Output("split", "same", True),
        Output("split", "other", False),
        Output("split", "gone", False),
        Output("split", "new", False),
    ]


def metric(value):
    return {"roc_auc": value, "roc_auc_low": 0.5, "roc_auc_high": 0.75}


def test_only_changed_metrics_with_an_interval_are_differences():
    before = {"head": {"test": metric(0.6) | {"n": 5}, "validation": metric(0.6)}}
    after = {"head": {"test": metric(0.7) | {"n": 6}, "validation": metric(0.6)}}
    assert list(differences(before, after)) == [Difference("head.test.roc_auc", 0.6, 0.7, 0.5, 0.75)]


@pytest.mark.parametrize(("value", "within"), [(0.5, True), (0.75, True), (0.76, False), (0.49, False), (None, False)])
def test_an_interval_includes_both_ends(value, within):
    (difference,) = differences(metric(0.6), metric(value))
    assert difference.within is within


def test_a_missing_metric_is_outside():
    (difference,) = differences({"head": metric(0.6)}, {})
    assert not difference.within


RECORDED = {"kernels": "x86-64 with AVX2 and FMA", "libraries": {"numpy": "2.4.6", "scipy": "1.17.1"}}
DIFFERENT = [Output("split", "a", True), Output("train_head", "b", False), Output("evaluate", "c", False)]


def test_of_identical_outputs_no_cause_is_named():
    assert not causes([Output("split", "a", True)], RECORDED, {})


@pytest.mark.parametrize(
    ("here", "cause"),
    [
        ({"kernels": "chosen by each library (aarch64)"}, "kernels: x86-64 with AVX2 and FMA in the commit, chosen by"),
        ({"libraries": {"numpy": "2.5.5", "scipy": "1.17.1"}}, "numpy: 2.4.6 in the commit, 2.5.5 here"),
        ({"libraries": {"numpy": "2.4.6"}}, "scipy: 1.17.1 in the commit, none here"),
    ],
)
def test_the_first_output_that_differs_and_the_likely_cause_are_named(here, cause):
    first, why = causes(DIFFERENT, RECORDED, RECORDED | here)
    assert first == "the first output that differs is b, of the stage train_head"
    assert why.startswith(f"likely cause: {cause}")


def test_with_the_same_kernels_and_versions_the_libraries_of_the_stage_are_named():
    _, why = causes(DIFFERENT, RECORDED, RECORDED)
    assert "OpenBLAS" in why and "likely cause" not in why


def test_a_commit_that_names_no_kernels_is_said():
    _, why = causes(DIFFERENT, {}, RECORDED)
    assert PROVENANCE in why and "no cause can be named" in why


def test_what_computes_is_known_of_every_stage_that_computes():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(COMPUTES) == [stage for stage in stages if stage not in ("inputs", "fingerprints")]


def test_an_outdated_lock_is_reported_with_identical_outputs():
    sentence, passed = verdict([Output("split", "a", True)], [" M dvc.lock"], [])
    assert sentence == "all 1 outputs are identical to those of the commit, but Git sees changes in dvc.lock"
    assert passed


# --- Damage ---


def test_a_damaged_cached_file_and_its_output_are_found_and_restored(repository):
    assert verify(repository, "--cache").returncode == 0
    output = repository.path / "data/table.csv"
    (entry,) = [p for p in (repository.path / ".dvc/cache/files/md5").glob("??/*") if p.read_bytes() == b"a,b\n"]
    entry.chmod(0o644)
    entry.write_bytes(b"a,c\n")
    entry.chmod(0o444)
    assert damaged_files(repository.path / ".dvc/cache") == [entry]
    output.unlink()
    repository.repro()
    assert output.read_bytes() == b"a,c\n", "DVC checks its cached files itself now: this check can go"
    result = verify(repository, "--cache")
    assert result.returncode == 1
    assert "rm -r data/table.csv && dvc repro" in result.stdout.splitlines()
    assert not entry.exists()
    output.unlink()
    output.symlink_to(entry)  # as `cache.type symlink` has it
    result = verify(repository, "--cache")
    assert result.returncode == 1
    assert "rm -r data/table.csv && dvc repro" in result.stdout.splitlines()
    output.unlink()
    repository.repro()
    assert output.read_bytes() == b"a,b\n"
    assert verify(repository, "--cache").returncode == 0
