"""Plots as SVG: intervals on a common axis, and lines. They take their colours from the page."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from thaw.report import elements


class Estimate(NamedTuple):
    """A value with its interval, in the colour of `kind`: a class of the page."""

    kind: str
    value: float | None
    low: float | None
    high: float | None


class Point(NamedTuple):
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    share: float | None = None  # of all images; the dot's area shows it


def axis_of(values: Sequence[float], low: float = 0.0, high: float = 1.0) -> tuple[float, float, list[float]]:
    """Return the bounds of an axis that holds the values, and its ticks, both round; within `low` … `high`."""
    least, most = max(low, min(values)), min(high, max(values))
    step = nice_step((most - least) or 0.1, 4)
    start = max(low, math.floor(round(least / step, 6)) * step)
    end = min(high, math.ceil(round(most / step, 6)) * step)
    if end <= start:
        start, end = max(low, start - step), min(high, start + step)
    count = round((end - start) / step)
    return start, end, [round(start + i * step, 6) for i in range(count + 1)]


def nice_step(span: float, parts: int) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that divides `span` into no more than `parts` or so."""
    rough = span / parts
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)


def intervals(
    rows: Sequence[tuple[str, str, Sequence[Estimate]]], unit: str, mark: float | None = None, bounded: bool = True
) -> str:
    """Return a row for each (name, note, estimates): a dot on its interval, the numbers beside it, one axis below.

    `mark` is a value that a dashed line shows. The axis stays within 0 … 1 where it is `bounded`, else it holds 0.
    """
    shown = [e for _, _, estimates in rows for e in estimates if e.value is not None]
    if not shown:
        return elements.paragraph("Undefined for this split.", "soft")
    edges = [x for e in shown for x in (e.value, e.low, e.high) if x is not None] + [mark] * (mark is not None)
    low, high, ticks = axis_of(edges) if bounded else axis_of([*edges, 0.0], -math.inf, math.inf)

    def at(x: float) -> str:
        return f"{100 * (x - low) / (high - low):.2f}%"

    grid = "".join(f'<line class="grid" x1="{at(t)}" x2="{at(t)}" y1="0" y2="100%"/>' for t in ticks)
    if mark is not None:
        grid += f'<line class="mark" x1="{at(mark)}" x2="{at(mark)}" y1="0" y2="100%"/>'
    lines = []
    for name, note, estimates in rows:
        marks, texts = [], []
        for i, e in enumerate(estimates):
            middle = f"{100 * (i + 1) / (len(estimates) + 1):.0f}%"
            if e.value is None:
                texts.append(f"<span>{elements.NOTHING}</span>")
                continue
            if e.low is not None and e.high is not None:
                marks.append(f'<line class="{e.kind}" x1="{at(e.low)}" x2="{at(e.high)}" y1="{middle}" y2="{middle}"/>')
            marks.append(f'<circle class="{e.kind}" cx="{at(e.value)}" cy="{middle}" r="4.5"/>')
            number = elements.value(e.value, unit) if bounded else elements.points(e.value)
            between = (
                elements.interval(e.low, e.high, unit)
                if bounded
                else elements.signed_interval(e.low, e.high, elements.points)
            )
            texts.append(f'<span class="{e.kind}">{number}<small>{between}</small></span>')
        small = f"<small>{escape(note)}</small>" if note else ""
        drawing = f'<svg role="img" aria-label="{escape(name)}">{grid}{"".join(marks)}</svg>'
        lines.append(
            f'<div class="estimate"><span class="name">{escape(name)}{small}</span>'
            f'<span class="track many{len(estimates)}">{drawing}</span>'
            f'<span class="numbers">{"".join(texts)}</span></div>'
        )
    decimals = 0 if all(abs(t * 100 - round(t * 100)) < 1e-6 for t in ticks) else 1
    names = [elements.percent(t, decimals) if bounded else elements.points(t, decimals) for t in ticks]
    labels = "".join(f'<text x="{at(t)}" y="12">{name}</text>' for t, name in zip(ticks, names, strict=True))
    axis = f'<span></span><span class="track"><svg aria-hidden="true">{labels}</svg></span><span></span>'
    body = "\n".join([*lines, f'<div class="estimate axis">{axis}</div>'])
    return f'<div class="estimates">\n{body}\n</div>'


class Axis(NamedTuple):
    name: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return where a value lies on the axis, 0 … 1."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


UNIT_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def unit_axis(name: str) -> Axis:
    return Axis(name, 0, 1, UNIT_TICKS)


LEFT, TOP, WIDTH, RIGHT, BOTTOM = 50, 8, 270, 20, 44  # of a drawing of 340 units, each about a pixel


def lines(
    caption: str, series: Mapping[str, Sequence[Point]], x: Axis, y: Axis, height: int = 270, diagonal: bool = False
) -> str:
    """Return a figure with a line for each series (class of the page → points), a band and dots where there are any."""
    if not any(series.values()):
        return elements.figure(caption, elements.paragraph("Undefined for this split.", "soft"))

    def across(value: float) -> str:
        return f"{LEFT + WIDTH * x.share(value):.1f}"

    def down(value: float) -> str:
        return f"{TOP + height * (1 - y.share(value)):.1f}"

    marks = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{height}"/>']
    for tick in x.ticks:
        marks += [
            f'<path class="ticks" d="M{across(tick)} {TOP}v{height}"/>',
            f'<text class="x" x="{across(tick)}" y="{TOP + height + 16}">{tick:,g}</text>',
        ]
    for tick in y.ticks:
        marks += [
            f'<path class="ticks" d="M{LEFT} {down(tick)}h{WIDTH}"/>',
            f'<text class="y" x="{LEFT - 6}" y="{down(tick)}" dy=".35em">{tick:g}</text>',
        ]
    if diagonal:
        marks.append(f'<path class="diagonal" d="M{across(x.low)} {down(y.low)}L{across(x.high)} {down(y.high)}"/>')
    for kind, points in series.items():
        band = [p for p in points if p.low is not None and p.high is not None]
        if len(band) > 1:
            there = [f"{across(p.x)},{down(p.high)}" for p in band]
            back = [f"{across(p.x)},{down(p.low)}" for p in reversed(band)]
            marks.append(f'<polygon class="{kind}" points="{" ".join(there + back)}"/>')
    for kind, points in series.items():
        marks.append(f'<polyline class="{kind}" points="{" ".join(f"{across(p.x)},{down(p.y)}" for p in points)}"/>')
        for p in points:
            if p.share is not None:
                radius = 1.5 + 7 * p.share**0.5  # its area shows the share
                marks.append(f'<circle class="{kind}" cx="{across(p.x)}" cy="{down(p.y)}" r="{radius:.1f}"/>')
    marks += [
        f'<text class="x" x="{LEFT + WIDTH // 2}" y="{TOP + height + 36}">{escape(x.name)}</text>',
        f'<text class="x" transform="translate(12 {TOP + height // 2}) rotate(-90)">{escape(y.name)}</text>',
    ]
    size = f"{LEFT + WIDTH + RIGHT} {TOP + height + BOTTOM}"
    drawing = "\n".join(
        [f'<svg class="lines" viewBox="0 0 {size}" role="img" aria-label="{escape(caption)}">', *marks, "</svg>"]
    )
    return elements.figure(caption, drawing)
