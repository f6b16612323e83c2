"""Say in a line what a finished run has found and what to look at: the last line of `make repro`."""

import subprocess
from pathlib import Path

import yaml

from thaw.core import tables
from thaw.core.errors import run
from thaw.core.files import read_json
from thaw.core.metrics_file import saved_model
from thaw.guide import outcome

PARAMS = Path("params.yaml")
METRICS = Path("reports/metrics.json")
REPORT = Path("reports/report.html")
SPLIT = Path("data/split.csv")


def main() -> None:
    metrics = read_json(METRICS)
    split = tables.read(SPLIT, tables.SPLIT)
    if are_other_photographs():
        print(outcome.BRANCH)
    scores, count = metrics[saved_model(metrics)]["test"], len(tables.tested(split))
    print(outcome.last_line(scores, count, REPORT.absolute(), folds="fold" in split.columns))


def are_other_photographs() -> bool:
    """Return whether params.yaml names other photographs than in the last commit."""
    command = ["git", "show", f"HEAD:./{PARAMS}"]
    committed = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if committed.returncode:  # there is no commit yet
        return False
    before, now = (yaml.safe_load(text)["download"] for text in (committed.stdout, PARAMS.read_text(encoding="utf-8")))
    return [before["source"], before.get(before["source"])] != [now["source"], now.get(now["source"])]


if __name__ == "__main__":
    run(main)
