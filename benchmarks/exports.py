"""Measure the exported files of the run: their sizes, and how far their probabilities are from those of Keras.

`src/export.py --format all` writes them into a temporary folder; the figures are those that it prints. The rates, of
one photograph at a time, need a machine that does nothing else: `--without-rates` leaves them out of the table. Needs a
finished `dvc repro`.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

import clones
import results

from thaw.core.errors import run
from thaw.exports.registry import FORMATS

ROW = re.compile(r"^(?P<format>[\w-]+) +\S+ +(?P<size>[\d.]+) +(?P<difference>[\d.]+e[+-]\d+)? +(?P<rate>\d+)$")
NAMES = {"keras": "`model.keras` itself"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-rates", action="store_true", help="no images/s: for a machine that is busy")
    without_rates = parser.parse_args().without_rates
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, "src/export.py", "--format", "all", "--output", str(Path(folder) / "exports"))
        printed = clones.run(Path(), *command)
    print(printed)
    columns = ["format", ("size", "{:.1f} MB"), ("largest difference of a probability", "{:.0e}")]
    if not without_rates:
        columns.append(("images/s, one at a time", "{:.0f}"))
    results.write("exports", columns, [row[: len(columns)] for row in rows(printed)], note(printed))


def rows(printed: str) -> list[list]:
    """Return a row for each line of the table: format, size in MB, difference and images/s."""
    found = [line for line in map(ROW.match, printed.splitlines()) if line]
    names = NAMES | {name: f"`{name}`" for name in FORMATS}
    return [
        [
            names[line["format"]],
            float(line["size"]),
            line["difference"] and float(line["difference"]),
            int(line["rate"]),
        ]
        for line in found
    ]


def note(printed: str) -> str:
    """Return on how many photographs the files were checked, and what is said of 8 bits."""
    checked_on = re.search(r"checked on (.+?); the largest", printed)[1]
    about = re.findall(r"^([\w-]+): (.+)$", printed, re.MULTILINE)
    sentences = [f"`{name}`: {text.rstrip('.')}." for name, text in about if name in FORMATS]
    return " ".join([f"Checked on {checked_on}.", *sentences])


if __name__ == "__main__":
    run(main)
