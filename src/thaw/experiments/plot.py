"""Experiments as one picture: accuracy with its interval against what was changed, and against what it cost."""

import math
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from thaw.core.metrics_file import MEASURE_NAMES, WEIGHTED
from thaw.experiments.runs import Experiment
from thaw.experiments.table import format_value
from thaw.report import axes
from thaw.report.axes import Axis, Panel

LEFT, TOP, WIDTH, HEIGHT, GAP = 64, 44, 400, 260, 84  # of a panel, in units of about a pixel
BOTTOM, RIGHT, NOTE = 64, 24, 20
MAX_NAMED_VALUES = 8  # on the axis of a parameter
MARGIN = 0.04  # of the cost's axis at either end, for the marks
COLOURS = ("#2f6ba8", "#b3600c", "#3d8b57", "#8a4fa3", "#a33a3a", "#5c6670")  # of the second parameter's values
STYLE = """
svg { background: #fdfdfc; color: #1d1f22 }
text { font: 13px system-ui, sans-serif; fill: #5f6672 }
.x { text-anchor: middle } .y { text-anchor: end }
.title { font-weight: 600; fill: #1d1f22 }
.ticks { stroke: #8883 } .interval { stroke-width: 5; stroke-linecap: round; stroke-opacity: .35 }
.test { fill: #fdfdfc; stroke-width: 1.6 } .thin { stroke-width: 1.6 }
@media (prefers-color-scheme: dark) {
  svg { background: #141618 } text { fill: #a2a9b4 } .title { fill: #e6e7e9 } .test { fill: #141618 }
}
"""


def draw(experiments: Sequence[Experiment], keys: Sequence[str], note: str = "") -> str:
    """Return an SVG with two panels.

    A dot is the accuracy on validation, a ring that on test, each on its interval. There is no dot if the validation
    photographs are others.

    note: a line below the panels. keys: the parameters that differ, those with the most values first. The first with
    no more than MAX_NAMED_VALUES is the axis of the first panel; the next that has few enough values is told by colour.
    """
    counts = {key: len({_value(experiment, key) for experiment in experiments}) for key in keys}
    swept = next((key for key in keys if counts[key] <= MAX_NAMED_VALUES), keys[0] if keys else None)
    coloured = next((key for key in keys if key != swept and counts[key] <= len(COLOURS)), None)
    values = _values_in_order(experiments, coloured) if coloured else []
    colours = dict(zip(values, COLOURS, strict=False))

    def colour_of(experiment: Experiment) -> str:
        return colours.get(_value(experiment, coloured), COLOURS[0])

    accuracies = [number for experiment in experiments for e in experiment.accuracies.values() for number in e.numbers]
    measure = experiments[0].measure if experiments else WEIGHTED
    accuracy = axes.round_axis("Accuracy" if measure == WEIGHTED else MEASURE_NAMES[measure].capitalize(), accuracies)
    marks = _value_panel(experiments, swept, accuracy, colour_of)
    costed = [experiment for experiment in experiments if experiment.training_cost is not None]
    right = LEFT + WIDTH
    if costed:
        marks += _cost_panel(costed, accuracy, colour_of)
        right += GAP + WIDTH
    entries, end = _legend(coloured, colours)
    bottom = TOP + HEIGHT + BOTTOM
    if note:
        entries.append(Markup('<text x="{}" y="{}">{}</text>').format(LEFT, bottom, note))
        bottom += NOTE
    size = max(right + RIGHT, end), bottom
    return axes.svg_file("Experiments: accuracy, what was changed, what it cost", STYLE, size, [*marks, *entries])


def _value_panel(
    experiments: Sequence[Experiment], key: str | None, accuracy: Axis, colour_of: Callable[[Experiment], str]
) -> list[Markup]:
    """Draw accuracy against the values of a parameter, or against the experiments if `key` is None."""
    names = _values_in_order(experiments, key)
    panel = Panel(LEFT, TOP, WIDTH, HEIGHT, Axis("", 0, len(names), ()), accuracy)
    marks = _frame(f"{accuracy.name} against {key}" if key else accuracy.name, panel)
    step = math.ceil(len(names) / MAX_NAMED_VALUES)
    for i, name in enumerate(names):
        if i % step == 0:
            marks.append(panel.x_label(i + 0.5, name))
        group = [experiment for experiment in experiments if _value(experiment, key) == name]
        for j, experiment in enumerate(group):
            shift = (j - (len(group) - 1) / 2) * 0.7 / max(3, len(group))
            marks += _marks(experiment, float(panel.across(i + 0.5 + shift)), panel, colour_of(experiment))
    return marks


