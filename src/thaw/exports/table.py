"""The table that `export.py` prints: a row for the Keras model and for each export."""

from collections.abc import Sequence
from pathlib import Path

from thaw.core.words import plural
from thaw.exports.base import Format
from thaw.exports.check_images import CheckImages


def print_row(name: str, file: str, size: str, difference: str, rate: str) -> None:
    """Print one row at once: the next export may take a minute.

    Args:
        name: The format.
        file: Its file or folder.
        size: In MB.
        difference: The largest one of a probability from Keras'.
        rate: Images per second.
    """
    print(f"{name:15} {file:22} {size:>6} {difference:>11} {rate:>9}", flush=True)


def megabytes(path: Path) -> str:
    """Return the size of a file, or of all files of a folder, to a tenth of a MB."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f}"


def checked_on(formats: Sequence[Format], images: CheckImages) -> str:
    """Return on how many photographs the formats are checked, and which formats are checked on more."""
    counts = {export_format.name: images.count(export_format) for export_format in formats}
    fewest = min(counts.values())
    others = [f"{name} on {count:,}" for name, count in counts.items() if count != fewest]
    return plural(fewest, "photograph") + (f" ({', '.join(others)})" if others else "")
