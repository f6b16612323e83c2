"""Experiments as a table: accuracies, cost, and the parameters in which they differ."""

import json
from collections.abc import Sequence

from thaw.core.metrics_file import WEIGHTED
from thaw.core.tables import EVALUATED
from thaw.experiments.runs import Experiment
from thaw.report.estimate import Estimate

MAX_CELL = 24  # letters; names of experiments are never cut

Table = list[list[str]]  # the header, then a row for each experiment


def make(experiments: Sequence[Experiment], keys: Sequence[str]) -> Table:
    """Return the table of experiments, in their order; `keys` are the parameters that it shows.

    The parameters stand last, where a narrow terminal cuts them off. A star marks an accuracy on other validation
    photographs. `mAP` stands for mean average precision.
    """
    several = any(experiment.measure != WEIGHTED for experiment in experiments)
    table = [["experiment", *(f"{s} mAP" if several else s for s in EVALUATED), "cost", *shortest_names(keys)]]
    for experiment in experiments:
        parameters = experiment.parameters
        accuracies = [format_accuracy(experiment.accuracies[s], bool(experiment.repeats)) for s in EVALUATED]
        if experiment.other_validation:
            accuracies[EVALUATED.index("validation")] += "*"
        cost = "" if experiment.training_cost is None else f"{experiment.training_cost:,.1f}"
        values = [format_value(parameters[key]) if key in parameters else "" for key in keys]
        table.append([experiment.name, *accuracies, cost, *values])
    return table


def shortest_names(keys: Sequence[str]) -> list[str]:
    """Name parameters by the last part of their key, or by the whole key if two have the same last part."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for name, key in zip(last, keys, strict=True)]


def format_accuracy(accuracy: Estimate, is_mean: bool) -> str:
    """Return the accuracy of a run with its 95 % interval, or a mean with its standard deviation; `–` for None."""
    if accuracy.value is None:
        return "–"
    if is_mean:
        return f"{accuracy.value:.1%} ± {100 * (accuracy.high - accuracy.value):.1f}"
    if not accuracy.has_interval:
        return f"{accuracy.value:.1%}"
    return f"{accuracy.value:.1%} ({100 * accuracy.low:.1f}–{100 * accuracy.high:.1f})"


def format_value(value: object) -> str:
    """Return the value of a parameter in few letters."""
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def as_text(table: Table, width: int) -> str:
    """Return the table as aligned columns, each line cut to `width` letters."""
    table = [[name, *(_cut(cell) for cell in cells)] for name, *cells in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line[:width].rstrip() for line in lines)


def _cut(cell: str) -> str:
    return cell if len(cell) <= MAX_CELL else f"{cell[: MAX_CELL - 1]}…"


def as_markdown(table: Table) -> str:
    header, *rows = table
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
