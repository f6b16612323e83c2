"""Compare experiments: `python src/compare.py` prints those of this commit, the best on validation first, and draws
them into `reports/comparison.svg`.

A row has the weighted accuracy of the fine-tuned model with its 95 % interval, what its training cost in 10^12
multiply-adds, and the parameters in which the experiments differ. Runs that differ in their seeds alone are one row:
their mean and one standard deviation (±). REVISION is a commit whose experiments are meant, or an experiment by
its name.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from thaw import experiment_plot, experiments
from thaw.errors import ThawError, run
from thaw.experiment_plot import text_of
from thaw.experiments import Experiment, Share
from thaw.files import whole_file

PICTURE = Path("reports/comparison.svg")
Row = list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare experiments.")
    parser.add_argument("revisions", nargs="*", metavar="REVISION", help="instead of HEAD and the workspace")
    parser.add_argument("--all", action="store_true", help="of all commits")
    parser.add_argument("--md", action="store_true", help="print Markdown and draw nothing")
    options = parser.parse_args()
    if not PICTURE.parent.is_dir():
        raise ThawError(f"there is no folder {PICTURE.parent} here: run from the folder that holds dvc.yaml")
    found, unfinished = experiments.read(options.revisions, options.all)
    if not found:
        raise ThawError("no run has results here: `dvc repro` or `dvc exp run` first, or `dvc exp pull origin --all`")
    if not options.revisions:  # what is asked for is shown, each on its own
        found = experiments.distinct(found)
    ordered = experiments.ranked(found if options.revisions else experiments.averaged(found))
    keys = experiments.changed(ordered)
    show(rows(ordered, keys), options.md)
    if rival := experiments.rival(ordered):
        print(f"\n{experiments.verdict(ordered[0], rival)}")
    for one in unfinished:
        print(f"{one.name}: {one.state}, `dvc queue logs {one.name}`")
    if not options.md:
        with whole_file(PICTURE) as temporary:
            temporary.write_text(experiment_plot.draw(ordered, keys), encoding="utf-8")
        print(f"compare: {len(found)} run{'s' if len(found) > 1 else ''}; {PICTURE}")


def rows(ordered: Sequence[Experiment], keys: Sequence[str]) -> list[Row]:
    """Return the header and a row for each experiment; what may be cut off stands last."""
    table = [["experiment", *experiments.SPLITS, "cost", *short(keys)]]
    for one in ordered:
        values = [text_of(one.parameters[key]) if key in one.parameters else "" for key in keys]
        work = "" if one.work is None else f"{one.work:,.1f}"
        of_splits = [estimate(one.shares[split], bool(one.runs)) for split in experiments.SPLITS]
        table.append([one.name, *of_splits, work, *values])
    return table


def short(keys: Sequence[str]) -> list[str]:
    """Name parameters by their last part, or by all where two have the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for name, key in zip(last, keys, strict=True)]


def estimate(share: Share, repeated: bool) -> str:
    """A single run's share with its 95 % interval; of repeats the mean and the standard deviation."""
    if repeated:
        return f"{share.value:.1%} ± {100 * (share.high - share.value):.1f}"
    if share.low is None or share.high is None:
        return f"{share.value:.1%}"
    return f"{share.value:.1%} ({100 * share.low:.1f}–{100 * share.high:.1f})"


def show(table: list[Row], markdown: bool) -> None:
    """Print the table: aligned and cut to the terminal's width, or as Markdown."""
    if markdown:
        header, *body = table
        lines = [header, ["---"] * len(header), *body]
        print("\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines))
        return
    table = [[name, *(cell if len(cell) <= 24 else f"{cell[:23]}…" for cell in line)] for name, *line in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        text = "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        print(text[: shutil.get_terminal_size().columns].rstrip())


if __name__ == "__main__":
    run(main)
