"""The page of a comparison: one HTML file that needs no network and no JavaScript, in the look of the report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from thaw.core.words import plural
from thaw.drift.comparison import Drift
from thaw.drift.lines import NAMES, UNITS, left_out_lines
from thaw.drift.samples import Sample
from thaw.drift.two_sample import LEVEL
from thaw.evaluation import review
from thaw.images.views import network_input
from thaw.prediction.deployed_model import Description
from thaw.report import axes, charts, elements
from thaw.report.page import POLICY
from thaw.report.style import STYLE

MARK = '<meta name="generator" content="Thaw drift">'  # by which an earlier page is known
SHOWN = 12  # photographs of each sheet
SIDE = 224  # pixels of their pictures
BINS = 24  # of a chart
MAX_CLASSES = 12  # in the table of predictions
OWN_STYLE = """
body.drift { display: block; max-width: 58rem }
.drift .sheet { grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: 1rem .75rem }
.drift .card figcaption { margin: .35rem 0 0; font-weight: 400; overflow: hidden; text-overflow: ellipsis }
.drift .card img { border-radius: 4px }
.drift .card small { display: block }
.drift .legend .base::before { border-top-style: dashed }
.drift .lines polyline.base { stroke-dasharray: 5 3 }
.drift .three { gap: 2rem }
@media (min-width: 44rem) { .drift .three { grid-template-columns: repeat(3, minmax(0, 1fr)) } }
@media (max-width: 40rem) { .drift .sheet { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .75rem .5rem } }
"""
PAGE = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{mark}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{title} · Thaw</title>
<style>{style}</style>
</head>
<body class="drift">
<header>
<p class="eyebrow">Thaw · drift · {folder}</p>
<h1>{title}</h1>
{summary}
</header>
<main>
{sections}
</main>
</body>
</html>
""")


def is_page(path: Path) -> bool:
    """Return whether a file is a page that was written here."""
    with path.open("rb") as file:
        return MARK.encode() in file.read(1000)


def render(drift: Drift, folder: str, description: Description) -> str:
    """Return the page as HTML. The same comparison gives the same string; every text in it is escaped.

    Args:
        drift: the comparison.
        folder: of the new photographs, as the person named it.
        description: of the model.
    """
    sections = {
        "What differs": _measures(drift),
        "The new photographs that differ most": _sheets(drift, description),
        "What the model predicts": _predictions(drift),
        "The accuracy to expect": _accuracy(drift),
        "How it was compared": _method(drift),
    }
    if not drift.predictions:
        del sections["What the model predicts"]
    section = Markup("<section>\n<h2>{}</h2>\n{}\n</section>")
    page = PAGE.format(
        mark=Markup(MARK),
        policy=Markup(POLICY),
        style=Markup(STYLE + OWN_STYLE),
        folder=elements.isolated(folder),
        title=_title(drift),
        summary=_summary(drift),
        sections=Markup("\n").join(section.format(title, content) for title, content in sections.items()),
    )
    return str(page)


def _title(drift: Drift) -> str:
    if drift.test.is_too_small:
        return "Too few to tell"
    return "Another kind" if drift.test.differ else "No difference was found"


def _summary(drift: Drift) -> Markup:
    test, far = drift.test, drift.far
    new, held_out = (plural(len(sample), "photograph") for sample in (drift.new, drift.held_out))
    if test.is_too_small:
        lead = f"The {new} are too few to be compared with the {held_out} that the model was measured on."
    elif test.differ:
        lead = f"The {new} are not like the {held_out} that the model was measured on."
    else:
        lead = f"The {new} look like the {held_out} that the model was measured on."
    detail = (
        f"A classifier that has seen both tells a new photograph from a held-out one in "
        f"{elements.percent(test.auc, 0)} of cases; 50{elements.NARROW_SPACE}% is chance (p {_p(test.p)}). "
        f"{elements.percent(far.share)} are nothing like the training photographs, where "
        f"{elements.percent(far.expected)} would be expected."
    )
    if test.is_too_small:
        detail += " Near-duplicates count as one photograph. Of so few, chance alone may tell all apart."
    elif not test.differ:
        detail += (
            f" A smaller difference may be there: {elements.percent(test.chance, 0)} or more would have been noticed."
        )
    return elements.paragraph(lead, "lead") + elements.paragraph(detail, "second")


def _p(p: float) -> str:
    return "≤ 0.001" if p <= 0.001 else elements.p_value(p)


def _measures(drift: Drift) -> Markup:
    rows = []
    for name, change in drift.changes.items():
        new, held_out = (
            [UNITS[name].format(value).removesuffix(" pixels") for value in values]
            for values in (change.new, change.held_out)
        )
        cells = [
            elements.cell(new[1], f"{new[0]} to {new[2]}"),
            elements.cell(held_out[1], f"{held_out[0]} to {held_out[2]}"),
            elements.cell(elements.percent(change.unusual, 0)),
        ]
        unit = ", pixels" * UNITS[name].endswith(" pixels")
        rows.append(elements.row(NAMES[name].capitalize() + unit, cells))
    table = elements.table("wide", [elements.header("Median", ["new", "held out", "unusual"])], rows)
    note = (
        "In small print, the middle 95 % of the photographs. Unusual are new photographs outside that of the held-out "
        "ones: 5 % of photographs of the same kind. Brightness is the mean of what the network sees, from 0 to 1. "
        "Sharpness is how much of its contrast is fine detail: blur makes it smaller, noise larger."
    )
    figures = [
        _distribution(
            NAMES[name].capitalize(), getattr(drift.held_out.measures, name), getattr(drift.new.measures, name)
        )
        for name in drift.changes
    ]
    legend = Markup('<p class="legend"><span class="fine_tuned">new</span><span class="base">held out</span></p>')
    return table + elements.paragraph(note, "soft") + legend + elements.grid("three", figures)


