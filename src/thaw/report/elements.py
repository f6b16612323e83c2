"""The parts of the report as HTML: tables, figures, pictures; and how numbers are written.

What holds tags is `Markup`. Every element escapes a plain string that it gets, and leaves `Markup` as it is. So no text
of the data can become a tag, and nobody has to remember to escape it.
"""

import base64
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from thaw.core.metrics_file import FINE_TUNED, HEAD
from thaw.report.estimate import Estimate

MODELS = {HEAD: "Head", FINE_TUNED: "Fine-tuned"}  # key in metrics.json, which is also its colour's class → name
NARROW_SPACE = "\u202f"  # between a number and its unit; no line break falls there
UNDEFINED = "–"

# --- Numbers as text ---


def percent(value: float | None, digits: int = 1) -> str:
    return UNDEFINED if value is None else f"{100 * value:.{digits}f}{NARROW_SPACE}%"


def number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3f}".replace("-", "−")


def signed(value: float | None) -> str:
    """Return a difference with its sign; 0 has none."""
    if value is None:
        return UNDEFINED
    rounded = round(value, 3)
    return f"{rounded:+.3f}".replace("-", "−") if rounded else f"{0:.3f}"


def points(value: float | None, digits: int = 1) -> str:
    """Return a difference of two fractions in percentage points with its sign; 0 has none."""
    if value is None:
        return UNDEFINED
    rounded = round(100 * value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def p_value(p: float) -> str:
    """Return what follows `p` in a sentence: `= 0.012` or `below 0.001`."""
    return f"= {p:.2g}" if p >= 1e-3 else "below 0.001"


def value(amount: float | None, unit: str) -> str:
    """Return a metric in percent if its unit is `%`, else as a number."""
    return percent(amount) if unit else number(amount)


def interval(estimate: Estimate, unit: str) -> str:
    """Return `86.1–90.9` if the unit is `%`, else `0.861–0.909`; an empty text if there is no interval."""
    if not estimate.has_interval:
        return ""
    if unit:
        return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}"
    return f"{number(estimate.low)}–{number(estimate.high)}"


def signed_interval(difference: Estimate, text_of: Callable[[float], str]) -> str:
    """Return the interval of a difference, its ends by `points` or `signed`; an empty text if there is none."""
    return f"{text_of(difference.low)} to {text_of(difference.high)}" if difference.has_interval else ""


def probability(value: float) -> str:
    """Return a probability with three decimals, or with as many as tell it from 0 and from 1."""
    return f"{value:.3f}" if 0.001 <= value <= 0.999 else f"{value:.6g}"


# --- HTML ---


def isolated(text: str) -> Markup:
    """Return a text of the data, such as the name of a class, set apart from the text around it.

    Without it, a name that is written from right to left would turn around the words and numbers beside it.
    """
    return Markup("<bdi>{}</bdi>").format(text)


def enumeration(names: Sequence[str], conjunction: str) -> Markup:
    """Return `a, b and c`."""
    *first, last = names
    listed = Markup(", ").join(first)
    return Markup("{} {} {}").format(listed, conjunction, last) if first else Markup("{}").format(last)


def paragraph(content: str, css: str = "") -> Markup:
    if css:
        return Markup('<p class="{}">{}</p>').format(css, content)
    return Markup("<p>{}</p>").format(content)


def table(css: str, header: Sequence[Markup], rows: Iterable[Markup]) -> Markup:
    """Return a table of `<tr>` rows. A table that is too wide scrolls in its own box; the page does not."""
    thead = [Markup("<thead>"), *header, Markup("</thead>")] if header else []
    body = Markup("\n").join([*thead, Markup("<tbody>"), *rows, Markup("</tbody>")])
    # Only a box that takes the focus can be scrolled by keyboard.
    return Markup('<div class="scroll" tabindex="0"><table class="{}">\n{}\n</table></div>').format(css, body)


