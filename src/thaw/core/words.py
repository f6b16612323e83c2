"""Words of messages."""

from collections.abc import Sequence

MAX_LISTED = 4  # names in a message


def plural(count: int, noun: str) -> str:
    """Return a number with a noun in its number: `1 class`, `1,200 classes`."""
    return f"{count:,} {noun if count == 1 else nouns(noun)}"


def nouns(noun: str) -> str:
    """Return the plural of a noun: `classes`."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def listed(names: Sequence[str], most: int = MAX_LISTED) -> str:
    """Return names in a row, at most so many: `a, b and 3 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
