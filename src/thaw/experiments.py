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
PRUNE = "fine_tune.prune_above"  # the limits that a search gives a trial
LEAST = 0.0005  # below it a difference of accuracies is none
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
    code: str = ""  # what tells it from that of another run
    runs: tuple["Experiment", ...] = field(default=(), repr=False)

    @property
    def spread(self) -> float | None:
        """The standard deviation of the accuracy on validation over the runs, where there are several."""
        return statistics.stdev(run.shares["validation"].value for run in self.runs) if self.runs else None


class Unfinished(NamedTuple):
    name: str
    state: str  # queued, running or failed


def read(revisions: Sequence[str] = (), everything: bool = False) -> tuple[list[Experiment], list[Unfinished]]:
    """Return the experiments of the repository around this folder, and those that did not come to an end.

    Those on top of HEAD, with HEAD and the workspace; those on top of `revisions`, or these where they are experiments
    themselves; or those of all commits. Raises ThawError where DVC cannot tell.
    """
    command = ["exp", "show", "--json", *(["--all-commits"] if everything else [])]
    for revision in revisions:
        command += ["--rev", revision]
    result = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True, check=False)
    if result.returncode:
        raise ThawError(f"`dvc exp show`: {result.stderr.strip().removeprefix('ERROR: ')}")
    return select(json.loads(result.stdout), {commit_of(revision): revision for revision in revisions})


def commit_of(revision: str) -> str:
    """Return the hash of a commit or of an experiment by its name."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return found or names().get(revision, revision)


def names() -> dict[str, str]:
    """Return the commit of each finished experiment by its name; what DVC keeps of its own stands elsewhere."""
    command = ["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: commit for commit, name in re.findall(r"^(\w+) refs/exps/\w{2}/\w{38}/(.+)$", said, re.MULTILINE)}


def select(
    baselines: Sequence[Mapping], asked_for: Mapping[str, str] | None = None
) -> tuple[list[Experiment], list[Unfinished]]:
    """Return what `read` does from the output of `dvc exp show --json`. `asked_for`: hash of a commit → its name.

    The experiments come first, then the workspace, then the commits.
    """
    asked_for = asked_for or {}
    named, unfinished, nameless = [], [], []
    for baseline in baselines:
        for of_baseline in baseline["experiments"] or []:
            last, executor = of_baseline["revs"][0], of_baseline["executor"] or {"state": "success"}
            name, state = of_baseline["name"] or last["rev"][:9], executor["state"]
            if state == "success":
                named.append(_experiment(name, last))
            else:
                unfinished.append(Unfinished(name, state))
        if not asked_for or baseline["rev"] != WORKSPACE:
            name = asked_for.get(baseline["rev"], baseline["name"] or baseline["rev"][:9])
            nameless.append(_experiment(name, baseline))
    return [one for one in (*named, *nameless) if one], unfinished


def distinct(found: Sequence[Experiment]) -> list[Experiment]:
    """Leave of runs with the same parameters and results the first: an experiment that was applied is one run.

    Limits of a search that ended nothing are none of these parameters.
    """
    kept: dict[tuple, Experiment] = {}
    for one in found:
        parameters = sorted((key, value) for key, value in one.parameters.items() if key != PRUNE)
        kept.setdefault((repr(parameters), repr(one.shares)), one)
    return list(kept.values())


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
    dependencies = data.get("deps") or {}
    code = sorted((path, entry["hash"]) for path, entry in dependencies.items() if path.endswith(".py"))
    work = metrics.get("tera_multiply_adds")
    return Experiment(name, entry["rev"], dict(flatten(values)), shares, work, repr(code))


def _contents(files: Mapping | None) -> list[Mapping]:
    """Return what is in each file of parameters or metrics that could be read."""
    return [of_file["data"] for of_file in (files or {}).values() if of_file.get("data")]


def flatten(values: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values of sections within sections by their dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
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
    return key.endswith(".seed") or key == PRUNE


def averaged(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Make those that differ in the same seeds alone one experiment each; results of other code are none of these.

    Repeats over `fine_tune.seed` and repeats over `split.seed` tell two things: a run that both begin with counts for
    both. Of runs in which several seeds cross, those that differ in more than one stay as they are.
    """
    alike: dict[str, list[Experiment]] = {}
    for one in experiments:
        others = repr((one.code, sorted((key, value) for key, value in one.parameters.items() if not is_aside(key))))
        alike.setdefault(others, []).append(one)
    found = []
    for runs in alike.values():
        runs = sorted(runs, key=lambda one: sorted(_seeds(one).items()))  # as counting on from the first does
        first, groups = _seeds(runs[0]), {}
        for run in runs[1:]:
            differ = tuple(key for key, value in _seeds(run).items() if first.get(key, value) != value)
            groups.setdefault(differ, [runs[0]]).append(run)
        each_once = len({repr(_seeds(run)) for run in runs}) == len(runs)
        if not groups or not each_once or () in groups:
            found += runs
            continue
        for differ, group in groups.items():
            crossed = len(differ) > 1 and any((key,) in groups for key in differ)
            together = all(len({repr(_seeds(run).get(key)) for run in group}) == len(group) for key in differ)
            suffix = f" over {' and '.join(differ)}" if len(groups) > 1 else ""  # else two rows have one name
            found += [_mean(group, suffix)] if together and not crossed else group[1:]
    return found


def _seeds(one: Experiment) -> dict[str, object]:
    return {key: value for key, value in sorted(one.parameters.items()) if key.endswith(".seed")}


def _mean(runs: Sequence[Experiment], suffix: str) -> Experiment:
    shares = {}
    for split in SPLITS:
        values = [run.shares[split].value for run in runs]
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        shares[split] = Share(mean, mean - deviation, mean + deviation)
    works = [run.work for run in runs if run.work is not None]
    work = statistics.mean(works) if works else None
    return replace(runs[0], name=f"{runs[0].name} ×{len(runs)}{suffix}", shares=shares, work=work, runs=tuple(runs))


def ranked(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Sort by accuracy on validation, the best first."""
    return sorted(experiments, key=lambda one: (-one.shares["validation"].value, one.name))


def rival(ordered: Sequence[Experiment]) -> Experiment | None:
    """Return the first that differs from the best of all in more than its seeds, if any does."""
    best, *others = ordered
    return next((one for one in others if one.code != best.code or changed([best, one])), None)


def verdict(best: Experiment, second: Experiment) -> str:
    """Say how far the best lies before the second on validation, and whether that is more than seeds would do."""
    gain = best.shares["validation"].value - second.shares["validation"].value
    if gain < LEAST:
        return f"On validation {best.name} is as good as {second.name}."
    ahead = f"On validation {best.name} is {100 * gain:.1f} points before {second.name}"
    spreads = [one.spread for one in (best, second) if one.spread is not None]
    if not spreads:
        return f"{ahead}, of one run each: src/sweep.py --seeds 5 shows how far seeds spread."
    if max(spreads) < LEAST:
        return f"{ahead}; the seeds that were tried change nothing."
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
    for at, line in enumerate(lines):
        if line.startswith(("thaw: ", "ERROR: ")):
            return line if not line.endswith(":") else " ".join([line, *filter(None, lines[at + 1 :])])
    return f"`{' '.join(command[2:])}` ended with exit status {process.returncode}"
