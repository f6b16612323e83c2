"""Try every combination of some values: `python src/sweep.py KEY=VALUES… [--seeds N]`, each as an experiment of DVC.

VALUES are written as for `dvc exp run --set-param`: `fine_tune.freeze_depth=all,block6,block5`. With `--seeds N` each
combination runs N times, over seeds that differ: how far these runs spread is what a gain has to exceed. All
combinations are checked before the first runs, and one that fails does not stop the others. `python src/compare.py`
shows what came out.
"""

import argparse
import sys
from pathlib import Path

from thaw import experiments, overlay, params, sweeps
from thaw.errors import ThawError, run

PARAMS = Path("params.yaml")


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
    ranges = sweeps.parse(options.ranges)
    wanted = [
        changes | seeds
        for changes in sweeps.combinations(ranges)
        for seeds in repeats(options.seeds or 1, options.seed_of)
    ]
    for changes in wanted:
        overlay.check(PARAMS, changes)
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


def repeats(count: int, keys: list[str] | None) -> list[dict[str, int]]:
    """Return the seeds of each repeat; the first has those of params.yaml, the others count on from there."""
    if count == 1:
        return [{}]
    now = params.load(PARAMS)
    if keys is None:
        keys = ["fine_tune.seed", *["head.seed"] * (now.head.kind == "network")]
    seeds = {}
    for key in keys:
        section, _, name = key.rpartition(".")
        if name != "seed" or not hasattr(getattr(now, section, None), name):
            raise ThawError(f"{key} is no seed: such as split.seed, augment.seed, head.seed, fine_tune.seed")
        seeds[key] = getattr(now, section).seed
    return [{key: seed + i for key, seed in seeds.items()} for i in range(count)]


if __name__ == "__main__":
    run(main)
