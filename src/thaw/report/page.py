"""The report: one HTML file that needs no network and no JavaScript, for the screen and for paper."""

import base64
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from thaw.metrics import Row

Metrics = Mapping[str, Mapping[str, Mapping[str, float | None]]]  # model → split → metric, as in metrics.json

MODELS = {"head": "Head", "fine_tuned": "Fine-tuned"}
SPLITS = {"validation": "Validation", "test": "Test"}
UP, DOWN = "↑", "↓"
MEASURES = (  # key of metrics.json, name, unit, which way is better
    ("accuracy", "Accuracy", "%", UP),
    ("accuracy_weighted", "Accuracy, weighted", "%", UP),
    ("balanced_accuracy", "Balanced accuracy", "%", UP),
    ("macro_f1", "Macro F1", "", UP),
    ("roc_auc", "ROC AUC", "", UP),
    ("log_loss", "Log loss", "", DOWN),
    ("brier", "Brier score", "", DOWN),
    ("ece", "Calibration error", "", DOWN),
)
MATRIX_CLASSES = 12  # a larger confusion matrix cannot be read: its most frequent errors are listed instead
PAIR_CLASSES = 3  # two confusion matrices of more classes do not fit side by side
CONFUSIONS_LISTED = 15
NARROW_SPACE = "\u202f"  # between a number and its unit; no line break falls there

# Forbids scripts and every load: what an author forgets to escape can do no harm.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1e21; --soft: #5d6470; --line: #dcdfe4;
  --head: #b3600c; --fine-tuned: #1f55a5; --cell: #1f55a5 }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #15171a; --ink: #e7e9ec; --soft: #a0a7b2;
  --line: #343940; --head: #eea75a; --fine-tuned: #82b3f5; --cell: #5d93dd } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem;
  -webkit-print-color-adjust: exact; print-color-adjust: exact }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 48rem;
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1, h2, .sentence { font-family: "Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", Georgia,
  serif; font-weight: 500; line-height: 1.25; text-wrap: balance }
h1 { font-size: 2rem; margin: 0 }
h2 { font-size: 1.4rem; margin: 3rem 0 1rem; padding-top: .75rem; border-top: 1px solid var(--line) }
figcaption, dt { font-size: .9375rem; font-weight: 600; margin: 0 0 .5rem }
p { margin: .75rem 0; max-width: 40rem }
a { color: inherit; text-decoration-color: var(--line); text-underline-offset: .2em }
a:hover, a:focus-visible { text-decoration-color: currentColor }
.soft, small, nav { color: var(--soft) }
.soft, small { font-size: .875rem }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: 1.25rem 0 0;
  padding: 0; font-size: .9375rem }
.sentence { font-size: 1.375rem; line-height: 1.4; text-wrap: pretty }
table { border-collapse: collapse; font-variant-numeric: tabular-nums lining-nums; font-size: .9375rem;
  line-height: 1.35; overflow-wrap: normal }
th, td { padding: .45rem .9rem .45rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
th { text-align: left; font-weight: 500 }
thead th { color: var(--soft) }
td, th.number { text-align: right; white-space: nowrap }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere }
td small { display: block; font-size: .78rem }
td small:empty { display: none }
td b { font-weight: 650 }
.wide { width: 100% }
.wide th:last-child, .wide td:last-child { padding-right: 0 }
.scroll { overflow-x: auto; margin: 1rem 0 }
figure { margin: 0; min-width: 0 }
figure .scroll { margin: 0 }
section > figure + figure { margin-top: 2rem }
.grid { display: grid; gap: 2rem 2.5rem; margin: 1rem 0 }
.matrix th { border: 0; padding: .5rem .7rem .5rem 0; color: var(--soft); font-weight: 400;
  vertical-align: middle }
.matrix thead th { vertical-align: bottom }
.matrix thead th + th { padding: .5rem .7rem; text-align: center }
.matrix td { border: 2px solid var(--paper); padding: .5rem .7rem; min-width: 3.6rem; text-align: center;
  background: color-mix(in srgb, var(--cell) calc(var(--of-row) * 42%), transparent) }
