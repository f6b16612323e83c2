"""Tables of what was measured, from the files that a benchmark writes: `benchmarks/results/*.json`.

A page names a table by two marks, `<!-- results: NAME -->` and `<!-- end -->`. What is between them is written here,
so that no figure is typed twice.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from thaw.core.errors import ThawError

MARKS = re.compile(r"<!-- results: ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
NO_BREAK = "\u00a0"  # between a number and its unit: a cell may be narrow
KEYS = ("command", "commit", "date", "machine", "columns", "rows")


def read(path: Path) -> dict:
    """Read a file of results.

    It has the keys `command`, `commit` (whose code was measured), `date`, `machine`, `columns` and `rows`. A column has
    a `name`, and may have a `format` for its numbers. A row has a value for each column: a number, a list of numbers
    for one format, a text, or null. `note` says what is not like the rest. Raises ThawError if the file is not so.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ThawError(f"{path} is missing: a page names its table") from None
    except ValueError as error:
        raise ThawError(f"{path} is not valid JSON: {error}") from None
    if absent := [key for key in KEYS if key not in results]:
        raise ThawError(f"{path}: {', '.join(absent)} is missing")
    width = len(results["columns"])
    if wrong := [row for row in results["rows"] if len(row) != width]:
        raise ThawError(f"{path}: the row {wrong[0][0]!r} has {len(wrong[0])} values, and there are {width} columns")
    return results


def table(results: Mapping) -> str:
    """Return results as a Markdown table, and a line that says where, when and how they were measured."""
    note = f" {results['note']}" if "note" in results else ""
    source = (
        f"Measured at `{results['commit']}` on {results['date']}, {results['machine']}: `{results['command']}`.{note}"
    )
    return f"{grid(results['columns'], results['rows'])}\n\n*{source}*"


def grid(columns: Sequence[Mapping], rows: Sequence[Sequence]) -> str:
    """Return the table alone, without where it is from."""
    lines = [_row(column["name"] for column in columns), _row("---" for _ in columns)]
    lines += [_row(_cell(value, column) for value, column in zip(row, columns, strict=True)) for row in rows]
    return "\n".join(lines)


def fill(page: str, folder: Path) -> str:
    """Return a page with the tables of `folder` between its marks. Raises ThawError if one is missing."""

    def filled(marks: re.Match) -> str:
        name = marks[1]
        return f"<!-- results: {name} -->\n{table(read(folder / f'{name}.json'))}\n<!-- end -->"

    return MARKS.sub(filled, page)


def names(page: str) -> list[str]:
    """Return the names of the tables that a page shows."""
    return [marks[1] for marks in MARKS.finditer(page)]


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object, column: Mapping) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    values = value if isinstance(value, list) else [value]
    text = re.sub(r"e-0(?=\d)", "e-", column.get("format", "{}").format(*values))
    return re.sub(r"(?<=\d) (?=[%A-Za-z])", NO_BREAK, text)