def row(name: str, cells: Sequence[Markup]) -> Markup:
    """Return a row that begins with its name; `cells` are `<td>` elements, see `cell`."""
    return Markup('<tr><th scope="row">{}</th>{}</tr>').format(name, Markup().join(cells))


def row_group(name: str, columns: int) -> Markup:
    """Return a row that names the rows below it."""
    return Markup('<tr class="part"><th scope="rowgroup" colspan="{}">{}</th></tr>').format(columns, name)


def header(first: str, names: Sequence[str]) -> Markup:
    """Return the header of a table whose columns, but for the first, hold numbers."""
    columns = Markup().join(Markup('<th class="number" scope="col">{}</th>').format(name) for name in names)
    return Markup('<tr><th scope="col">{}</th>{}</tr>').format(first, columns)


def cell(text: str, interval: str | None = None, bold: bool = False) -> Markup:
    """Return the cell of a number, its interval in small print.

    An empty interval keeps the number in line with those above and below it; None leaves no room for one.
    """
    content = Markup("<b>{}</b>").format(text) if bold else text
    small = "" if interval is None else Markup("<small>{}</small>").format(interval)
    return Markup("<td>{}{}</td>").format(content, small)


def shaded_cell(text: str, note: str, shade: float, css: str = "") -> Markup:
    """Return a cell of a matrix with a note in small print; shade: how dark it is, 0 … 1."""
    attribute = Markup(' class="{}"').format(css) if css else ""
    return Markup('<td{} style="--shade:{:.3f}">{}<small>{}</small></td>').format(attribute, shade, text, note)


def empty_cell(css: str) -> Markup:
    """Return a cell of a matrix that counts nothing."""
    return Markup('<td class="{} none"></td>').format(css)


def details(summary: str, content: str) -> Markup:
    """Return content that is folded away below its summary."""
    return Markup("<details><summary>{}</summary>\n{}</details>").format(summary, content)


def description_list(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return a list of terms, each with its description."""
    items = (Markup("<dt>{}</dt><dd>{}</dd>").format(term, description) for term, description in pairs)
    return Markup("<dl>\n{}\n</dl>").format(Markup("\n").join(items))


def figure(caption: str, content: str) -> Markup:
    return Markup("<figure><figcaption>{}</figcaption>\n{}</figure>").format(caption, content)


def grid(css: str, parts: Iterable[str]) -> Markup:
    return Markup('<div class="grid {}">\n{}\n</div>').format(css, Markup("\n").join(parts))


def legend() -> Markup:
    """Name the colours of the two models."""
    entries = (Markup("<span class={}>{}</span>").format(model, name) for model, name in MODELS.items())
    return Markup('<p class="legend">{}</p>').format(Markup().join(entries))


def picture(content: bytes | None, alt: str, side: int) -> Markup:
    """Return an inlined picture, `side` pixels wide, or a frame with a text if there is no picture.

    content: a PNG or a JPEG, or None. Raises ValueError if it is neither.
    """
    if content is None:
        return Markup('<span class="gone" role="img" aria-label="{}: cannot be read">not readable</span>').format(alt)
    if content.startswith(b"\x89PNG"):
        kind = "png"
    elif content.startswith(b"\xff\xd8"):
        kind = "jpeg"
    else:
        raise ValueError(f"the picture {alt!r} is neither PNG nor JPEG")
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Markup('<img alt="{}" width="{}" src="{}">').format(alt, side, source)


def rest(total: int, shown: int, what: str, file: str) -> Markup:
    """Say how much a table leaves out.

    Args:
        total: how many there are.
        shown: how many of them the table has.
        what: they are, in the plural.
        file: that has all of them.

    Returns:
        A paragraph; nothing if the table is complete.
    """
    if total <= shown:
        return Markup()
    return paragraph(f"{shown:,} of {total:,} {what} are shown; all stand in {file}.", "soft")
