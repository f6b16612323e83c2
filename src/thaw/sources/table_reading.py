"""A table that a person made, read as text: CSV as spreadsheets write it, Parquet, or JSON lines.

The file is read once, as a whole: what is written to it afterwards has no effect.
"""

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thaw.core.encodings import seen
from thaw.core.errors import ThawError
from thaw.sources.own_files import is_folder, raise_if_lost

FOR_EXCEL = re.compile(r"\ufeff?sep=(.)\s*$", re.IGNORECASE)  # such a first line says how the others are separated
BEGINNINGS = {  # what files of other kinds begin with, whatever their names end with
    b"PK\x03\x04": "is a zip archive or a workbook of a spreadsheet: unpack it, or save its sheet as CSV (UTF-8)",
    b"\x1f\x8b": "is compressed: unpack it first",
    b"\xff\xfe": "is UTF-16: save it as CSV in UTF-8",
    b"\xfe\xff": "is UTF-16: save it as CSV in UTF-8",
}


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        columns: the values of each column, without white space around them, "" where there is none; None if the column
            holds lists, records or bytes.
        lines: where each row is in the file.
        place: what `lines` counts: `line` or `row`.
    """

    columns: dict[str, list[str] | None]
    lines: list[int]
    place: str = "line"


def read(path: Path, name: str) -> Table:
    """Read a table; errors call it `name`.

    Raises ThawError, one line, if the file is missing, of no known kind, damaged, not UTF-8, or has no row;
    UnreachableError if its disk or share fails.
    """
    ending = path.suffix.lower()
    if is_folder(path):
        raise ThawError(f"{name} is a folder, not a table: set download.source: folder for photographs in folders")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise_if_lost(error, path)
        tried = "" if name.endswith(f" {path}") else f" ({path})"
        raise ThawError(f"{name} cannot be read: {error.strerror}{tried}") from None
    if not content.strip():
        raise ThawError(f"{name} is empty")
    for beginning, problem in BEGINNINGS.items():
        if content.startswith(beginning):
            raise ThawError(f"{name} {problem}")
    if ending not in READERS:
        raise ThawError(f"{name} is not a table by its ending, which should be one of {', '.join(READERS)}")
    table = READERS[ending](content, name)
    if not table.lines:
        raise ThawError(f"{name} has no row{' below its column names' if ending not in ('.jsonl', '.ndjson') else ''}")
    return table


def _read_csv(content: bytes, name: str) -> Table:
    text = _text(content, name)
    rows, lines, for_excel = [], [], FOR_EXCEL.match(_first_line(text))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text), strict=True)
    try:
        for row in reader:
            if not any(value.strip() for value in row):
                continue
            if for_excel:  # the first line says what separates the values
                for_excel = None
            else:
                rows.append([value.strip() for value in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ThawError(f"{name} is not a readable CSV table: line {reader.line_num}: {error}") from None
    if not rows:
        raise ThawError(f"{name} has no column names")
    header = rows[0] = [seen(name).strip() for name in rows[0]]  # spreadsheets leave marks of byte order there
    for row, line in zip(rows, lines, strict=True):
        if any(row[len(header) :]):
            raise ThawError(
                f"{name}: line {line} has {len(row)} values, the first line names {len(header)} columns: "
                "values with a comma need quotation marks"
            )
        row += [""] * (len(header) - len(row))
    if repeated := [column for column in header if column and header.count(column) > 1]:
        raise ThawError(f"{name} has two columns {repeated[0]!r}")
    return Table({column: [row[i] for row in rows[1:]] for i, column in enumerate(header)}, lines[1:])


def delimiter(text: str) -> str:
    """Return what separates the values of CSV: comma, semicolon or tab, whichever its first line has most of."""
    first = _first_line(text)
    for_excel = FOR_EXCEL.match(first)
    return for_excel[1] if for_excel else max(",;\t", key=first.count)


def _first_line(text: str) -> str:
    return text.lstrip().partition("\n")[0]


def _read_json_lines(content: bytes, name: str) -> Table:
    records, lines = [], []
    for line, text in enumerate(_text(content, name).split("\n"), start=1):
        if text.strip():
            try:
                record = json.loads(text)
            except ValueError as error:
                raise ThawError(f"{name}: line {line} is not JSON: {error}") from None
            if not isinstance(record, dict):
                raise ThawError(f'{name}: line {line} is not an object such as {{"path": …, "label": …}}')
            if any(not _is_whole(value) for pair in record.items() for value in pair):
                raise ThawError(f"{name}: line {line} has half a character (a lone surrogate): write it anew")
            if len({key.strip() for key in record}) < len(record):
                raise ThawError(f"{name}: line {line} has two names that differ in spaces alone: {', '.join(record)}")
            records.append({key.strip(): value for key, value in record.items()})
            lines.append(line)
    columns = {}
    for key in dict.fromkeys(key for record in records for key in record):
        values = [record.get(key) for record in records]
        nested = any(isinstance(value, dict | list) for value in values)
        columns[key] = None if nested else [as_text(value) for value in values]
    return Table(columns, lines)


def _is_whole(value: object) -> bool:
    """Return whether a value is no text, or one that a path can have: JSON can name halves of characters."""
    try:
        return not isinstance(value, str) or bool(os.fsencode(value)) or not value
    except UnicodeEncodeError:
        return False


def as_text(value: str | float | bool | None) -> str:
    """Return a value as a table has it, "" for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _read_parquet(content: bytes, name: str) -> Table:
    import polars as pl

    try:
        schema = pl.read_parquet_schema(io.BytesIO(content))
        no_text = (pl.Binary, pl.Duration, pl.Object)
        plain = [key for key, kind in schema.items() if not (kind.is_nested() or kind in no_text)]
        frame = pl.read_parquet(io.BytesIO(content), columns=plain)
        floats = pl.selectors.float()
        frame = frame.with_columns(floats.fill_nan(None)).select(pl.all().cast(pl.String).str.strip_chars())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ThawError(f"{name} is not a readable Parquet table ({str(error).splitlines()[0]})") from None
    columns = dict.fromkeys(schema) | {key: frame[key].fill_null("").to_list() for key in plain}
    return Table(columns, list(range(1, len(frame) + 1)), "row")


def _text(content: bytes, name: str) -> str:
    """Decode UTF-8, with or without a byte order mark."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ThawError(f"{name} is not UTF-8 (line {line}): save it in UTF-8") from None
    if "\0" in text:
        raise ThawError(f"{name} is not text: it holds zero bytes")
    return text


READERS: dict[str, Callable[[bytes, str], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
