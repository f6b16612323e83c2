"""The charts of the report as SVG: intervals on one axis, and lines. They take their colours from the page."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from thaw.report import axes, elements
from thaw.report.axes import Axis, Panel, Track
from thaw.report.estimate import Estimate

LEFT, TOP, WIDTH, RIGHT, BOTTOM = 50, 8, 270, 20, 44  # of a line chart of 340 units, each about a pixel


class IntervalRow(NamedTuple):
    name: str
    note: str  # in small print below the name
    estimates: Mapping[str, Estimate]  # colour, a class of the page → what is drawn in it


class Point(NamedTuple):
    x: float
    y: float
    low: float | None = None  # the ends of the band at `x`
    high: float | None = None
    fraction: float | None = None  # of all images; the dot's area shows it

    @property
    def has_band(self) -> bool:
        return self.low is not None and self.high is not None


class Plane(NamedTuple):
    """The axes of a line chart."""

    x: Axis
    y: Axis
    height: int = 270  # pixels
    diagonal: bool = False  # whether to draw a line where y equals x


def intervals(rows: Sequence[IntervalRow], mark: float | None = None, differences: bool = False) -> Markup:
    """Draw fractions, each as a dot on its interval with the numbers beside it, and one axis for all rows.

    mark: a value that a dashed line shows; differences: whether the fractions are differences, in percentage points.
    """
    numbers = [number for row in rows for estimate in row.estimates.values() for number in estimate.numbers]
    if not numbers:
        return undefined()
    numbers += [] if mark is None else [mark]
    track = Track(axes.round_axis("", numbers, *((-math.inf, math.inf) if differences else (0.0, 1.0))))
    ticks = Markup().join(track.line(tick, "grid") for tick in track.x.ticks)
    if mark is not None:
        ticks += track.line(mark, "mark")
    body = [_interval_row(row, track, ticks, differences) for row in rows]
    decimals = 0 if all(abs(tick * 100 - round(tick * 100)) < 1e-6 for tick in track.x.ticks) else 1
    text_of = elements.points if differences else elements.percent
    labels = Markup().join(track.label(tick, text_of(tick, decimals)) for tick in track.x.ticks)
    axis = Markup('<span></span><span class="track"><svg aria-hidden="true">{}</svg></span><span></span>').format(
        labels
    )
    body.append(Markup('<div class="estimate axis">{}</div>').format(axis))
    return Markup('<div class="estimates">\n{}\n</div>').format(Markup("\n").join(body))


def _interval_row(row: IntervalRow, track: Track, ticks: Markup, differences: bool) -> Markup:
    marks, numbers = [], []
    for i, (css, estimate) in enumerate(row.estimates.items(), start=1):
        if estimate.value is None:
            numbers.append(Markup("<span>{}</span>").format(elements.UNDEFINED))
            continue
        y = f"{100 * i / (len(row.estimates) + 1):.0f}%"
        if estimate.has_interval:
            line = Markup('<line class="{css}" x1="{x1}" x2="{x2}" y1="{y}" y2="{y}"/>')
            marks.append(line.format(css=css, x1=track.across(estimate.low), x2=track.across(estimate.high), y=y))
        dot = Markup('<circle class="{}" cx="{}" cy="{}" r="4.5"/>')
        marks.append(dot.format(css, track.across(estimate.value), y))
        if differences:
            texts = elements.points(estimate.value), elements.signed_interval(estimate, elements.points)
        else:
            texts = elements.percent(estimate.value), elements.interval(estimate, "%")
        numbers.append(Markup('<span class="{}">{}<small>{}</small></span>').format(css, *texts))
    note = Markup("<small>{}</small>").format(row.note) if row.note else ""
    drawing = Markup('<svg role="img" aria-label="{}">{}{}</svg>')
    drawing = drawing.format(escape(row.name).striptags(), ticks, Markup().join(marks))
    return Markup(
        '<div class="estimate"><span class="name">{}{}</span><span class="track many{}">{}</span>'
        '<span class="numbers">{}</span></div>'
    ).format(row.name, note, len(row.estimates), drawing, Markup().join(numbers))


def lines(caption: str, series: Mapping[str, Sequence[Point]], plane: Plane, note: str = "") -> Markup:
    """Return a figure with lines.

    Args:
        caption: of the figure.
        series: colour, a class of the page → the points of its line. Points with a low and a high make a band; those
            with a fraction are dots.
        plane: the axes.
        note: below the drawing.

    Returns:
        The figure; it says so if there is no point.
    """
    if not any(series.values()):
        return elements.figure(caption, undefined())
    panel = Panel(LEFT, TOP, WIDTH, plane.height, plane.x, plane.y)
    frame = Markup('<rect class="frame" x="{}" y="{}" width="{}" height="{}"/>')
    marks = [
        frame.format(LEFT, TOP, WIDTH, plane.height),
        *panel.x_ticks(lambda tick: f"{tick:,g}"),
        *panel.y_ticks(lambda tick: f"{tick:g}"),
    ]
    if plane.diagonal:
        ends = (
            panel.across(plane.x.low),
            panel.down(plane.y.low),
            panel.across(plane.x.high),
            panel.down(plane.y.high),
        )
        marks.append(Markup('<path class="diagonal" d="M{} {}L{} {}"/>').format(*ends))
    marks += [_band(css, points, panel) for css, points in series.items()]
    for css, points in series.items():
        marks += _line(css, points, panel)
    x_name, y_name = (
        Markup('<text class="x" x="{}" y="{}">{}</text>'),
        Markup('<text class="x" transform="translate(12 {}) rotate(-90)">{}</text>'),
    )
    marks += [
        x_name.format(LEFT + WIDTH // 2, panel.bottom + 36, plane.x.name),
        y_name.format(TOP + plane.height // 2, plane.y.name),
    ]
    drawing = Markup('<svg class="lines" viewBox="0 0 {} {}" role="img" aria-label="{}">\n{}\n</svg>')
    size = LEFT + WIDTH + RIGHT, panel.bottom + BOTTOM
    drawing = drawing.format(*size, escape(caption).striptags(), Markup("\n").join(filter(None, marks)))
    return elements.figure(caption, drawing + elements.paragraph(note, "soft") if note else drawing)


def _band(css: str, points: Sequence[Point], panel: Panel) -> Markup:
    band = [point for point in points if point.has_band]
    if len(band) < 2:
        return Markup()
    upper = [f"{panel.across(point.x)},{panel.down(point.high)}" for point in band]
    lower = [f"{panel.across(point.x)},{panel.down(point.low)}" for point in reversed(band)]
    return Markup('<polygon class="{}" points="{}"/>').format(css, " ".join(upper + lower))


def _line(css: str, points: Sequence[Point], panel: Panel) -> list[Markup]:
    positions = [(panel.across(point.x), panel.down(point.y)) for point in points]
    line = Markup('<polyline class="{}" points="{}"/>').format(css, " ".join(f"{x},{y}" for x, y in positions))
    dot = Markup('<circle class="{}" cx="{}" cy="{}" r="{:.1f}"/>')
    return [
        line,
        *(
            dot.format(css, x, y, 1.5 + 7 * point.fraction**0.5)
            for (x, y), point in zip(positions, points, strict=True)
            if point.fraction is not None
        ),
    ]


def undefined() -> Markup:
    return elements.paragraph("Undefined for this split.", "soft")
