"""Experiments of DVC side by side: what was changed, what came out, what it cost, and how far repeats spread."""

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from thaw.errors import ThawError

WORKSPACE = "workspace"
SPLITS = ("validation", "test")


class Share(NamedTuple):
    """A share of right answers with its 95 % interval; of repeats their mean, one standard deviation either way."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Experiment:
    """A run, or the mean of several that differ in their seeds alone."""

    name: str
    revision: str
    parameters: Mapping[str, object]  # dotted key → value
    shares: Mapping[str, Share]  # split → weighted accuracy of the fine-tuned model
    work: float | None = None  # 10^12 multiply-adds of its fine-tuning
    runs: tuple["Experiment", ...] = field(default=(), repr=False)

    @property
    def spread(self) -> float | None:
        """The standard deviation of the accuracy on validation over the runs, where there are several."""
        return statistics.stdev(run.shares["validation"].value for run in self.runs) if self.runs else None


class Unfinished(NamedTuple):
    name: str
    state: str  # Queued, Running or Failed


def read(revisions: Sequence[str] = (), everything: bool = False) -> tuple[list[Experiment], list[Unfinished]]:
    """Return the experiments of the repository around this folder.

    Those on top of HEAD, with HEAD and the workspace; those on top of `revisions`, or these where they are experiments
    themselves; or those of all commits. Runs with the same parameters and results are one, of the first that has a
    name. Raises ThawError where DVC cannot tell.
    """
    command = ["exp", "show", "--json", *(["--all-commits"] if everything else [])]
    for revision in revisions:
        command += ["--rev", revision]
    result = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True, check=False)
    if result.returncode:
        raise ThawError(f"`dvc exp show`: {result.stderr.strip().removeprefix('ERROR: ')}")
    return select(json.loads(result.stdout), {_commit(revision): revision for revision in revisions})


def _commit(revision: str) -> str:
    """Return the hash of a commit, or of an experiment its name."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or revision


def select(
    baselines: Sequence[Mapping], asked_for: Mapping[str, str] | None = None
) -> tuple[list[Experiment], list[Unfinished]]:
    """Return what `read` does from the output of `dvc exp show --json`. `asked_for`: hash of a commit → its name."""
    asked_for = asked_for or {}
    named, unfinished, nameless = [], [], []
    for baseline in baselines:
        for of_baseline in baseline["experiments"] or []:
            last, executor = of_baseline["revs"][0], of_baseline["executor"] or {"state": "success"}
            name, state = of_baseline["name"] or last["rev"][:9], executor["state"]
            if state == "success":
                named.append(_experiment(name, last))
            else:
                unfinished.append(Unfinished(name, state.capitalize()))
        if not asked_for or baseline["rev"] != WORKSPACE:
            name = asked_for.get(baseline["rev"], baseline["name"] or baseline["rev"][:9])
            nameless.append(_experiment(name, baseline))
    found: dict[tuple, Experiment] = {}
    for experiment in filter(None, [*named, *reversed(nameless)]):  # of all baselines the workspace stands first
        commit = experiment.revision if experiment.revision in asked_for else None  # one that is asked for is shown
        alike = (repr(sorted(experiment.parameters.items())), repr(experiment.shares), commit)
        found.setdefault(alike, experiment)
    return list(found.values()), unfinished


def _experiment(name: str, entry: Mapping) -> Experiment | None:
    """Return a commit as an experiment, or None where it has no accuracies."""
    data = entry["data"] or {}
    metrics = {key: value for part in _contents(data.get("metrics")) for key, value in part.items()}
    try:
        (values,) = _contents(data.get("params"))
        of_splits = {split: metrics["fine_tuned"][split] for split in SPLITS}
        shares = {
            split: Share(
                scores["accuracy_weighted"], *(scores.get(f"accuracy_weighted_{end}") for end in ("low", "high"))
            )
            for split, scores in of_splits.items()  # DVC leaves out what is null
        }
    except (KeyError, ValueError):
        return None
    return Experiment(name, entry["rev"], dict(_flatten(values)), shares, metrics.get("tera_multiply_adds"))


