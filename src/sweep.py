"""Try every combination of some values: `python src/sweep.py KEY=VALUES… [--seeds N]`, each as an experiment of DVC.

VALUES are written as for `dvc exp run --set-param`: `fine_tune.freeze_depth=all,block6,block5`. With `--seeds N` each
combination runs N times, over seeds that differ: how far these runs spread is what a gain has to exceed. All
combinations are checked before the first runs, and one that fails does not stop the others. `python src/compare.py`
shows what came out.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from thaw import experiments, overlay, params, sweeps
from thaw.errors import ThawError, nearest, run

PARAMS = Path("params.yaml")
CUT_POINTS = Path("models/backbone/backbone.json")


def main() -> None:
    parser = argparse.ArgumentParser(description="Try every combination of some values.")
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
        parser.error("--seed-of wants --seeds N")
    params.load(PARAMS)  # a mistake that was there before is not the sweep's
    ranges = sweeps.parse(options.ranges)
    now = dict(experiments.flatten(overlay.read(PARAMS)))
    seeds = first_seeds(now, ranges, options.seed_of) if options.seeds else {}
    if twice := seeds.keys() & ranges.keys():
        raise ThawError(f"{min(twice)} is swept already: leave --seeds to other seeds")
    # The limits of a search, where they stand in params.yaml, would cut repeats short.
    limits = {} if experiments.PRUNE in ranges or not now.get(experiments.PRUNE) else {experiments.PRUNE: []}
    wanted = [
        limits | changes | {key: seed + i for key, seed in seeds.items()}
        for changes in sweeps.combinations(ranges)
        for i in range(options.seeds or 1)
    ]
    for changes in wanted:
        overlay.check(PARAMS, changes, CUT_POINTS)
    failed = []
    for number, changes in enumerate(wanted, start=1):
        texts = {key: sweeps.written(value) for key, value in changes.items()}
        described = " ".join(f"{key}={text}" for key, text in texts.items())
        print(f"sweep: {number} of {len(wanted)}: {described}", flush=True)
        if error := experiments.run(texts):
            print(error, file=sys.stderr)
            failed.append(described)
    if failed:
        raise ThawError(f"{len(failed)} of {len(wanted)} experiments failed: {'; '.join(failed)}")
    print(f"sweep: {len(wanted)} experiments; `make compare` shows them")


def first_seeds(
    now: Mapping[str, object], ranges: Mapping[str, sweeps.Range], keys: list[str] | None
) -> dict[str, int]:
    """Return the seeds of the first repeat, those of params.yaml, from which the others count on."""
    if keys is None:
        heads = ranges.get("head.kind", sweeps.Choice((now["head.kind"],)))
        trained = isinstance(heads, sweeps.Choice) and "network" in heads.values
        keys = ["fine_tune.seed", *["head.seed"] * trained]
    for key in keys:
        if not key.endswith(".seed") or key not in now:
            raise ThawError(f"{key} is no seed{nearest(key, [name for name in now if name.endswith('.seed')])}")
    return {key: now[key] for key in keys}


if __name__ == "__main__":
    run(main)
