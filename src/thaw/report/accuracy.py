"""The main metric of both models as a picture that stands alone: for the README, and for pull requests."""

from collections.abc import Mapping

from markupsafe import Markup

from thaw.core.metrics_file import MEASURE_NAMES, WEIGHTED
from thaw.report import axes
from thaw.report.axes import Panel
from thaw.report.estimate import Estimate

LEFT, TOP, WIDTH, RIGHT = 170, 12, 430, 40  # of the panel, in units of about a pixel
ROW_HEIGHT = 34
MAX_START = 0.95  # the axis ends at 1 and begins no higher than this: its ticks are whole percents
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #555 }
.x, .value { text-anchor: middle }
.name { text-anchor: end }
.value { font-weight: 600 }
.ticks { stroke: #8883 }
.interval { stroke: #4a7fb5; stroke-width: 5; stroke-linecap: round; opacity: .45 }
circle { fill: #2f6ba8 }
@media (prefers-color-scheme: dark) { text { fill: #bbb } circle { fill: #7db3e6 } }
"""


def accuracy_svg(metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]], measure: str = WEIGHTED) -> str:
    """Draw the main metric of the models with its 95 % intervals.

    Args:
        metrics: the content of metrics.json, of which model → split → score is read.
        measure: the key of the metric, of MEASURE_NAMES. What is None has no row.
    """
    estimates = {
        f"{model.replace('_', '-')}, {split}": Estimate.read(scores, measure)
        for model in ("head", "fine_tuned")
        for split, scores in metrics[model].items()
    }
    rows = [(name, estimate) for name, estimate in estimates.items() if estimate.value is not None]
    numbers = [number for _, estimate in rows for number in estimate.numbers]
    axis = axes.round_axis("", [MAX_START, 1.0, *numbers], parts=8)
    panel = Panel(LEFT, TOP, WIDTH, ROW_HEIGHT * len(rows) + 8, axis)
    marks = panel.x_ticks(lambda tick: f"{tick:.0%}")
    for i, (name, estimate) in enumerate(rows):
        marks += _row(name, estimate, panel, y=TOP + 20 + ROW_HEIGHT * i)
    size = LEFT + WIDTH + RIGHT, panel.bottom + 30
    return axes.svg_file(f"{MEASURE_NAMES[measure].capitalize()} with its 95 % interval", STYLE, size, marks)


def _row(name: str, estimate: Estimate, panel: Panel, y: int) -> list[Markup]:
    marks = [Markup('<text class="name" x="{}" y="{}">{}</text>').format(LEFT - 14, y + 4, name)]
    if estimate.has_interval:
        interval = Markup('<path class="interval" d="M{} {}H{}"/>')
        marks.append(interval.format(panel.across(estimate.low), y, panel.across(estimate.high)))
    x = panel.across(estimate.value)
    value = Markup('<text class="value" x="{}" y="{}">{:.1%}</text>')
    return [
        *marks,
        Markup('<circle cx="{}" cy="{}" r="5"/>').format(x, y),
        value.format(x, y - 9, estimate.value),
    ]
