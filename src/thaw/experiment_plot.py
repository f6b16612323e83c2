"""Experiments as one picture: accuracy with its interval against what was changed, and against what it cost."""

import json
import math
from collections.abc import Sequence
from html import escape

from thaw.experiments import Experiment
from thaw.report.charts import Axis, axis_of

LEFT, TOP, WIDTH, HEIGHT, GAP = 64, 44, 400, 260, 84  # of a panel, in units of about a pixel
BOTTOM = 64
MOST = 8  # values that an axis names
COLOURS = ("#2f6ba8", "#b3600c", "#3d8b57", "#8a4fa3", "#a33a3a", "#5c6670")  # of the second parameter's values
STYLE = """
svg { background: #fdfdfc; color: #1d1f22 }
text { font: 13px system-ui, sans-serif; fill: #5f6672; text-anchor: middle }
.title { font-weight: 600; fill: #1d1f22; text-anchor: start }
.left { text-anchor: end } .legend { text-anchor: start }
.grid { stroke: #8883 } .interval { stroke-width: 5; stroke-linecap: round; stroke-opacity: .35 }
.test { fill: #fdfdfc; stroke-width: 1.6 } .thin { stroke-width: 1.6 }
@media (prefers-color-scheme: dark) {
  svg { background: #141618 } text { fill: #a2a9b4 } .title { fill: #e6e7e9 } .test { fill: #141618 }
}
"""


def draw(experiments: Sequence[Experiment], keys: Sequence[str]) -> str:
    """Return an SVG with two panels. `keys`: the parameters that changed, those with the most values first. The first
    that has no more than MOST values is the first panel's axis, the next that has few enough the colour.

    A dot is the accuracy on validation, a ring that on test, each on its interval.
    """
    counts = {key: len({_value(one, key) for one in experiments}) for key in keys}
    swept = next((key for key in keys if counts[key] <= MOST), keys[0] if keys else None)
    names = _in_order(experiments, swept)
    step = math.ceil(len(names) / MOST)  # of more values not all can be named
    second_key = next((key for key in keys if key != swept and counts[key] <= len(COLOURS)), None)
    values = _in_order(experiments, second_key) if second_key else []
    colours = {value: COLOURS[i % len(COLOURS)] for i, value in enumerate(values)}
    edges = [edge for one in experiments for share in one.shares.values() for edge in share if edge is not None]
    accuracy = Axis("accuracy, weighted", *axis_of(edges))

    title = f"Accuracy against {swept}" if swept else "Accuracy"
    first = [_grid(title, accuracy, 0)]
    for place, name in enumerate(names):
        of_name = [one for one in experiments if _value(one, swept) == name]
        centre = (place + 0.5) / len(names)
        if place % step == 0:
            first.append(f'<text x="{_x(0, centre)}" y="{TOP + HEIGHT + 20}">{escape(name)}</text>')
        for i, one in enumerate(of_name):
            across = centre + (i - (len(of_name) - 1) / 2) * 0.7 / (len(names) * max(3, len(of_name)))
            first += _marks(one, _x(0, across), accuracy, colours.get(_value(one, second_key), COLOURS[0]))

    costed = [one for one in experiments if one.work is not None]
    second = []
    if costed:
        work = Axis("cost", *axis_of([0.0, *(one.work for one in costed)], 0, math.inf))

        def across_panel(value: float) -> float:  # with room for the marks at either end
            return _x(1, 0.04 + 0.92 * work.share(value))

        second.append(_grid("Accuracy against cost: 10¹² multiply-adds of training", accuracy, 1))
        for tick in work.ticks:
            second.append(f'<text x="{across_panel(tick)}" y="{TOP + HEIGHT + 20}">{tick:,g}</text>')
        for one in costed:
            colour = colours.get(_value(one, second_key), COLOURS[0])
            second += _marks(one, across_panel(one.work), accuracy, colour)

    width = _x(1 if costed else 0, 1) + 24
    legend = [f'<text class="legend" x="{LEFT}" y="{TOP + HEIGHT + 48}">● validation  ○ test</text>']
    at = LEFT + 150
    for value, colour in colours.items():
        text = f"{second_key.rpartition('.')[2]} {value}"
        legend.append(
            f'<circle cx="{at}" cy="{TOP + HEIGHT + 44}" r="5" fill="{colour}"/>'
            f'<text class="legend" x="{at + 10}" y="{TOP + HEIGHT + 48}">{escape(text)}</text>'
        )
        at += 34 + 7 * len(text)
    body = "\n".join([*first, *second, *legend])
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {max(width, at)} {TOP + HEIGHT + BOTTOM}">
<title>Experiments: accuracy, what was changed, what it cost</title>
<style>{STYLE}</style>
{body}
</svg>
"""


def _in_order(experiments: Sequence[Experiment], key: str | None) -> list[str]:
    """Return the values of a parameter in the order of an axis: numbers by size, others by what they cost."""
    first: dict[str, Experiment] = {}
    for one in sorted(experiments, key=lambda one: (one.work or 0, one.name)):
        first.setdefault(_value(one, key), one)
    raw = {name: one.parameters.get(key) for name, one in first.items()}
    if all(isinstance(value, int | float) for value in raw.values()):
        return sorted(raw, key=raw.get)
    return list(raw)


def _value(one: Experiment, key: str | None) -> str:
    return text_of(one.parameters.get(key)) if key else one.name


def text_of(value: object) -> str:
    """A parameter's value in few letters."""
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _x(panel: int, share: float) -> float:
    return round(LEFT + panel * (WIDTH + GAP) + WIDTH * share, 1)


def _y(axis: Axis, value: float) -> float:
    return round(TOP + HEIGHT * (1 - axis.share(value)), 1)


def _grid(title: str, axis: Axis, panel: int) -> str:
    lines = [f'<text class="title" x="{_x(panel, 0)}" y="20">{escape(title)}</text>']
    for tick in axis.ticks:
        lines.append(f'<path class="grid" d="M{_x(panel, 0)} {_y(axis, tick)}h{WIDTH}"/>')
        lines.append(f'<text class="left" x="{_x(panel, 0) - 8}" y="{_y(axis, tick) + 4}">{100 * tick:g} %</text>')
    return "\n".join(lines)


def _marks(one: Experiment, across: float, axis: Axis, colour: str) -> list[str]:
    marks = []
    for split, offset in (("test", 5), ("validation", -5)):
        share, x, of_test = one.shares[split], across + offset, split == "test"
        if share.low is not None and share.high is not None:
            bounds = f"M{x:.1f} {_y(axis, share.low)}V{_y(axis, share.high)}"
            marks.append(f'<path class="{"thin" if of_test else "interval"}" stroke="{colour}" d="{bounds}"/>')
        look = f'class="test" stroke="{colour}"' if of_test else f'fill="{colour}"'
        label = f"<title>{escape(one.name)}, {split}: {share.value:.1%}</title>"
        marks.append(f'<circle cx="{x:.1f}" cy="{_y(axis, share.value)}" r="5" {look}>{label}</circle>')
    return marks
