"""Compare experiments: `python src/compare.py` prints those of this commit, the best on validation first, and draws
them into `reports/comparison.svg`.

A row has the weighted accuracy of the fine-tuned model with its 95 % interval, what its training cost in 10^12
multiply-adds, and the parameters in which the experiments differ. Runs that differ in their seeds alone are one row:
their mean and one standard deviation (±). REVISION is a commit whose experiments are meant, or an experiment by
its name.
"""

import argparse
import shutil
from pathlib import Path

from thaw.core.errors import ThawError, run
from thaw.core.files import write_text
from thaw.experiments import plot, ranking, runs, table

PICTURE = Path("reports/comparison.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare experiments.")
    parser.add_argument("revisions", nargs="*", metavar="REVISION", help="instead of HEAD and the workspace")
    parser.add_argument("--all", action="store_true", help="of all commits")
    parser.add_argument("--md", action="store_true", help="print Markdown and draw nothing")
    options = parser.parse_args()
    if not PICTURE.parent.is_dir():
        raise ThawError(f"there is no folder {PICTURE.parent} here: run from the folder that holds dvc.yaml")
    experiments, unfinished = runs.read(options.revisions, options.all)
    if not experiments:
        raise ThawError("no run has results here: `dvc repro` or `dvc exp run` first, or `dvc exp pull origin --all`")
    if options.revisions:  # each is shown on its own
        ranked = ranking.rank(experiments)
    else:
        experiments = ranking.distinct(experiments)
        ranked = ranking.rank(ranking.average_repeats(experiments))
    keys = ranking.changed_parameters(ranked)
    rows = table.make(ranked, keys)
    print(table.as_markdown(rows) if options.md else table.as_text(rows, shutil.get_terminal_size().columns))
    if rival := ranking.find_rival(ranked):
        print(f"\n{ranking.verdict(ranked[0], rival)}")
    for name, state in unfinished:
        print(f"{name}: {state}, `dvc queue logs {name}`")
    if not options.md:
        write_text(PICTURE, plot.draw(ranked, keys))
        print(f"compare: {len(experiments)} run{'s' if len(experiments) > 1 else ''}; {PICTURE}")


if __name__ == "__main__":
    run(main)