.matrix td small { color: inherit; opacity: .8 }
.matrix.tall { font-size: .8125rem }
.matrix.tall thead th + th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left }
.matrix.tall td { padding: .3rem; min-width: 3.1rem }
.interval { display: grid; grid-template-columns: 5.5rem minmax(4rem, 1fr) 9rem; gap: .9rem;
  align-items: center; max-width: 40rem; margin: .35rem 0; font-size: .9375rem;
  font-variant-numeric: tabular-nums }
.interval :last-child { text-align: right; white-space: nowrap }
.track { position: relative; height: 1.25rem; border: solid var(--line); border-width: 0 1px }
.track i, .track b { position: absolute; top: 50%; transform: translateY(-50%); background: var(--model) }
.track i { height: 3px; border-radius: 2px; opacity: .55 }
.track b { width: .7rem; height: .7rem; margin-left: -.35rem; border-radius: 50% }
.head { --model: var(--head) } .fine_tuned { --model: var(--fine-tuned) }
.legend { display: flex; gap: 1.5rem; font-size: .9375rem }
.legend span::before { content: ""; display: inline-block; width: 1.6rem; margin-right: .5rem;
  border-top: 2px solid var(--model); vertical-align: .25em }
.legend .head::before { border-top-style: dashed }
svg { display: block; width: 100%; max-width: 26rem; height: auto; font-size: 12px;
  font-variant-numeric: tabular-nums }
svg text { fill: var(--soft) }
svg .x { text-anchor: middle }
svg .y { text-anchor: end }
svg .frame { fill: none; stroke: var(--line) }
svg .ticks { stroke: var(--line); stroke-width: .6 }
svg .diagonal { stroke: var(--soft); stroke-dasharray: 1 4; stroke-linecap: round }
svg polyline { fill: none; stroke: var(--model); stroke-width: 1.8; stroke-linejoin: round }
svg polyline.head { stroke-dasharray: 5 3 }
svg circle { fill: var(--model) }
dd { margin: 0 0 1rem; max-width: 40rem; white-space: pre-line }
img { display: block; max-width: 100%; height: auto; border: 1px solid var(--line) }
@media (min-width: 40rem) { .grid { grid-template-columns: repeat(2, minmax(0, 1fr)) } }
@media (min-width: 76rem) {
  body { max-width: 74rem; display: grid; grid-template-columns: 11rem minmax(0, 1fr); column-gap: 3.5rem }
  header { grid-column: 2 }
  nav { grid-column: 1; grid-row: 2 }
  main { grid-column: 2; grid-row: 2 }
  nav ol { position: sticky; top: 2rem; flex-direction: column; margin-top: 3.75rem }
  .grid.three { grid-template-columns: repeat(3, minmax(0, 1fr)) }
}
.grid.one { grid-template-columns: minmax(0, 1fr) }
@media (max-width: 30rem) {
  body { padding-inline: 1rem }
  .wide { font-size: .8125rem }
  .wide td, .wide th { padding-right: .5rem }
  .wide td small { font-size: .6875rem }
  .interval { grid-template-columns: 4.6rem minmax(3rem, 1fr) 8.2rem; gap: .6rem; font-size: .8125rem }
}
@media print {
  @page { margin: 18mm 16mm }
  html { font-size: 10.5pt }
  body { padding: 0; max-width: none }
  h2, figcaption, p:not(:last-child) { break-after: avoid }
  .grid.three { grid-template-columns: repeat(3, minmax(0, 1fr)) }
  figure, tr, .interval { break-inside: avoid }
  .scroll { overflow: visible }
  .matrix.tall { font-size: 7.5pt }
  .matrix.tall td { min-width: 0 }
}
"""


class Data(NamedTuple):
    """What the images are, and how many of each class (in their order) each split holds."""

    name: str
    license: str
    citation: str
    counts: Mapping[str, Sequence[int]]


class Picture(NamedTuple):
    """A PNG or JPEG file's bytes, and what is to be seen there."""

    content: bytes
    caption: str