def _cost_panel(
    experiments: Sequence[Experiment], accuracy: Axis, colour_of: Callable[[Experiment], str]
) -> list[Markup]:
    """Draw accuracy against the cost of training."""
    cost = axes.round_axis("", [0.0, *(experiment.training_cost for experiment in experiments)], 0, math.inf)
    inset = WIDTH * MARGIN
    panel = Panel(LEFT + WIDTH + GAP, TOP, WIDTH, HEIGHT, cost, accuracy)
    marks = _frame(f"{accuracy.name} against cost: 10¹² multiply-adds of training", panel)
    inner = panel._replace(left=panel.left + inset, width=WIDTH - 2 * inset)
    marks += [inner.x_label(tick, f"{tick:,g}") for tick in cost.ticks]
    for experiment in experiments:
        marks += _marks(experiment, float(inner.across(experiment.training_cost)), panel, colour_of(experiment))
    return marks


def _frame(title: str, panel: Panel) -> list[Markup]:
    return [
        Markup('<text class="title" x="{}" y="20">{}</text>').format(panel.left, title),
        *panel.y_ticks(lambda tick: f"{100 * tick:g} %"),
    ]


def _marks(experiment: Experiment, x: float, panel: Panel, colour: str) -> list[Markup]:
    """Draw the accuracies of an experiment at `x`: a dot for validation, and beside it a ring for test."""
    styles = (
        ("test", x + 5, "thin", Markup('class="test" stroke="{}"').format(colour)),
        ("validation", x - 5, "interval", Markup('fill="{}"').format(colour)),
    )
    marks = []
    for split, split_x, css, style in styles:
        if split == "validation" and experiment.other_validation:
            continue
        accuracy = experiment.accuracies[split]
        if accuracy.value is None:
            continue
        if accuracy.has_interval:
            line = Markup('<path class="{}" stroke="{}" d="M{:.1f} {}V{}"/>')
            marks.append(line.format(css, colour, split_x, panel.down(accuracy.low), panel.down(accuracy.high)))
        dot = Markup('<circle cx="{:.1f}" cy="{}" r="5" {}><title>{}, {}: {:.1%}</title></circle>')
        y = panel.down(accuracy.value)
        marks.append(dot.format(split_x, y, style, experiment.name, split, accuracy.value))
    return marks


def _legend(key: str | None, colours: Mapping[str, str]) -> tuple[list[Markup], int]:
    """Return the legend, and where it ends on the right."""
    y, end = TOP + HEIGHT + 48, LEFT + 150
    marks = [Markup('<text x="{}" y="{}">● validation  ○ test</text>').format(LEFT, y)]
    for value, colour in colours.items():
        text = f"{key.rpartition('.')[2]} {value}"
        marks += [
            Markup('<circle cx="{}" cy="{}" r="5" fill="{}"/>').format(end, y - 4, colour),
            Markup('<text x="{}" y="{}">{}</text>').format(end + 10, y, text),
        ]
        end += 34 + 7 * len(text)
    return marks, end


def _values_in_order(experiments: Sequence[Experiment], key: str | None) -> list[str]:
    """Return the values of a parameter in the order of an axis: numbers by size, others by what they cost."""
    first: dict[str, Experiment] = {}
    for experiment in sorted(experiments, key=lambda e: (e.training_cost or 0, e.name)):
        first.setdefault(_value(experiment, key), experiment)
    values = {name: experiment.parameters.get(key) for name, experiment in first.items()}
    if all(isinstance(value, int | float) for value in values.values()):
        return sorted(values, key=values.get)
    return list(values)


def _value(experiment: Experiment, key: str | None) -> str:
    """Return the value of a parameter as text, or the experiment's name if there is no such parameter to show."""
    return format_value(experiment.parameters.get(key)) if key else experiment.name
