"""Words of messages."""


def plural(count: int, noun: str) -> str:
    """Return a number with a noun in its number: `1 class`, `1,200 classes`."""
    return f"{count:,} {noun if count == 1 else nouns(noun)}"


def nouns(noun: str) -> str:
    """Return the plural of a noun: `classes`."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"
