"""Compare a sweep of six experiments with six separate full runs: time, and the number of runs of each stage.

The sweep is `src/sweep.py` over three freeze depths and two learning rates, in a fresh clone with an empty cache. A
full run is `dvc repro` in a fresh clone with a cache of its own. It runs once for each depth and counts twice, since
the learning rate does not change the time.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from clones import dvc, fresh
from clones import run as run_in

from thaw.core.errors import run

DEPTHS, RATES = ("all", "block6", "block5"), ("2e-4", "5e-4")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        clone = fresh(Path(scratch) / "sweep")
        start = time.perf_counter()
        grid = [f"fine_tune.freeze_depth={','.join(DEPTHS)}", f"fine_tune.learning_rate={','.join(RATES)}"]
        output = run_in(clone, sys.executable, "src/sweep.py", *grid)
        sweep_seconds = time.perf_counter() - start
        stages = Counter(re.findall(r"(?<=  )[a-z_]+(?=  )", output))
        print(f"sweep: {sweep_seconds:.0f} s; runs of each stage: {', '.join(f'{s} {n}' for s, n in stages.items())}")
        print(run_in(clone, sys.executable, "src/compare.py"))
        full_seconds = []
        for depth in DEPTHS:
            clone = fresh(Path(scratch) / depth, fine_tune={"freeze_depth": depth, "learning_rate": float(RATES[0])})
            start = time.perf_counter()
            dvc(clone, "repro")
            full_seconds.append(time.perf_counter() - start)
            print(f"a full run at {depth}: {full_seconds[-1]:.0f} s", flush=True)
        fraction = sweep_seconds / sum(full_seconds) / len(RATES)
        print(f"on {os.cpu_count()} cores the sweep took {fraction:.2f} of the time of six full runs")


if __name__ == "__main__":
    run(main)