def _distribution(name: str, held_out: NDArray[np.float64], new: NDArray[np.float64]) -> Markup:
    """Return a chart of two distributions: the share of the photographs in each of BINS parts of the range."""
    both = np.concatenate([held_out, new])
    low, high = float(both.min()), float(both.max())
    if high - low < 1e-9:
        return elements.figure(name, elements.paragraph(f"All photographs have {low:,.4g}.", "soft"))
    edges = np.linspace(low, high, BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    shares = {
        css: np.histogram(values, edges)[0] / len(values) for css, values in (("base", held_out), ("fine_tuned", new))
    }
    series = {
        css: [charts.Point(float(x), float(y)) for x, y in zip(centres, values, strict=True)]
        for css, values in shares.items()
    }
    largest = max(float(values.max()) for values in shares.values())
    x = axes.round_axis("", [low, high], low=-np.inf, high=np.inf)
    return charts.lines(name, series, charts.Plane(x, axes.round_axis("share", [0, largest]), height=160))


def _sheets(drift: Drift, description: Description) -> Markup:
    order = np.argsort(-drift.test.scores, kind="stable")[:SHOWN]
    farthest = drift.compared[order]
    usual = np.linspace(0, len(drift.held_out) - 1, min(SHOWN, len(drift.held_out))).round().astype(int)
    sheet = Markup('<div class="sheet">\n{}\n</div>')
    parts = [
        elements.paragraph("Those that the classifier took most surely for new ones, with their distance from the "
                           f"training photographs. Beyond {drift.far.limit:.2f} a photograph is far.", "soft"),
        sheet.format(Markup("\n").join(_card(drift.new, i, description, drift.far.distances[i]) for i in farthest)),
        Markup("<h3>Held-out photographs, to compare</h3>"),
        sheet.format(Markup("\n").join(_card(drift.held_out, int(i), description) for i in usual)),
    ]  # fmt: skip
    return Markup("\n").join(parts)


def _card(sample: Sample, position: int, description: Description, distance: float | None = None) -> Markup:
    path = sample.paths[position]
    pixels = network_input(path, description.size, description.resize, sample.bits)
    picture = elements.picture(review.jpeg(pixels, SIDE), path.name, SIDE)
    small = "" if distance is None else Markup("<small>{:.2f}</small>").format(distance)
    return Markup('<figure class="card">{}<figcaption>{}{}</figcaption></figure>').format(
        picture, elements.isolated(path.name), small
    )


def _predictions(drift: Drift) -> Markup:
    ranked = sorted(drift.predictions.items(), key=lambda item: -item[1][1])
    rows = []
    for name, (known, new) in ranked[:MAX_CLASSES]:
        cells = [
            elements.percent(new),
            elements.percent(known),
            elements.points(None if known is None else new - known),
        ]
        rows.append(elements.row(elements.isolated(name), [elements.cell(text) for text in cells]))
    note = "The share of each class. It changes where the photographs do, and where the classes come in other numbers."
    table = elements.table("wide", [elements.header("Prediction", ["new", "held out", "points"])], rows)
    return elements.paragraph(note, "soft") + table


def _accuracy(drift: Drift) -> Markup:
    accuracy = drift.accuracy
    if accuracy is None:
        return elements.paragraph(f"Not known, since {drift.no_accuracy}.")
    measured = elements.percent(accuracy.measured)
    interval = f"{100 * accuracy.measured_low:.1f}–{100 * accuracy.measured_high:.1f}"
    rows = [
        elements.row("New, by mean probability", [elements.cell(elements.percent(accuracy.mean), "")]),
        elements.row("New, by thresholded confidence", [elements.cell(elements.percent(accuracy.threshold), "")]),
        elements.row("Held out, measured", [elements.cell(measured, interval)]),
    ]
    note = (
        "Both estimates suppose that the model knows when it is wrong, which it does less the more photographs change. "
        "On solar cells that were darkened, blurred and turned, docs/guides/drift.md says how wrong they were."
    )
    if drift.test.differ:
        note += " These photographs differ: label some of them before you believe a number."
    return elements.table("pairs", [], rows) + elements.paragraph(note, "soft")


def _method(drift: Drift) -> Markup:
    texts: Sequence[str] = [
        "Held out are the photographs of the test split, which the model was not trained on; with folds, all. Compared "
        "are the features of the frozen network. The classifier is ridge regression, and is asked about photographs "
        "that it was not fitted to. Near-duplicates stay together.",
        "p is how often such a difference comes about if the photographs are dealt out anew at random, 999 times. It "
        f"is exact for any number of photographs. Below {LEVEL:g} it counts as a difference. So of samples of the same "
        f"kind, at most {LEVEL:.0%} raise a false alarm.",
        *(f"{line[0].upper()}{line[1:]}." for line in left_out_lines(drift)),
    ]
    return Markup("\n").join(elements.paragraph(text) for text in texts)
