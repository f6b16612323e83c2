"""Search for better parameters: `python src/search.py --trials N` runs N experiments of DVC, one after the other.

What to try is proposed by Optuna from the validation loss of the models that the trials before kept, at its best
temperature; one that falls behind their median is pruned (`fine_tune.prune_above`). Test is not looked at. Every trial
is an experiment, so `dvc exp show` has them all, `dvc exp apply` takes one over, and the next call goes on from there,
on another machine after `dvc exp pull` as well.

What is searched may be named: `python src/search.py --trials 9 'fine_tune.freeze_depth=block6,block5'
'fine_tune.learning_rate=tag(log,interval(1e-4,1e-3))'`, in Hydra's notation.
"""

import argparse
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from thaw import experiments, overlay, params, search, sweeps
from thaw.backbones.cut_points import blocks_of
from thaw.errors import ThawError, run
from thaw.experiments import Experiment
from thaw.search import Trial
from thaw.sweeps import Choice, Range

PARAMS = Path("params.yaml")
CUT_POINTS = Path("models/backbone/backbone.json")
LOSSES = Path("reports/fine_tune/plots/metrics/validation_loss_calibrated.tsv")
DEPTHS = 4  # blocks of the backbone, the last ones, beside `all`
RANGES = (
    "fine_tune.learning_rate=tag(log,interval(1e-4,2e-3))",
    "fine_tune.layer_decay=0.65,0.8,0.9,1.0",
    "augment.rotation=0,5,15",
    "augment.contrast=0.1,0.3",
)
RANGES_OF_HEAD = {
    "linear": ["head.strengths=choice([1e-3],[1e-2],[1e-1],[1.0])"],
    "network": ["head.learning_rate=tag(log,interval(3e-4,3e-3))"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Search for better parameters.")
    parser.add_argument("ranges", nargs="*", metavar="KEY=RANGE", help="what to search (default: depth, rate, decay, "
                        "the head's penalty, augmentation)")  # fmt: skip
    parser.add_argument("--trials", type=int, required=True, metavar="N", help="how many more to run")
    parser.add_argument("--name", default="search", help="of the experiments, before their numbers (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is proposed (%(default)s)")
    options = parser.parse_args()
    if options.trials < 1 or options.seed < 0:
        parser.error("--trials should be at least 1, --seed at least 0")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", options.name):
        parser.error(f"--name should be of small letters, digits and -, not {options.name}")
    kind = params.load(PARAMS).head.kind
    ranges = sweeps.parse(options.ranges or [depths(), *RANGES, *RANGES_OF_HEAD[kind]])
    check(ranges)

    done = trials(options.name, ranges)
    first = max((number_of(name, options.name) + 1 for name in experiments.names()), default=0)
    for number in range(first, first + options.trials):
        history = [trial for _, trial in done.values()]
        first_of_all = number == first and not done  # what is there comes first
        values = {} if first_of_all else search.propose(history, ranges, number, options.seed)
        if values is None:
            print("search: every combination was tried")
            break
        name = f"{options.name}-{number:03}"
        changes = {key: sweeps.written(value) for key, value in values.items()}
        print(f"search: {name}: {described(changes) or 'as params.yaml has it'}", flush=True)
        if error := experiments.run(changes | {experiments.PRUNE: json.dumps(search.limits(history))}, name):
            print(error, file=sys.stderr)
        done = trials(options.name, ranges)
    if not done:
        raise ThawError("no trial came to an end: the lines above say why")
    show(done, ranges)


def depths() -> str:
    """Return the range of the freeze depth: `all`, and the last blocks of the backbone."""
    try:
        points = json.loads(CUT_POINTS.read_text(encoding="utf-8"))["cut_points"]
    except FileNotFoundError:
        raise ThawError(f"{CUT_POINTS} is missing: `dvc repro` first, or name KEY=RANGE of your own") from None
    blocks = dict.fromkeys(blocks_of(point["layer"])[-1] for point in points)
    numbered = [block for block in blocks if block[-1].isdigit()]
    return f"fine_tune.freeze_depth={','.join(['all', *numbered[-DEPTHS:]])}"


def check(ranges: Mapping[str, Range]) -> None:
    """Raise ThawError where a value, or an end of an interval, is none that params.yaml may have."""
    parameters = dict(experiments.flatten(overlay.read(PARAMS)))
    for key, values in ranges.items():
        if any(known.startswith(f"{key}.") for known in parameters):
            raise ThawError(f"{key} is a section: search its parameters, each with a range of its own")
        for value in values.values if isinstance(values, Choice) else (values.low, values.high):
            overlay.check(PARAMS, {key: value}, CUT_POINTS)


def number_of(experiment: str, name: str) -> int:
    """Return the number of a trial, or -1 of another experiment."""
    found = re.fullmatch(rf"{name}-(\d+)", experiment)
    return int(found[1]) if found else -1


def trials(name: str, ranges: Mapping[str, Range]) -> dict[str, tuple[Experiment, Trial]]:
    """Return the trials that DVC has on top of HEAD, by name, but those of other parameters than those searched."""
    now = dict(experiments.flatten(overlay.read(PARAMS)))
    given = {key: value for key, value in now.items() if key not in ranges and key != experiments.PRUNE}
    found = {}
    for one in experiments.read()[0]:
        if number_of(one.name, name) >= 0 and all(one.parameters.get(key) == value for key, value in given.items()):
            rows = csv.DictReader(io.StringIO(committed(one.revision, LOSSES)), delimiter="\t")
            losses = [float(row["validation_loss_calibrated"]) for row in rows]
            epochs, keeps_last = int(one.parameters["fine_tune.epochs"]), one.parameters["fine_tune.patience"] is None
            found[one.name] = one, Trial(one.parameters, losses, epochs, keeps_last)
    return found


def committed(revision: str, path: Path) -> str:
    return subprocess.run(["git", "show", f"{revision}:./{path}"], capture_output=True, text=True, check=True).stdout


def show(done: Mapping[str, tuple[Experiment, Trial]], ranges: Mapping[str, Range]) -> None:
    """Print the trials, the best first, and what to do with it."""
    ordered = sorted(done, key=lambda name: (done[name][1].loss, name))
    print("\ntrial          loss  accuracy, both on validation")
    for name in ordered:
        one, trial = done[name]
        values = described({key: sweeps.written(one.parameters[key]) for key in ranges})
        pruned = f" (pruned after epoch {len(trial.losses) - 1})" if pruned_early(one, trial) else ""
        print(f"{name:12} {trial.loss:.4f}  {one.shares['validation'].value:8.1%}  {values}{pruned}")
    print(f"search: `dvc exp apply {ordered[0]}` takes over the best; set {experiments.PRUNE} to [] then.")
    print("Whether its gain is more than the spread of seeds `python src/sweep.py --seeds 5` shows.")


def described(changes: Mapping[str, str]) -> str:
    return " ".join(f"{key}={text}" for key, text in changes.items())


def pruned_early(one: Experiment, trial: Trial) -> bool:
    limits, epoch = one.parameters[experiments.PRUNE], len(trial.losses) - 1
    if not 0 < epoch < trial.epochs or epoch > len(limits) or limits[epoch - 1] is None:
        return False
    return min(trial.losses) > limits[epoch - 1]


if __name__ == "__main__":
    run(main)