def _contents(files: Mapping | None) -> list[Mapping]:
    """Return what is in each file of parameters or metrics that could be read."""
    return [of_file["data"] for of_file in (files or {}).values() if of_file.get("data")]


def _flatten(values: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def changed(experiments: Sequence[Experiment]) -> list[str]:
    """List the parameters in which experiments differ, but for seeds and limits; first those with the most values.

    What an older one does not have yet is no difference.
    """
    values: dict[str, set[str]] = {}
    for experiment in experiments:
        for key, value in experiment.parameters.items():
            if not is_aside(key):
                values.setdefault(key, set()).add(repr(value))
    return sorted((key for key in values if len(values[key]) > 1), key=lambda key: -len(values[key]))


def is_aside(key: str) -> bool:
    """Say whether a parameter is no choice of the model: a seed, or the limits of a search."""
    return key.endswith((".seed", ".prune_above"))


def averaged(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Make those that differ in their seeds alone one experiment each; results of other code are none of these."""
    groups: dict[str, dict[str, list[Experiment]]] = {}
    for one in experiments:
        seeds, others = (
            repr(sorted((key, value) for key, value in one.parameters.items() if is_aside(key) == wanted))
            for wanted in (True, False)
        )
        groups.setdefault(others, {}).setdefault(seeds, []).append(one)
    found = []
    for by_seeds in groups.values():
        runs = [run for alike in by_seeds.values() for run in alike]
        found += [_mean(runs)] if 1 < len(by_seeds) == len(runs) else runs
    return found


def _mean(runs: Sequence[Experiment]) -> Experiment:
    shares = {}
    for split in SPLITS:
        values = [run.shares[split].value for run in runs]
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        shares[split] = Share(mean, mean - deviation, mean + deviation)
    works = [run.work for run in runs if run.work is not None]
    work = statistics.mean(works) if works else None
    return replace(runs[0], name=f"{runs[0].name} ×{len(runs)}", shares=shares, work=work, runs=tuple(runs))


def ranked(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Sort by accuracy on validation, the best first."""
    return sorted(experiments, key=lambda one: (-one.shares["validation"].value, one.name))


def verdict(best: Experiment, second: Experiment) -> str:
    """Say how far the best lies before the second on validation, and whether that is more than seeds would do."""
    gain = best.shares["validation"].value - second.shares["validation"].value
    ahead = f"On validation {best.name} is {100 * gain:.1f} points before {second.name}"
    spreads = [one.spread for one in (best, second) if one.spread is not None]
    if not spreads:
        return f"{ahead}, of one run each: src/sweep.py --seeds 5 shows how far seeds spread."
    than = "no more than" if gain <= max(spreads) else "more than"
    return f"{ahead}: {than} the spread over their seeds ({100 * max(spreads):.1f} points, one standard deviation)."


def stages_run(said: str) -> list[str]:
    """List the stages that DVC started, from what it printed."""
    return re.findall(r"^Running stage '(.+)':", said, re.MULTILINE)


def run(changes: Mapping[str, str], name: str | None = None) -> str | None:
    """Run one experiment in a temporary workspace; return None, or the line that says why it failed.

    changes: dotted key → value as `dvc exp run --set-param` takes it. The stages that run are named on the terminal as
    they begin; what they print is not shown, for the last one speaks of test.
    """
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", *(["--name", name] if name else [])]
    for key, value in changes.items():
        command += ["--set-param", f"{key}={value}"]
    start, lines = time.monotonic(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            lines.append(line.strip())
            for stage in stages_run(line):
                print(f"  {stage}", end="", flush=True)
    print(f"  {time.monotonic() - start:.0f} s")
    if process.returncode == 0:
        return None
    said = [line for line in lines if line.startswith("thaw: ")] or [line for line in lines if line.startswith("ERROR")]
    return said[0] if said else f"`{' '.join(command[2:])}` ended with exit status {process.returncode}"
