"""Experiments of DVC: what was run with which parameters, what came out, what it cost; and how one is run."""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from thaw.core.errors import ThawError
from thaw.core.metrics_file import MEAN_AVERAGE_PRECISION, WEIGHTED, saved_model
from thaw.core.params import flatten
from thaw.core.paths import repository
from thaw.core.tables import EVALUATED
from thaw.core.task import MULTI
from thaw.experiments import programs
from thaw.report.estimate import Estimate

NO_RESULTS = "without results"
WORKSPACE = "workspace"  # DVC's name of what is not committed
SOURCE = "src/"  # where the code of all stages is, as files and packages
IMAGES = ("images.csv", "raw")  # the artifact that defines the photographs of a run: a table; before, a folder with it
SPLIT, LABELS = "split.csv", "labels.csv"
EACH_TIME = "each_time"  # no parameter of a person's: it makes a stage run
PRUNE = "fine_tune.prune_above"  # the limits that a search gives a trial


class Data(NamedTuple):
    """The hashes of the photographs, of their split and of their labels, as `dvc.lock` has them; None if it has none.

    The labels are those of photographs with several.
    """

    raw: str | None
    split: str | None
    labels: str | None = None


UNKNOWN_DATA = Data(None, None)


@dataclass(frozen=True)
class Experiment:
    """A run, or the mean of several that differ only in their seeds.

    The accuracies are weighted, and of the saved model; where photographs have several labels, mean average precisions
    stand in their place. That of a run has its 95 % interval; a mean has the interval of one standard deviation on
    either side. That on test is None if no label there has a weight.
    """

    name: str
    revision: str
    parameters: Mapping[str, object]  # dotted key → value
    accuracies: Mapping[str, Estimate]  # split → accuracy, or what `measure` names
    training_cost: float | None = None  # 10^12 multiply-adds of fine-tuning
    code: str = ""  # differs between runs of different code
    data: Data = UNKNOWN_DATA
    measure: str = WEIGHTED  # the main metric: a key of metrics_file.MEASURE_NAMES
    has_folds: bool = False
    other_validation: bool = False  # whether it has other validation photographs than what it is compared with
    repeats: tuple["Experiment", ...] = field(default=(), repr=False)  # the runs that this is the mean of


class Unfinished(NamedTuple):
    name: str
    state: str  # queued, running or failed; or NO_RESULTS


def read(revisions: Sequence[str] = (), all_commits: bool = False) -> tuple[list[Experiment], list[Unfinished]]:
    """Return the experiments of the repository around this folder, and those that did not finish.

    Args:
        revisions: commits whose experiments are read, or experiments by name. Default: HEAD and the workspace.
        all_commits: whether to read the experiments of all commits.

    Raises:
        ThawError: if `dvc exp show` fails, or answers without JSON.
    """
    command = programs.dvc("exp", "show", "--json", *(["--all-commits"] if all_commits else []))
    for revision in revisions:
        command += ["--rev", revision]
    here = Path.cwd()
    project = here.relative_to(repository(here)).as_posix()
    requested = {commit_of(revision): revision for revision in revisions}
    return parse(programs.json_answer(command), requested, "" if project == "." else f"{project}/")


def commit_of(revision: str) -> str:
    """Return the hash of a commit, or of an experiment by its name."""
    name = f"{revision}^{{commit}}"
    if programs.succeeds("rev-parse", "--verify", "--quiet", name):
        return programs.git("rev-parse", "--verify", "--quiet", name).strip()
    return finished_commits().get(revision, revision)


