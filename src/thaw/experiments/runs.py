"""Experiments of DVC: what was run with which parameters, what came out, what it cost; and how one is run."""

import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

from thaw.core.errors import ThawError
from thaw.core.files import read_utf8
from thaw.core.metrics_file import MEAN_AVERAGE_PRECISION, WEIGHTED, saved_model
from thaw.core.params import flatten
from thaw.core.paths import repository
from thaw.core.tables import EVALUATED
from thaw.core.task import MULTI
from thaw.experiments import programs
from thaw.report.estimate import Estimate

NO_RESULTS = "without results"
OUT_OF_DATE = "params.yaml or the code was changed since its last run: `dvc repro`"
WORKSPACE = "workspace"  # DVC's name of what is not committed
SOURCE = "src/"  # where the code of all stages is, as files and packages
LOCK = "dvc.lock"
PRUNE = "fine_tune.prune_above"  # the limits that a search gives a trial


class Files(NamedTuple):
    """Where a commit has what is known of its run: paths in the project, as DVC shows them."""

    pipeline: str
    parameters: str
    metrics: str
    training: str  # the metrics of fine-tuning
    images: tuple[str, ...]  # what defines the photographs: a table; before, a folder with it
    split: str
    labels: str


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
    state: str  # queued, running or failed; or NO_RESULTS, or OUT_OF_DATE


