"""Try every combination of some values: `python src/sweep.py KEY=VALUES… [--seeds N]`, each as an experiment of DVC.

VALUES are written as for `dvc exp run --set-param`: `fine_tune.freeze_depth=all,block6,block5`. With `--seeds N` each
combination runs N times, over seeds that differ: a gain has to exceed the spread of these runs. All combinations are
checked before the first runs, and one that fails does not stop the others. `python src/compare.py` shows the results.
"""

import argparse
import sys
from pathlib import Path

from thaw.core import params
from thaw.core.errors import ThawError, run
from thaw.core.words import plural
from thaw.experiments import params_edit, runs, sweeps

PARAMS = Path("params.yaml")
CUT_POINTS = Path("models/backbone/backbone.json")
SOURCE = Path("data/raw/source.json")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Try every combination of some values.",
        epilog="example: python src/sweep.py fine_tune.freeze_depth=all,block6 --seeds 3",
    )
    parser.add_argument("ranges", nargs="*", metavar="KEY=VALUES", help="such as fine_tune.freeze_depth=all,block6")
    parser.add_argument("--seeds", type=int, metavar="N", help="run each N times, over different seeds")
    parser.add_argument(
        "--seed-of", action="append", metavar="KEY",
        help="the seed that differs, such as split.seed (default: those of training); may be given again",
    )  # fmt: skip
    options = parser.parse_args()
    if not options.ranges and options.seeds is None:
        parser.error("nothing to try: name KEY=VALUES, or --seeds N")
    if options.seeds is not None and options.seeds < 2:
        parser.error(f"--seeds should be at least 2, not {options.seeds}")
    if options.seed_of and options.seeds is None:
        parser.error("--seed-of needs --seeds N")
    runs.refuse_shallow_clone()
    params.load(PARAMS)  # a mistake that was there before is not the sweep's
    ranges = sweeps.parse(options.ranges)
    parameters = dict(params.flatten(params_edit.read(PARAMS)))
    experiments = sweeps.repeated(ranges, parameters, options.seeds or 1, options.seed_of)
    for changes in experiments:
        params_edit.check(PARAMS, changes, CUT_POINTS, SOURCE)
    failed = []
    for number, changes in enumerate(experiments, start=1):
        texts = sweeps.set_param_texts(changes)
        print(f"sweep: {number} of {len(experiments)}: {sweeps.as_line(texts)}", flush=True)
        try:
            error = runs.run(texts)
        except KeyboardInterrupt:
            finished = f"{number - 1 - len(failed)} of {len(experiments)} experiments were finished"
            raise ThawError(f"interrupted: {finished}; the same sweep would run all of them again") from None
        if error:
            print(error, file=sys.stderr)
            failed.append(sweeps.as_line(texts))
    if failed:
        raise ThawError(f"{len(failed)} of {len(experiments)} experiments failed: {'; '.join(failed)}")
    print(f"sweep: {plural(len(experiments), 'experiment')}; `make compare` shows them")


if __name__ == "__main__":
    run(main)