def finished_commits() -> dict[str, str]:
    """Return the commit of each finished experiment by its name."""
    return _commits_by_name(programs.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"))


def commits_on(git_remote: str) -> dict[str, str]:
    """Return the commit of each experiment on a remote of Git, by its name; raises ThawError if it does not answer."""
    return _commits_by_name(programs.git("ls-remote", git_remote, "refs/exps/*"))


def _commits_by_name(refs: str) -> dict[str, str]:
    # DVC keeps refs of its own (stash, running experiments) beside those of this form.
    return {name: commit for commit, name in re.findall(r"^(\w+)\s+refs/exps/\w{2}/\w{38}/(.+)$", refs, re.MULTILINE)}


def refuse_shallow_clone() -> None:
    """Raise ThawError in a shallow clone: DVC runs an experiment there, says that all is well, and keeps nothing.

    See https://github.com/treeverse/dvc/issues/8844.
    """
    if programs.git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise ThawError(
            "this clone is shallow, without the earlier commits, and DVC loses every experiment in such a clone: "
            "`git fetch --unshallow` first (in CI: fetch-depth: 0)"
        )


def parse(
    commits: Sequence[Mapping], requested: Mapping[str, str] | None = None, project: str = ""
) -> tuple[list[Experiment], list[Unfinished]]:
    """Return what `read` does, from the output of `dvc exp show --json`.

    The experiments come first, then the workspace, then the commits. `requested`: hash of a commit → name to show.
    `project`: the folder of the project in DVC's repository, with a `/`. What lies outside belongs to other projects.
    """
    requested = requested or {}
    experiments, baselines, unfinished = [], [], []
    for commit in commits:
        for entry in commit["experiments"] or []:
            last, executor = entry["revs"][0], entry["executor"] or {"state": "success"}
            name, state = entry["name"] or last["rev"][:9], executor["state"]
            experiment = _experiment(name, last, project) if state == "success" else None
            if experiment:
                experiments.append(experiment)
            else:
                unfinished.append(Unfinished(name, NO_RESULTS if state == "success" else state))
        if not requested or commit["rev"] != WORKSPACE:
            name = requested.get(commit["rev"], commit["name"] or commit["rev"][:9])
            if experiment := _experiment(name, commit, project):
                baselines.append(experiment)
            elif commit["rev"] in requested:
                unfinished.append(Unfinished(name, NO_RESULTS))
    return experiments + baselines, unfinished


def _experiment(name: str, entry: Mapping, project: str) -> Experiment | None:
    """Return a commit as an experiment, or None if it has no accuracies."""
    results = {
        kind: {path.removeprefix(project): file for path, file in (files or {}).items() if path.startswith(project)}
        for kind, files in (entry["data"] or {}).items()
        if kind in ("metrics", "params", "deps")
    }
    metrics = {key: value for content in _contents(results.get("metrics")) for key, value in content.items()}
    try:
        (parameters,) = (content for content in _contents(results.get("params")) if EACH_TIME not in content)
        scores = metrics[saved_model(metrics)]
        measure = MEAN_AVERAGE_PRECISION if parameters.get("task") == MULTI else WEIGHTED
        # DVC leaves out what is null: a test split in which no label has a weight has no weighted accuracy.
        accuracies = {split: Estimate.read({measure: None} | scores[split], measure) for split in EVALUATED}
    except (KeyError, ValueError):
        return None
    if accuracies["validation"].value is None:  # as of code before there were weights
        return None
    dependencies = results.get("deps") or {}
    code = sorted((path, entry["hash"]) for path, entry in dependencies.items() if path.startswith(SOURCE))
    by_name = {PurePosixPath(path).name: dependency for path, dependency in dependencies.items()}
    images = next((by_name[name] for name in IMAGES if name in by_name), {})
    data = Data(*(known.get("hash") for known in (images, by_name.get(SPLIT, {}), by_name.get(LABELS, {}))))
    return Experiment(
        name=name,
        revision=entry["rev"],
        parameters=dict(flatten(parameters)),
        accuracies=accuracies,
        training_cost=metrics.get("tera_multiply_adds"),
        code=repr(code),
        data=data,
        measure=measure,
        has_folds="folds" in metrics,
    )


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
        None if DVC has a new experiment, or the line that says why it has none.
    """
    command = programs.dvc("exp", "run", "--temp", *(["--name", name] if name else []))
    for key, value in changes.items():
        command += ["--set-param", f"{key}={value}"]
    start, lines, before = time.monotonic(), [], finished_commits()
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": programs.environment()}
    with subprocess.Popen(command, **options, **programs.TEXT) as process:
        for line in process.stdout:
            lines.append(line.strip())
            for stage in stages_started(line):
                print(f"  {stage}", end="", flush=True)
    print(f"  {time.monotonic() - start:.0f} s")
    shown = programs.shown(command)
    if process.returncode:
        return next(_errors(lines), f"{shown} {programs.ended(process.returncode)}")
    if finished_commits() == before:  # as in a shallow clone, whatever the exit status says
        said = next(_errors(lines), lines[-1] if lines else "nothing")
        return f"{shown} ended without an error, but kept no experiment; its last word: {said}"
    return None


def _errors(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines that are errors; one that ends in a colon with all lines after it."""
    for i, line in enumerate(lines):
        if line.startswith(("thaw: ", "ERROR: ")):
            yield " ".join([line, *filter(None, lines[i + 1 :])]) if line.endswith(":") else line
