"""The small parts that the sections of the report are made of. Each escapes the text it is given."""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

MODELS = {"head": "Head", "fine_tuned": "Fine-tuned"}  # key in metrics.json, which is also its colour's class → name
NARROW_SPACE = "\u202f"  # between a number and its unit; no line break falls there
NOTHING = "–"  # stands for what is undefined


def percent(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{100 * value:.{digits}f}{NARROW_SPACE}%"


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}".replace("-", "−")


def signed(value: float | None) -> str:
    """Return a difference with its sign where it is not 0."""
    if value is None:
        return NOTHING
    rounded = round(value, 3)
    return f"{rounded:+.3f}".replace("-", "−") if rounded else f"{0:.3f}"


def points(value: float | None, digits: int = 1) -> str:
    """Return a difference of shares in percentage points, with its sign where it is not 0."""
    if value is None:
        return NOTHING
    rounded = round(100 * value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def equals(p: float) -> str:
    """Return what follows the name of a p-value."""
    return f"= {p:.2g}" if p >= 1e-3 else "below 0.001"


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Return `86.1–90.9` where the unit is %, else `0.861–0.909`; nothing where there is none."""
    if low is None or high is None:
        return ""
    if unit:
        return f"{100 * low:.1f}–{100 * high:.1f}"
    return f"{number(low)}–{number(high)}"


def signed_interval(low: float | None, high: float | None, written: Callable[[float], str]) -> str:
    """Return an interval of differences, each as `points` or `signed` writes it; nothing where there is none."""
    return "" if low is None or high is None else f"{written(low)} to {written(high)}"


def value(amount: float | None, unit: str) -> str:
    return percent(amount) if unit else number(amount)


def probability(value: float) -> str:
    """Return a probability with three decimals, or as many as tell it from 0 and from 1."""
    return f"{value:.3f}" if 0.001 <= value <= 0.999 else f"{value:.6g}"


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Return `a, b and c`, escaped."""
    names = [escape(name) for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def paragraph(html: str, kind: str = "") -> str:
    return f'<p class="{kind}">{html}</p>' if kind else f"<p>{html}</p>"


def table(kind: str, head: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table of `<tr>` rows; one that is too wide scrolls in its own box, not the page."""
    names = ["<thead>", *head, "</thead>"] if head else []
    body = "\n".join([*names, "<tbody>", *rows, "</tbody>"])
    # To be scrolled by keyboard, a box must take the focus.
    return f'<div class="scroll" tabindex="0"><table class="{kind}">\n{body}\n</table></div>'


def row(name: str, cells: Sequence[str]) -> str:
    """Return a row that begins with its name; the cells are HTML already, see `cell`."""
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'


def part(name: str, columns: int) -> str:
    """Return a row that names the ones below it."""
    return f'<tr class="part"><th scope="rowgroup" colspan="{columns}">{escape(name)}</th></tr>'


def heads(first: str, names: Sequence[str]) -> str:
    columns = "".join(f'<th class="number" scope="col">{escape(name)}</th>' for name in names)
    return f'<tr><th scope="col">{escape(first)}</th>{columns}</tr>'


def cell(text: str, interval: str | None = None, clear: bool = False) -> str:
    """Return a number's cell, its interval in small print; an empty one keeps the place of those above and below."""
    shown = f"<b>{escape(text)}</b>" if clear else escape(text)
    small = "" if interval is None else f"<small>{escape(interval)}</small>"
    return f"<td>{shown}{small}</td>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and what is known of each."""
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs)
    return f"<dl>\n{rows}\n</dl>"


def figure(caption: str, html: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>\n{html}</figure>"


def grid(kind: str, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return f'<div class="grid {kind}">\n{body}\n</div>'


def legend(names: Mapping[str, str] = MODELS) -> str:
    """Name the colours, given as class → name."""
    return f'<p class="legend">{"".join(f"<span class={key}>{name}</span>" for key, name in names.items())}</p>'


def picture(content: bytes | None, alt: str, side: int) -> str:
    """Return an inlined PNG or JPEG, `side` pixels wide; a frame with a line where there is none.

    Raises ValueError where it is neither PNG nor JPEG.
    """
    if content is None:
        return f'<span class="gone" role="img" aria-label="{escape(alt)}: cannot be read">not readable</span>'
    if content.startswith(b"\x89PNG"):
        kind = "png"
    elif content.startswith(b"\xff\xd8"):
        kind = "jpeg"
    else:
        raise ValueError(f"the picture {alt!r} is neither PNG nor JPEG")
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return f'<img alt="{escape(alt)}" width="{side}" src="{source}">'


def rest(total: int, shown: int, what: str, where: str) -> str:
    """Say what a table that was cut leaves out, and where all of it stands; nothing where it is whole."""
    if total <= shown:
        return ""
    return paragraph(f"{shown:,} of {total:,} {what} are shown; all stand in {escape(where)}.", "soft")
