"""Search for better parameters: `python src/search.py --trials N` runs N experiments of DVC, one after the other.

Optuna proposes what to try, from the validation loss of the models that the trials before kept, at its best
temperature. A trial that falls behind their median is pruned (`fine_tune.prune_above`); the first of a call is not,
since the photographs may have changed. Test is not looked at. Every trial is an experiment: `dvc exp show` lists them,
`dvc exp apply` takes one over, and the next call continues from them, on another machine after `dvc exp pull` as well.

What is searched may be named: `python src/search.py --trials 9 'fine_tune.freeze_depth=block6,block5'
'fine_tune.learning_rate=tag(log,interval(1e-4,1e-3))'`, in Hydra's notation.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from compare import FILES
from thaw.core import params
from thaw.core.errors import ThawError, run
from thaw.core.words import plural
from thaw.experiments import runs, search, sweeps, trials

PARAMS = Path("params.yaml")
CUT_POINTS = Path("models/backbone/backbone.json")
SOURCE = Path("data/raw/source.json")
LOSSES = Path("reports/fine_tune/plots/metrics/validation_loss_calibrated.tsv")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Search for better parameters.",
        epilog="example: python src/search.py --trials 9 'fine_tune.freeze_depth=block6,block5'",
    )
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
    runs.refuse_shallow_clone()
    head_kind = params.load(PARAMS).head.kind
    ranges = sweeps.parse(options.ranges or trials.default_ranges(head_kind, CUT_POINTS))
    trials.check(ranges, PARAMS, CUT_POINTS, SOURCE)

    finished, left_out = trials.read(options.name, ranges, FILES, LOSSES)
    failed = []
    first = trials.next_number(options.name)
    for number in range(first, first + options.trials):
        history = list(finished.values())
        is_first_of_all = number == first and not finished  # it tries the parameters as they are
        values = {} if is_first_of_all else search.propose(history, ranges, number, options.seed)
        if values is None:
            print("search: every combination was tried")
            break
        name, changes = f"{options.name}-{number:03}", sweeps.set_param_texts(values)
        print(f"search: {name}: {sweeps.as_line(changes) or 'as params.yaml has it'}", flush=True)
        is_first = not any(f"{options.name}-{done:03}" in finished for done in range(first, number))
        limits = [] if is_first else search.limits(history)  # the photographs of earlier calls may be others
        error = runs.run(changes | {runs.PRUNE: json.dumps(limits)}, name)
        finished, left_out = trials.read(options.name, ranges, FILES, LOSSES)
        if error is None and name not in finished:
            error = f"search: {name} came to an end, but `dvc exp show` has no result of it"
        if error:
            print(error, file=sys.stderr)
            failed.append(name)
    if not finished:
        raise ThawError("no trial came to an end: the lines above say why")
    print(f"\n{trials.as_text(finished, ranges)}")
    if left_out:
        earlier = plural(left_out, "earlier trial")
        print(f"search: {earlier} of other code or on other validation photographs left out")
    print(f"search: to use the best trial: `dvc exp apply {trials.ranked(finished)[0]}`, then set {runs.PRUNE} to [].")
    print("Run `python src/sweep.py --seeds 5` to compare its gain with the spread over seeds.", flush=True)
    if failed:
        raise ThawError(f"{len(failed)} of {options.trials} trials failed: {', '.join(failed)}; see the lines above")


if __name__ == "__main__":
    run(main)
