"""The trials of a search: what is searched by default, which of DVC's experiments are its trials, and how they did."""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from thaw.backbones.cut_points import blocks_of
from thaw.core import params
from thaw.core.errors import ThawError
from thaw.core.files import read_json
from thaw.core.task import MULTI
from thaw.experiments import params_edit, photographs, programs, runs, sweeps
from thaw.experiments.runs import PRUNE
from thaw.experiments.search import Trial
from thaw.experiments.sweeps import Choice, Range

DATA_SECTIONS = ("download.", "split.")  # of the parameters
MAX_BLOCKS = 4  # of the backbone, the last ones: the freeze depths that are searched beside `all`
RANGES = (
    "fine_tune.learning_rate=tag(log,interval(1e-4,2e-3))",
    "fine_tune.layer_decay=0.65,0.8,0.9,1.0",
    "augment.rotation=0,5,15",
    "augment.contrast=0.1,0.3",
)
HEAD_RANGES = {
    "linear": "head.strengths=choice([1e-3],[1e-2],[1e-1],[1.0])",
    "network": "head.learning_rate=tag(log,interval(3e-4,3e-3))",
}


def default_ranges(head_kind: str, cut_points: Path) -> list[str]:
    """Return what is searched if nothing is named, as texts `KEY=RANGE`.

    cut_points: backbone.json, with the freeze depths of the backbone. Raises ThawError if it is missing.
    """
    if not cut_points.exists():
        raise ThawError(f"{cut_points} is missing: `dvc repro` first, or name KEY=RANGE of your own")
    blocks = dict.fromkeys(blocks_of(point["layer"])[-1] for point in read_json(cut_points)["cut_points"])
    numbered = [block for block in blocks if block[-1].isdigit()]
    depths = ",".join(["all", *numbered[-MAX_BLOCKS:]])
    return [f"fine_tune.freeze_depth={depths}", *RANGES, HEAD_RANGES[head_kind]]


def check(ranges: Mapping[str, Range], parameters: Path, cut_points: Path, source: Path | None = None) -> None:
    """Raise ThawError if a value, or an end of an interval, is not valid in the parameter file.

    Neither is a key that changes the photographs, since trials are ranked on the same ones.

    cut_points, source: backbone.json and source.json, see `params_edit.check`.
    """
    keys = [key for key, _ in params.flatten(params_edit.read(parameters))]
    for key, range_ in ranges.items():
        if key.startswith(DATA_SECTIONS):
            raise ThawError(f"{key} changes the photographs, so trials could not be ranked: src/sweep.py can try it")
        if any(other.startswith(f"{key}.") for other in keys):
            raise ThawError(f"{key} is a section: search its parameters, each with a range of its own")
        for value in range_.values if isinstance(range_, Choice) else (range_.low, range_.high):
            params_edit.check(parameters, {key: value}, cut_points, source)


def next_number(name: str) -> int:
    """Return the number of the next trial of a search; that of one that failed or was lost is not used again."""
    return max((_number(runs.name_of(ref), name) + 1 for ref in runs.finished_commits()), default=0)


def _number(experiment: str, name: str) -> int:
    """Return the number of a trial; -1 if the experiment is none of this search."""
    match = re.fullmatch(rf"{name}-(\d+)", experiment)
    return int(match[1]) if match else -1


def read(name: str, ranges: Mapping[str, Range], files: runs.Files, losses: Path) -> tuple[dict[str, Trial], int]:
    """Read the trials of a search from DVC's experiments on top of HEAD.

    Args:
        name: of the search.
        ranges: what is searched. Experiments that differ from the parameter file in anything else are left out.
        files: where a run has its parameters and results.
        losses: the table of validation losses that fine-tuning writes, in the repository.

    Returns:
        The trials by the name of their experiment, and the number of those that were left out because their code or
        their validation photographs are not those of the newest trial.
    """
    values = dict(params.flatten(params_edit.read(Path(files.parameters))))
    fixed = {key: value for key, value in values.items() if key not in ranges and key != PRUNE}
    experiments = [
        experiment
        for experiment in runs.read(files)[0]
        if _number(experiment.name, name) >= 0
        and all(experiment.parameters.get(key) == value for key, value in fixed.items())
    ]
    if not experiments:
        return {}, 0
    newest = max(experiments, key=lambda experiment: _number(experiment.name, name))
    catalogue = photographs.in_repository()
    same = [
        experiment
        for experiment in experiments
        if experiment.code == newest.code and catalogue.are_same("validation", experiment, newest)
    ]
    return {experiment.name: _trial(experiment, losses) for experiment in same}, len(experiments) - len(same)


def _trial(experiment: runs.Experiment, losses: Path) -> Trial:
    text = programs.git("show", f"{experiment.revision}:./{losses}")
    parameters = experiment.parameters
    return Trial(
        values=parameters,
        losses=[float(row["validation_loss_calibrated"]) for row in csv.DictReader(io.StringIO(text), delimiter="\t")],
        epochs=int(parameters["fine_tune.epochs"]),
        keeps_last=parameters["fine_tune.patience"] is None,
        accuracy=experiment.accuracies["validation"].value,
        has_folds=experiment.has_folds,
    )


def ranked(trials: Mapping[str, Trial]) -> list[str]:
    """Return the names of trials, that of the lowest loss first."""
    return sorted(trials, key=lambda name: (trials[name].loss, name))


def as_text(trials: Mapping[str, Trial], ranges: Mapping[str, Range]) -> str:
    """Return the trials as a table, the best first, and a line where none can be pruned."""
    several = any(trial.values.get("task") == MULTI for trial in trials.values())
    lines = [f"trial          loss  {'     mAP' if several else 'accuracy'}, both on validation"]
    for name in ranked(trials):
        trial = trials[name]
        values = sweeps.as_line(sweeps.set_param_texts({key: trial.values[key] for key in ranges}))
        pruned = f" (pruned after epoch {len(trial.losses) - 1})" if trial.was_pruned else ""
        lines.append(f"{name:12} {trial.loss:.4f}  {trial.accuracy:8.1%}  {values}{pruned}")
    if any(trial.has_folds for trial in trials.values()):
        lines.append("With folds no trial is pruned: a loss is known once all folds are trained.")
    return "\n".join(lines)