def read(
    files: Files, revisions: Sequence[str] = (), all_commits: bool = False
) -> tuple[list[Experiment], list[Unfinished]]:
    """Return the experiments of the repository around this folder, and those that did not finish.

    Args:
        files: where their parameters and results are.
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
    return parse(
        programs.json_answer(command),
        files,
        requested,
        "" if project == "." else f"{project}/",
        partial(_lock_of, files),
    )


def _lock_of(files: Files, revision: str) -> Mapping:
    """Return the stages in the `dvc.lock` of a commit or of the workspace; empty if it has none.

    Those that the pipeline has no more are left out. Of a frozen one the dependencies are: DVC does not look at them.
    Its parameters count: a run that has other ones did not use them.
    """
    stages, known = _file_of(revision, LOCK).get("stages", {}), _file_of(revision, files.pipeline).get("stages", {})
    kept = {name: stage for name, stage in stages.items() if name.partition("@")[0] in known}
    frozen = {name for name in kept if known[name.partition("@")[0]].get("frozen")}
    return {"stages": {name: stage | {"deps": []} if name in frozen else stage for name, stage in kept.items()}}


def _file_of(revision: str, name: str) -> Mapping:
    """Return a YAML file of a commit or of the workspace; empty if it has none."""
    from ruamel.yaml import YAML  # as DVC reads it: in another version of YAML, 1e-5 is text

    try:
        text = read_utf8(Path(name)) if revision == WORKSPACE else programs.git("show", f"{revision}:./{name}")
    except (FileNotFoundError, ThawError):
        return {}
    return YAML(typ="safe").load(text) or {}


def commit_of(revision: str) -> str:
    """Return the hash of a commit, or of an experiment by its name."""
    name = f"{revision}^{{commit}}"
    if programs.succeeds("rev-parse", "--verify", "--quiet", name):
        return programs.git("rev-parse", "--verify", "--quiet", name).strip()
    commits = [commit for ref, commit in finished_commits().items() if name_of(ref) == revision]
    if len(commits) > 1:
        hashes = ", ".join(commit[:9] for commit in commits)
        raise ThawError(f"{len(commits)} experiments are called {revision}: name one by its commit: {hashes}")
    return commits[0] if commits else revision


def finished_commits() -> dict[str, str]:
    """Return the commit of each finished experiment by its ref, which ends in its name.

    Experiments of several commits may have one name.
    """
    return _commits_by_ref(programs.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"))


def commits_on(git_remote: str) -> dict[str, str]:
    """Return the commit of each experiment on a remote of Git, by its ref; raises ThawError if it does not answer."""
    return _commits_by_ref(programs.git("ls-remote", git_remote, "refs/exps/*"))


def name_of(ref: str) -> str:
    """Return the name of an experiment, from its ref."""
    return ref.rpartition("/")[2]


def _commits_by_ref(refs: str) -> dict[str, str]:
    # DVC keeps refs of its own (stash, running experiments) beside those of this form.
    return {ref: commit for commit, ref in re.findall(r"^(\w+)\s+(refs/exps/\w{2}/\w{38}/.+)$", refs, re.MULTILINE)}


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
    commits: Sequence[Mapping],
    files: Files,
    requested: Mapping[str, str] | None = None,
    project: str = "",
    lock_of: Callable[[str], Mapping] = lambda revision: {},
) -> tuple[list[Experiment], list[Unfinished]]:
    """Return what `read` does, from the output of `dvc exp show --json`.

    The experiments come first, then the workspace, then the commits.

    Args:
        commits: the output.
        files: where the parameters and results of a commit are.
        requested: hash of a commit → name to show.
        project: the folder of the project in DVC's repository, with a `/`. What lies outside belongs to other projects.
        lock_of: returns the `dvc.lock` of a revision.
    """
    requested = requested or {}
    experiments, baselines, unfinished = [], [], []

    def add(result: Experiment | Unfinished, to: list[Experiment]) -> None:
        (to if isinstance(result, Experiment) else unfinished).append(result)

    for commit in commits:
        for entry in commit["experiments"] or []:
            last, executor = entry["revs"][0], entry["executor"] or {"state": "success"}
            name, state = entry["name"] or last["rev"][:9], executor["state"]
            done = state == "success"
            add(_result(name, last, files, project, lock_of) if done else Unfinished(name, state), experiments)
        if not requested or commit["rev"] != WORKSPACE:
            name = requested.get(commit["rev"], commit["name"] or commit["rev"][:9])
            result = _result(name, commit, files, project, lock_of)
            if result != Unfinished(name, NO_RESULTS) or commit["rev"] in requested:
                add(result, baselines)
    return experiments + baselines, unfinished


def _result(
    name: str, entry: Mapping, files: Files, project: str, lock_of: Callable[[str], Mapping]
) -> Experiment | Unfinished:
    """Return a commit as an experiment, or why it is none: it has no accuracies, or not those of its parameters."""

    def content(kind: str, path: str) -> Mapping:
        data = ((shown.get(kind) or {}).get(f"{project}{path}") or {}).get("data")
        return data if isinstance(data, Mapping) else {}

    shown = entry["data"] or {}
    parameters, metrics = content("params", files.parameters), content("metrics", files.metrics)
    try:
        scores = metrics[saved_model(metrics)]
        measure = MEAN_AVERAGE_PRECISION if parameters.get("task") == MULTI else WEIGHTED
        # DVC leaves out what is null: a test split in which no label has a weight has no weighted accuracy.
        accuracies = {split: Estimate.read({measure: None} | scores[split], measure) for split in EVALUATED}
    except KeyError:
        return Unfinished(name, NO_RESULTS)
    if not parameters or accuracies["validation"].value is None:  # the second as of code before there were weights
        return Unfinished(name, NO_RESULTS)
    if not _is_up_to_date(parameters, lock_of(entry["rev"]), files):
        return Unfinished(name, OUT_OF_DATE)
    hashes = {
        path.removeprefix(project): dependency.get("hash")
        for path, dependency in (shown.get("deps") or {}).items()
        if path.startswith(project)
    }
    images = next((hashes[path] for path in files.images if path in hashes), None)
    return Experiment(
        name=name,
        revision=entry["rev"],
        parameters=dict(flatten(parameters)),
        accuracies=accuracies,
        training_cost=content("metrics", files.training).get("tera_multiply_adds"),
        code=repr(sorted((path, hash_) for path, hash_ in hashes.items() if path.startswith(SOURCE))),
        data=Data(images, hashes.get(files.split), hashes.get(files.labels)),
        measure=measure,
        has_folds="folds" in metrics,
    )


def _is_up_to_date(parameters: Mapping, lock: Mapping, files: Files) -> bool:
    """Return whether the stages that led to the metrics ran with these parameters, and all with the same files.

    DVC shows the metrics that lie there: after an edit, or after a run that was interrupted, those of the run before.
    """
    values = dict(flatten(parameters))
    seen: dict[str, set[str | None]] = {files.metrics: set()}  # path → its hashes in the lock
    left = list(lock.get("stages", {}).values())
    while stage := next((stage for stage in left if any(out["path"] in seen for out in stage.get("outs", ()))), None):
        left.remove(stage)
        for key, value in flatten(stage.get("params", {}).get(files.parameters, {})):
            if key not in values or values[key] != _as_shown(value):
                return False
        for file in (*stage.get("deps", ()), *stage.get("outs", ())):
            seen.setdefault(file["path"], set()).add(file.get("md5"))
    return all(len(hashes) < 2 for hashes in seen.values())


def _as_shown(value: object) -> object:
    """Return a value of `dvc.lock` as `dvc exp show --json` has it."""
    return value.isoformat() if isinstance(value, date) else value


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
        return _error(lines) or f"{shown} {programs.ended(process.returncode)}"
    if finished_commits() == before:  # as in a shallow clone, whatever the exit status says
        said = _error(lines) or (lines[-1] if lines else "nothing")
        return f"{shown} ended without an error, but kept no experiment; its last word: {said}"
    return None


def _error(lines: Sequence[str]) -> str | None:
    """Return DVC's first error, one that ends in a colon with all lines after it; None if there is none.

    If a stage failed with a line of Thaw's, its last one before that error, it is that line.
    """
    lines = [line for line in lines if line]
    for i, line in enumerate(lines):
        if line.startswith("ERROR: "):
            if i and lines[i - 1].startswith("thaw: "):
                return lines[i - 1]
            return " ".join(lines[i:]) if line.endswith(":") else line
    return None
