"""Experiments of DVC: what was run with which parameters, what came out, what it cost; and how one is run."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from thaw.core.errors import ThawError
from thaw.core.params import flatten
from thaw.core.tables import EVALUATED
from thaw.report.estimate import Estimate

WORKSPACE = "workspace"  # DVC's name of what is not committed
SOURCE = "src/"  # where the code of all stages is, as files and packages
DATA = ("raw", "split.csv")  # the names of the artifacts that define the photographs of a run
PRUNE = "fine_tune.prune_above"  # the limits that a search gives a trial


class Data(NamedTuple):
    """The hashes of the photographs and of their split, as `dvc.lock` has them; None if it has none."""

    raw: str | None
    split: str | None


UNKNOWN_DATA = Data(None, None)


@dataclass(frozen=True)
class Experiment:
    """A run, or the mean of several that differ only in their seeds.

    The accuracies are weighted, and of the fine-tuned model. That of a run has its 95 % interval; a mean has the
    interval of one standard deviation on either side.
    """

    name: str
    revision: str
    parameters: Mapping[str, object]  # dotted key → value
    accuracies: Mapping[str, Estimate]  # split → accuracy
    training_cost: float | None = None  # 10^12 multiply-adds of fine-tuning
    code: str = ""  # differs between runs of different code
    data: Data = UNKNOWN_DATA
    other_validation: bool = False  # whether it has other validation photographs than what it is compared with
    repeats: tuple["Experiment", ...] = field(default=(), repr=False)  # the runs that this is the mean of


class Unfinished(NamedTuple):
    name: str
    state: str  # queued, running or failed


def read(revisions: Sequence[str] = (), all_commits: bool = False) -> tuple[list[Experiment], list[Unfinished]]:
    """Return the experiments of the repository around this folder, and those that did not finish.

    Args:
        revisions: commits whose experiments are read, or experiments by name. Default: HEAD and the workspace.
        all_commits: whether to read the experiments of all commits.

    Raises:
        ThawError: if `dvc exp show` fails.
    """
    command = ["exp", "show", "--json", *(["--all-commits"] if all_commits else [])]
    for revision in revisions:
        command += ["--rev", revision]
    result = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True, check=False)
    if result.returncode:
        raise ThawError(f"`dvc exp show`: {result.stderr.strip().removeprefix('ERROR: ')}")
    return parse(json.loads(result.stdout), {commit_of(revision): revision for revision in revisions})


def commit_of(revision: str) -> str:
    """Return the hash of a commit, or of an experiment by its name."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return commit or finished_commits().get(revision, revision)


def finished_commits() -> dict[str, str]:
    """Return the commit of each finished experiment by its name."""
    command = ["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"]
    refs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # DVC keeps refs of its own (stash, running experiments) beside those of this form.
    return {name: commit for commit, name in re.findall(r"^(\w+) refs/exps/\w{2}/\w{38}/(.+)$", refs, re.MULTILINE)}


def parse(
    commits: Sequence[Mapping], requested: Mapping[str, str] | None = None
) -> tuple[list[Experiment], list[Unfinished]]:
    """Return what `read` does, from the output of `dvc exp show --json`.

    The experiments come first, then the workspace, then the commits. `requested`: hash of a commit → name to show.
    """
    requested = requested or {}
    experiments, baselines, unfinished = [], [], []
    for commit in commits:
        for entry in commit["experiments"] or []:
            last, executor = entry["revs"][0], entry["executor"] or {"state": "success"}
            name, state = entry["name"] or last["rev"][:9], executor["state"]
            if state == "success":
                experiments.append(_experiment(name, last))
            else:
                unfinished.append(Unfinished(name, state))
        if not requested or commit["rev"] != WORKSPACE:
            name = requested.get(commit["rev"], commit["name"] or commit["rev"][:9])
            baselines.append(_experiment(name, commit))
    return [experiment for experiment in (*experiments, *baselines) if experiment], unfinished


def _experiment(name: str, entry: Mapping) -> Experiment | None:
    """Return a commit as an experiment, or None if it has no accuracies."""
    results = entry["data"] or {}
    metrics = {key: value for content in _contents(results.get("metrics")) for key, value in content.items()}
    try:
        (parameters,) = _contents(results.get("params"))
        scores = metrics["fine_tuned"]
        accuracies = {split: Estimate.read(scores[split], "accuracy_weighted") for split in EVALUATED}
    except (KeyError, ValueError):
        return None
    dependencies = results.get("deps") or {}
    code = sorted((path, entry["hash"]) for path, entry in dependencies.items() if path.startswith(SOURCE))
    by_name = {PurePosixPath(path).name: dependency for path, dependency in dependencies.items()}
    data = Data(*(by_name.get(name, {}).get("hash") for name in DATA))
    cost = metrics.get("tera_multiply_adds")
    return Experiment(name, entry["rev"], dict(flatten(parameters)), accuracies, cost, repr(code), data)


def _contents(files: Mapping | None) -> list[Mapping]:
    """Return the content of each file of parameters or metrics that could be read."""
    return [file["data"] for file in (files or {}).values() if file.get("data")]


def stages_started(output: str) -> list[str]:
    """Return the stages that DVC started, from what it printed."""
    return re.findall(r"^Running stage '(.+)':", output, re.MULTILINE)


def run(changes: Mapping[str, str], name: str | None = None) -> str | None:
    """Run one experiment in a temporary workspace.

    The stages are printed as they start. What they print themselves is not shown: the last one speaks of test.

    Args:
        changes: dotted key → value, as `dvc exp run --set-param` takes it.
        name: of the experiment; DVC makes one up if it is None.

    Returns:
        None, or the line that says why the experiment failed.
    """
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", *(["--name", name] if name else [])]
    for key, value in changes.items():
        command += ["--set-param", f"{key}={value}"]
    start, lines = time.monotonic(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            lines.append(line.strip())
            for stage in stages_started(line):
                print(f"  {stage}", end="", flush=True)
    print(f"  {time.monotonic() - start:.0f} s")
    if process.returncode == 0:
        return None
    return next(_errors(lines), f"`{' '.join(command[2:])}` ended with exit status {process.returncode}")


def _errors(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines that are errors; one that ends in a colon with all lines after it."""
    for i, line in enumerate(lines):
        if line.startswith(("thaw: ", "ERROR: ")):
            yield " ".join([line, *filter(None, lines[i + 1 :])]) if line.endswith(":") else line
