"""Say in a line what a finished run has found and what to look at: the last line of `make repro`."""

import argparse
from pathlib import Path

import yaml

from thaw.core import tables
from thaw.core.errors import ThawError, run
from thaw.core.files import read_json, read_utf8
from thaw.core.metrics_file import saved_model
from thaw.experiments import programs
from thaw.guide import outcome

PARAMS = Path("params.yaml")
METRICS = Path("reports/metrics.json")
REPORT = Path("reports/report.html")
SPLIT = Path("data/split.csv")


def main() -> None:
    argparse.ArgumentParser(
        description="Say what a finished run has found.", epilog="example: python src/result.py"
    ).parse_args()
    metrics = read_json(METRICS)
    split = tables.read(SPLIT, tables.SPLIT)
    if are_other_photographs():
        print(outcome.BRANCH)
    saved = saved_model(metrics)
    scores, count = metrics[saved]["test"], len(tables.tested(split))
    threshold = metrics.get("threshold", {}).get(saved)  # of two classes; with several labels each has its own
    if {"extension", "pairs"} & metrics.keys() or not threshold or threshold["threshold"] == 0.5:
        threshold = None
    print(outcome.last_line(scores, count, REPORT.absolute(), "fold" in split.columns, threshold))


def are_other_photographs() -> bool:
    """Return whether params.yaml names other photographs than in the last commit."""
    try:
        before = yaml.safe_load(programs.git("show", f"HEAD:./{PARAMS}"))["download"]
        before = [before["source"], before.get(before["source"])]
    except (ThawError, yaml.YAMLError, LookupError, TypeError, AttributeError):  # there is no commit, or no such file
        return False
    now = yaml.safe_load(read_utf8(PARAMS))["download"]
    return before != [now["source"], now.get(now["source"])]


if __name__ == "__main__":
    run(main)
