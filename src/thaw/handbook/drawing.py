"""The drawing of the pipeline, as an SVG: stages in three rows, read from left to right."""

from collections.abc import Mapping
from html import escape

from thaw.core.errors import ThawError

# Where each stage stands, as (column, row), and what a person calls its output. The stages that only look at files of a
# person's own are not drawn.
PLACES = {
    "download": (0, 0, "photographs"),
    "split": (1, 0, "train, validation, test"),
    "augment": (2, 0, "a table of copies"),
    "backbone": (2, 2, "a pre-trained network"),
    "extract_features": (3, 0, "frozen layers, once"),
    "extract_activations": (3, 2, "up to the freeze depth"),
    "train_head": (4, 0, "a new last layer"),
    "fine_tune": (4, 2, "the thawed layers"),
    "evaluate": (5, 1, "metrics and report"),
}
LOOKS = ("inputs", "fingerprints")
ARROWS = (
    ("download", "split"), ("split", "augment"), ("augment", "extract_features"), ("augment", "extract_activations"),
    ("backbone", "extract_features"), ("backbone", "extract_activations"), ("extract_features", "train_head"),
    ("extract_activations", "fine_tune"), ("train_head", "fine_tune"), ("train_head", "evaluate"),
    ("fine_tune", "evaluate"),
)  # fmt: skip
FROZEN = ("extract_features", "extract_activations")  # shaded: what is computed once
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 172, 54, 38, 20, 14


def draw(stages: Mapping[str, Mapping]) -> str:
    """Return the SVG. Raises ThawError if a stage of dvc.yaml has no place in it."""
    if strangers := [name for name in stages if name not in PLACES and name not in LOOKS]:
        raise ThawError(f"the drawing of the pipeline has no place for {', '.join(strangers)}")
    columns, rows = max(place[0] for place in PLACES.values()) + 1, 3
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP_X
    height = 2 * MARGIN + rows * HEIGHT + (rows - 1) * GAP_Y
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" role="img">',
        "<title>The pipeline: from photographs, by way of frozen layers that are computed once, to the report</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#5b6b7b"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
    ]
    parts += [_arrow(start, end) for start, end in ARROWS]
    parts += [_box(name) for name in PLACES]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _corner(name: str) -> tuple[float, float]:
    column, row, _ = PLACES[name]
    return MARGIN + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y)


def _box(name: str) -> str:
    x, y = _corner(name)
    fill, line = ("#dcecf9", "#2f78b7") if name in FROZEN else ("#f6f8fa", "#b9c3cd")
    middle = x + WIDTH / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{fill}" stroke="{line}"/>'
        f'<text x="{middle:g}" y="{y + 23:g}" text-anchor="middle" font-size="14" font-weight="600" fill="#1c2733">'
        f"{escape(name)}</text>"
        f'<text x="{middle:g}" y="{y + 42:g}" text-anchor="middle" font-size="12" fill="#4b5967">'
        f"{escape(PLACES[name][2])}</text>"
    )


def _arrow(start: str, end: str) -> str:
    (x1, y1), (x2, y2) = _corner(start), _corner(end)
    if x1 == x2:  # one above the other
        path = f"M{x1 + WIDTH / 2:g} {y1 + HEIGHT:g}V{y2 - 2:g}"
    else:
        ax, ay, bx, by = x1 + WIDTH, y1 + HEIGHT / 2, x2 - 2, y2 + HEIGHT / 2
        bend = (ax + bx) / 2
        path = f"M{ax:g} {ay:g}C{bend:g} {ay:g} {bend:g} {by:g} {bx:g} {by:g}"
    return f'<path d="{path}" fill="none" stroke="#5b6b7b" stroke-width="1.5" marker-end="url(#tip)"/>'