def render(
    *,
    title: str,
    classes: Sequence[str],
    metrics: Metrics,
    plots: Mapping[str, Mapping[str, Sequence[Row]]],
    data: Data,
    parameters: Mapping[str, object],
    pictures: Sequence[Picture],
) -> str:
    """Return the report as HTML. The same arguments give the same string; every string in them is escaped.

    `metrics` is the content of metrics.json (model → split → metric); `plots` is what `plots.write_plots`
    returned for the test split (kind → model → rows); `parameters` is nested as params.yaml is, of values
    that JSON knows. Without pictures their section is left out. Raises ValueError for a picture that is
    neither PNG nor JPEG.
    """
    sections = {
        "Result": _result(metrics, data),
        "Metrics": _metrics(metrics),
        "Confusion": _confusion(plots["confusion"], classes),
        "Curves": _curves(plots, classes),
        "Data": _data(data, classes),
        "Parameters": _parameters(parameters),
    }
    if pictures:
        sections["Pictures"] = "\n".join(_picture(picture) for picture in pictures)
    contents = "".join(f'<li><a href="#{name.lower()}">{name}</a></li>' for name in sections)
    body = "\n".join(
        f'<section id="{name.lower()}">\n<h2>{name}</h2>\n{content}\n</section>' for name, content in sections.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1></header>
<nav aria-label="Contents"><ol>{contents}</ol></nav>
<main>
{body}
</main>
</body>
</html>
"""


def _result(metrics: Metrics, data: Data) -> str:
    count = sum(data.counts["test"])
    head, tuned = metrics["head"]["test"], metrics["fine_tuned"]["test"]
    if not count:
        return "<p>The test split holds no image: nothing was measured.</p>"
    low = min(head["accuracy_low"], tuned["accuracy_low"])
    high = max(head["accuracy_high"], tuned["accuracy_high"])
    apart = tuned["accuracy_low"] > head["accuracy_high"] or head["accuracy_low"] > tuned["accuracy_high"]
    points = round(100 * (tuned["accuracy"] - head["accuracy"]), 1) + 0.0  # + 0.0 makes -0.0 positive
    tracks = []
    for model, name in MODELS.items():
        test = metrics[model]["test"]
        start, middle, end = (
            100 * (test[key] - low) / (high - low) for key in ("accuracy_low", "accuracy", "accuracy_high")
        )
        tracks.append(
            f'<div class="interval {model}"><span>{name}</span>'
            f'<span class="track"><i style="left:{start:.2f}%;width:{end - start:.2f}%"></i>'
            f'<b style="left:{middle:.2f}%"></b></span>'
            f"<span>{_number(test['accuracy'], '%')} <small>{_interval(test, 'accuracy')}</small></span>"
            "</div>\n"
        )
    return (
        f'<p class="sentence">Of {count:,} test images, the fine-tuned network predicts '
        f"{_number(tuned['accuracy'], '%')} correctly (95{NARROW_SPACE}% interval "
        f"{_interval(tuned, 'accuracy')}); the head on the frozen backbone, "
        f"{_number(head['accuracy'], '%')} ({_interval(head, 'accuracy')}).</p>\n{''.join(tracks)}"
        f'<p class="soft">Fine-tuning changes the accuracy by {f"{points:+.1f}".replace("-", "−")} points; '
        f"the two intervals {'lie apart' if apart else 'overlap'}.</p>"
    )


def _metrics(metrics: Metrics) -> str:
    splits = "".join(f'<th class="number" colspan="2">{name}</th>' for name in SPLITS.values())
    models = "".join(f'<th class="number" scope="col">{name}</th>' for name in MODELS.values()) * len(SPLITS)
    rows = []
    for key, name, unit, better in MEASURES:
        cells = []
        for split in SPLITS:
            values = {model: metrics[model][split][key] for model in MODELS}
            texts = {model: _number(value, unit) for model, value in values.items()}
            best = None
            if None not in values.values() and len(set(texts.values())) > 1:
                best = (max if better == UP else min)(values, key=values.get)
            for model, text in texts.items():
                value = f"<b>{text}</b>" if model == best else text
                cells.append(f"<td>{value}<small>{_interval(metrics[model][split], key)}</small></td>")
        rows.append(f'<tr><th scope="row">{name}&nbsp;<small>{better}</small></th>{"".join(cells)}</tr>')
    return (
        f"{_table('wide', [f'<tr><td></td>{splits}</tr>', f'<tr><td></td>{models}</tr>'], rows)}\n"
        f'<p class="soft">{UP} higher is better, {DOWN} lower is better; the better of the two is bold. '
        f"The intervals hold 95{NARROW_SPACE}%: Wilson’s for the accuracy, a bootstrap over groups of "
        "near-duplicates for the weighted accuracy, in which an image counts by its weight.</p>"
    )


def _confusion(rows: Mapping[str, Sequence[Row]], classes: Sequence[str]) -> str:
    draw, note = _confusion_matrix, "how many images of each class were predicted as which, and their share"
    if len(classes) > MATRIX_CLASSES:
        draw, note = _confusion_list, f"the {CONFUSIONS_LISTED} most frequent errors"
    figures = "\n".join(
        f"<figure><figcaption>{name}</figcaption>\n"
        f"{draw(Counter((row['actual'], row['predicted']) for row in rows[model]), classes)}</figure>"
        for model, name in MODELS.items()
    )
    columns = "one" if draw is _confusion_matrix and len(classes) > PAIR_CLASSES else "two"
    return f'<p class="soft">Test split: {note}.</p>\n<div class="grid {columns}">\n{figures}\n</div>'


def _confusion_matrix(counts: Counter[tuple[str, str]], classes: Sequence[str]) -> str:
    rows = []
    for actual in classes:
        total = sum(counts[actual, predicted] for predicted in classes)
        cells = []
        for predicted in classes:
            count = counts[actual, predicted]
            share = count / total if total else 0.0
            small = f"<small>{_number(share, '%')}</small>"
            cells.append(f'<td style="--of-row:{share:.3f}">{count:,}{small}</td>')
        rows.append(f'<tr><th scope="row">{escape(actual)}</th>{"".join(cells)}</tr>')
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in classes)
    kind = "matrix tall" if len(classes) > PAIR_CLASSES else "matrix"
    return _table(kind, [f"<tr><th>actual ↓ predicted →</th>{heads}</tr>"], rows)


def _confusion_list(counts: Counter[tuple[str, str]], classes: Sequence[str]) -> str:
    order = {name: index for index, name in enumerate(classes)}
    wrong = sorted(
        (-count, order[actual], order[predicted])
        for (actual, predicted), count in counts.items()
        if actual != predicted
    )
    rows = [
        f'<tr><td class="text">{escape(classes[actual])}</td>'
        f'<td class="text">{escape(classes[predicted])}</td><td>{-count:,}</td></tr>'
        for count, actual, predicted in wrong[:CONFUSIONS_LISTED]
    ]
    head = '<tr><th scope="col">Actual</th><th scope="col">Predicted</th><th class="number">Images</th></tr>'
    return _table("wide", [head], rows)


def _curves(plots: Mapping[str, Mapping[str, Sequence[Row]]], classes: Sequence[str]) -> str:
    asked = "ROC and precision–recall ask each image once per class (micro average)"
    if len(classes) == 2:
        asked = f"The positive class is {escape(classes[1])}"
    legend = "".join(f'<span class="{model}">{name}</span>' for model, name in MODELS.items())
    charts = (
        _chart("ROC", plots["roc"], "false_positive_rate", "true_positive_rate", diagonal=True),
        _chart("Precision and recall", plots["precision_recall"], "recall", "precision", diagonal=False),
        _chart("Reliability", plots["calibration"], "confidence", "accuracy", diagonal=True),
    )
    return (
        f'<p class="soft">Test split. {asked}. A dot of the reliability diagram is the larger the more '
        "images its bin holds; below the dotted line a model is surer than it is right.</p>\n"
        f'<div class="legend">{legend}</div>\n<div class="grid three">\n{"".join(charts)}</div>'
    )


def _chart(caption: str, rows: Mapping[str, Sequence[Row]], x: str, y: str, *, diagonal: bool) -> str:
    """Return a figure over the unit square: a line for each model, and dots where its rows have a `count`."""
    if not any(rows.values()):
        return f"<figure><figcaption>{caption}</figcaption><p>Undefined for this split.</p></figure>\n"
    left, top, side = 44, 8, 288  # of the square in a drawing of 340 by 340 units, each about a pixel

    def across(value: float) -> str:
        return f"{left + side * value:.1f}"

    def down(value: float) -> str:
        return f"{top + side * (1 - value):.1f}"

    marks = [f'<rect class="frame" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        marks += [
            f'<path class="ticks" d="M{across(tick)} {top}v{side}M{left} {down(tick)}h{side}"/>',
            f'<text class="x" x="{across(tick)}" y="{top + side + 16}">{tick:g}</text>',
            f'<text class="y" x="{left - 6}" y="{down(tick)}" dy=".35em">{tick:g}</text>',
        ]
    if diagonal:
        marks.append(f'<path class="diagonal" d="M{across(0)} {down(0)}L{across(1)} {down(1)}"/>')
    for model in MODELS:
        points = " ".join(f"{across(row[x])},{down(row[y])}" for row in rows[model])
        marks.append(f'<polyline class="{model}" points="{points}"/>')
        total = sum(row.get("count", 0) for row in rows[model])
        for row in rows[model]:
            if "count" in row:
                radius = 1.5 + 7 * (row["count"] / total) ** 0.5  # its area shows the share
                place = f'cx="{across(row[x])}" cy="{down(row[y])}"'
                marks.append(f'<circle class="{model}" {place} r="{radius:.1f}"/>')
    middle = top + side // 2
    marks += [
        f'<text class="x" x="{left + side // 2}" y="{top + side + 36}">{x.replace("_", " ")}</text>',
        f'<text class="x" transform="translate(12 {middle}) rotate(-90)">{y.replace("_", " ")}</text>',
    ]
    drawing = "\n".join([f'<svg viewBox="0 0 340 340" role="img" aria-label="{caption}">', *marks, "</svg>"])
    return f"<figure><figcaption>{caption}</figcaption>\n{drawing}</figure>\n"


def _data(data: Data, classes: Sequence[str]) -> str:
    def row(name: str, counts: Sequence[int]) -> str:
        cells = "".join(f"<td>{count:,}</td>" for count in (*counts, sum(counts)))
        return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'

    splits = "".join(f'<th class="number" scope="col">{escape(name)}</th>' for name in (*data.counts, "all"))
    by_class = zip(classes, zip(*data.counts.values(), strict=True), strict=True)
    rows = [row(name, counts) for name, counts in by_class]
    total = row("all", [sum(counts) for counts in data.counts.values()])
    return (
        f"<p>{escape(data.name)}</p>\n"
        f"{_table('wide', [f'<tr><th>Images</th>{splits}</tr>'], [*rows, total])}\n"
        f"<dl>\n<dt>Licence</dt><dd>{escape(data.license)}</dd>\n"
        f"<dt>Citation</dt><dd>{escape(data.citation)}</dd>\n</dl>"
    )


def _parameters(parameters: Mapping[str, object]) -> str:
    rows = [
        f'<tr><th scope="row">{escape(key)}</th><td class="text">{escape(value)}</td></tr>'
        for key, value in _flat(parameters)
    ]
    return _table("wide", [], rows)


def _flat(parameters: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key of each parameter and its value as params.yaml has it."""
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _picture(picture: Picture) -> str:
    if picture.content.startswith(b"\x89PNG"):
        kind = "png"
    elif picture.content.startswith(b"\xff\xd8"):
        kind = "jpeg"
    else:
        raise ValueError(f"the picture {picture.caption!r} is neither PNG nor JPEG")
    source = f"data:image/{kind};base64,{base64.b64encode(picture.content).decode('ascii')}"
    caption = escape(picture.caption)
    return f'<figure><figcaption>{caption}</figcaption><img alt="{caption}" src="{source}"></figure>'


def _table(kind: str, head: Sequence[str], body: Sequence[str]) -> str:
    """Return a table of `<tr>` rows; one that is too wide scrolls in its own box, not the page."""
    rows = "\n".join(["<thead>", *head, "</thead>", "<tbody>", *body, "</tbody>"])
    return f'<div class="scroll"><table class="{kind}">\n{rows}\n</table></div>'


def _number(value: float | None, unit: str) -> str:
    """Return a share as `88.7 %` where the unit is %, else three digits; a dash for what is undefined."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}{NARROW_SPACE}%" if unit else f"{value:.3f}"


def _interval(values: Mapping[str, float | None], key: str) -> str:
    """Return `86.1–90.9`, in percent, from a metric's `_low` and `_high`; nothing where it has none."""
    low, high = values.get(f"{key}_low"), values.get(f"{key}_high")
    return "" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"
