"""Compare experiments: `python src/compare.py` prints those of this commit, the best on validation first, and draws
them into `reports/comparison.svg`.

A row has the weighted accuracy of the fine-tuned model with its 95 % interval, what its training cost in 10^12
multiply-adds, and the parameters in which the experiments differ. Where photographs have several labels, it has the
mean average precision (mAP). Runs that differ in their seeds alone are one row:
their mean and one standard deviation (±). REVISION is a commit whose experiments are meant, or an experiment by
its name.

Only what was measured on the same test photographs with the same labels is compared: those of the workspace, or of the
first REVISION. All other runs are listed apart, with the reason. If params.yaml was edited, or a run was interrupted,
the workspace has no row until `dvc repro`; then HEAD stands in its place.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from thaw.core.errors import ThawError, run
from thaw.core.files import write_text
from thaw.core.words import plural
from thaw.experiments import photographs, plot, ranking, runs, table
from thaw.experiments.runs import Files

PICTURE = Path("reports/comparison.svg")
FILES = Files(
    pipeline="dvc.yaml",
    parameters="params.yaml",
    metrics="reports/metrics.json",
    training="reports/fine_tune/metrics.json",
    images=("data/raw/images.csv", "data/raw"),
    split="data/split.csv",
    labels="data/raw/labels.csv",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compare experiments.", epilog="example: python src/compare.py --md main HEAD"
    )
    parser.add_argument("revisions", nargs="*", metavar="REVISION", help="instead of HEAD and the workspace")
    parser.add_argument("--all", action="store_true", help="of all commits")
    parser.add_argument("--md", action="store_true", help="print Markdown and draw nothing")
    options = parser.parse_args()
    if not PICTURE.parent.is_dir():
        raise ThawError(f"there is no folder {PICTURE.parent} here: run from the folder that holds dvc.yaml")
    experiments, unfinished = runs.read(FILES, options.revisions, options.all)
    if not experiments:
        changed = next((f"{name}: {state}" for name, state in unfinished if state == runs.OUT_OF_DATE), None)
        none = "no run has results here: `dvc repro` or `dvc exp run` first, or `dvc exp pull origin --all`"
        raise ThawError(changed or none)
    reference = ranking.reference(experiments, [runs.WORKSPACE, *options.revisions, runs.commit_of("HEAD")])
    if options.revisions:  # each is shown on its own
        rows = experiments
    else:
        experiments = ranking.distinct(experiments)
        rows = ranking.average_repeats(experiments)
    catalogue = photographs.in_repository()
    comparable, apart = catalogue.partition(rows, reference)
    ranked = ranking.rank(catalogue.with_training_counts(comparable))
    keys = ranking.changed_parameters(ranked)
    show(ranked, keys, options.md)
    if any(experiment.other_validation for experiment in ranked):
        print(f"\n* on other validation photographs than {reference.name}")
    if rival := ranking.find_rival(ranked):
        print(f"\n{ranking.verdict(ranked[0], rival)}")
    for reason, others in apart:
        print(f"\nNot compared with {reference.name}: {reason}.\n")
        show(ranking.rank(others), ranking.changed_parameters(others), options.md)
    if unfinished:
        print()
    for name, state in unfinished:
        has_log = state not in (runs.NO_RESULTS, runs.OUT_OF_DATE)
        print(f"{name}: {state}" + (f", `dvc queue logs {name}`" if has_log else ""))
    if not options.md:
        left_out = len(rows) - len(ranked)
        note = f"{plural(left_out, 'row')} on other test photographs not drawn" if left_out else ""
        write_text(PICTURE, plot.draw(ranked, keys, note))
        print(f"compare: {plural(len(experiments), 'run')}; {PICTURE}{note and f', {note}'}")


def show(experiments: Sequence[runs.Experiment], keys: Sequence[str], as_markdown: bool) -> None:
    """Print experiments as a table, in their order."""
    rows = table.make(experiments, keys)
    print(table.as_markdown(rows) if as_markdown else table.as_text(rows, shutil.get_terminal_size().columns))


if __name__ == "__main__":
    run(main)
