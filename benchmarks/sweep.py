"""A sweep of six experiments against six separate full runs: wall time, and how often each stage ran.

The sweep is `src/sweep.py` over three freeze depths and two rates in a fresh clone with an empty cache. A full run is
`dvc repro` in a fresh clone with a cache of its own; it is run once for each depth and counts twice, since the rate
changes no cost.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from thaw import overlay  # noqa: E402

DEPTHS, RATES = ("all", "block6", "block5"), ("2e-4", "5e-4")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        clone = fresh(Path(scratch) / "sweep")
        start = time.perf_counter()
        command = [sys.executable, "src/sweep.py", f"fine_tune.freeze_depth={','.join(DEPTHS)}"]
        command.append(f"fine_tune.learning_rate={','.join(RATES)}")
        result = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True)
        sweep = time.perf_counter() - start
        stages = Counter(re.findall(r"(?<=  )[a-z_]+(?=  )", result.stdout))
        print(f"sweep: {sweep:.0f} s; runs of each stage: {', '.join(f'{s} {n}' for s, n in stages.items())}")
        subprocess.run([sys.executable, "src/compare.py"], cwd=clone, check=True)
        full = []
        for depth in DEPTHS:
            clone = fresh(Path(scratch) / depth)
            values = overlay.read(clone / "params.yaml")
            list(overlay.lay(values, {"fine_tune": {"freeze_depth": depth, "learning_rate": float(RATES[0])}}))
            (clone / "params.yaml").write_text(overlay.text(values))
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=clone, check=True)
            full.append(time.perf_counter() - start)
            print(f"a full run at {depth}: {full[-1]:.0f} s", flush=True)
        print(f"on {os.cpu_count()} cores the sweep took {sweep / sum(full) / len(RATES):.2f} of six full runs")


def fresh(path: Path) -> Path:
    """Clone the repository to `path`, with a cache of its own and nothing in it, and no stage done."""
    subprocess.run(["git", "clone", "--quiet", ROOT, path], check=True)
    (path / "dvc.lock").unlink()
    subprocess.run(["git", "commit", "--quiet", "--all", "--message", "nothing is done"], cwd=path, check=True)
    return path


if __name__ == "__main__":
    main()
