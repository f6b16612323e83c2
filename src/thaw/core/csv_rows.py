"""Tables that are written row by row, as CSV that every reader takes apart as it was put together."""

import csv
from collections.abc import Callable, Sequence
from typing import TextIO


def row_writer(file: TextIO, delimiter: str = ",") -> Callable[[Sequence[object]], None]:
    """Return a function that writes a row. Python 3.11 would not quote a carriage return, which ends a row, too."""
    usual, quoting = (
        csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=how)
        for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )

    def write(row: Sequence[object]) -> None:
        (quoting if any("\r" in str(value) for value in row) else usual).writerow(row)

    return write
