"""What all SVG drawings have in common: axes with round bounds, where a value lies on them, their lines and labels."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

LABEL_BELOW, LABEL_LEFT = 16, 6  # from an axis to its labels
UNIT_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


class Axis(NamedTuple):
    name: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def position(self, value: float) -> float:
        """Return where a value lies on the axis, as a fraction of its length."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def unit_axis(name: str) -> Axis:
    return Axis(name, 0, 1, UNIT_TICKS)


def round_axis(name: str, values: Sequence[float], low: float = 0.0, high: float = 1.0, parts: int = 4) -> Axis:
    """Return an axis with round bounds and ticks.

    Args:
        name: what the axis shows.
        values: that it has to hold.
        low: it does not begin below.
        high: it does not end above.
        parts: into about so many, or fewer, ticks divide the range of the values.
    """
    lowest, highest = max(low, min(values)), min(high, max(values))
    step = _round_step((highest - lowest) or 0.1, parts)
    start = max(low, math.floor(round(lowest / step, 6)) * step)
    end = min(high, math.ceil(round(highest / step, 6)) * step)
    if end <= start:
        start, end = max(low, start - step), min(high, start + step)
    count = round((end - start) / step)
    return Axis(name, start, end, [round(start + i * step, 6) for i in range(count + 1)])


def _round_step(span: float, parts: int) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that divides `span` into about `parts` or fewer."""
    rough = span / parts
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)


class Panel(NamedTuple):
    """A rectangle in a drawing, with its axes. The units of the drawing are about a pixel."""

    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis | None = None

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def across(self, value: float) -> str:
        """Return the x of a value."""
        return f"{self.left + self.width * self.x.position(value):.1f}"

    def down(self, value: float) -> str:
        """Return the y of a value."""
        return f"{self.top + self.height * (1 - self.y.position(value)):.1f}"

    def x_label(self, tick: float, text: str) -> Markup:
        """Return the label of a tick of the x axis."""
        y = self.bottom + LABEL_BELOW
        return Markup('<text class="x" x="{}" y="{}">{}</text>').format(self.across(tick), y, text)

    def x_ticks(self, text_of: Callable[[float], str]) -> list[Markup]:
        """Return the line and the label of each tick of the x axis."""
        line = Markup('<path class="ticks" d="M{} {}v{}"/>')
        return [
            mark
            for tick in self.x.ticks
            for mark in (
                line.format(self.across(tick), self.top, self.height),
                self.x_label(tick, text_of(tick)),
            )
        ]

    def y_ticks(self, text_of: Callable[[float], str]) -> list[Markup]:
        """Return the line and the label of each tick of the y axis."""
        line = Markup('<path class="ticks" d="M{} {}h{}"/>')
        label = Markup('<text class="y" x="{}" y="{}" dy=".35em">{}</text>')
        return [
            mark
            for tick in self.y.ticks
            for mark in (
                line.format(self.left, self.down(tick), self.width),
                label.format(self.left - LABEL_LEFT, self.down(tick), text_of(tick)),
            )
        ]


class Track(NamedTuple):
    """A horizontal axis that is as wide as the page leaves room for: positions on it are in percent."""

    x: Axis

    def across(self, value: float) -> str:
        """Return the x of a value."""
        return f"{100 * self.x.position(value):.2f}%"

    def line(self, value: float, css: str) -> Markup:
        """Return a vertical line at a value, as high as the drawing."""
        line = Markup('<line class="{css}" x1="{x}" x2="{x}" y1="0" y2="100%"/>')
        return line.format(css=css, x=self.across(value))

    def label(self, tick: float, text: str) -> Markup:
        """Return the label of a tick, in a drawing of its own below the lines."""
        return Markup('<text x="{}" y="12">{}</text>').format(self.across(tick), text)


def svg_file(title: str, style: str, size: tuple[float, float], marks: Iterable[str]) -> str:
    """Return an SVG file that stands alone. It names its size: `dvc plots` would show it in that of a stamp.

    Args:
        title: what the picture shows.
        style: CSS for its elements.
        size: width and height, in units of about a pixel.
        marks: what is drawn. Plain strings are escaped.
    """
    file = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{}" viewBox="0 0 {} {}">\n'
        "<title>{}</title>\n<style>{}</style>\n{}\n</svg>\n"
    )
    return str(file.format(*size, *size, title, Markup(style), Markup("\n").join(marks)))
