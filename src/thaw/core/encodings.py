"""What a script reads does not depend on the locale or on who started it, and any name can be printed."""

import io
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

from thaw.core import kernels

# Of these characters nothing is seen, though Unicode does not count all of them as formats: fillers of Hangul,
# selectors of a variant, an empty pattern of Braille.
UNSEEN = {*map(chr, range(0xFE00, 0xFE10)), *"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"}
SEEN_FORMATS = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")  # of Arabic and Syriac
REORDERING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # turn around what follows on a line
# What changes how Persian, Hindi and emoji look, between their characters alone; and the tags that make a flag.
JOINED = re.compile(
    "(?<=[\u0590-\U0010ffff])[\u200c\u200d](?=[\u0590-\U0010ffff])"
    "|(?<=[\u0590-\U0010ffff])[\ufe0e\ufe0f]|[\ufe0e\ufe0f](?=\u20e3)"
    "|(?<=\U0001f3f4)[\U000e0020-\U000e007f]+"
)


def use_utf8_for_names() -> None:
    """Start this script again in Python's UTF-8 mode, under the same process id, where the locale has another encoding.

    In such a locale Python could open no file with an accent that a table or params.yaml names, and a class would have
    another name than on the next machine. What is printed keeps the encoding of the terminal.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.environ.update(kernels.CHOICE.replaced)  # it says so itself
    os.execv(sys.executable, sys.orig_argv)


def open_closed_streams() -> None:
    """Give a script that was started without a standard stream (`>&-`) an empty one: what it prints there is lost."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - open to the end


def escape_what_cannot_be_shown() -> None:
    """Print a character that the terminal, or the encoding of a redirected output, does not have as `\\xe9`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def shown(name: Path | str) -> str:
    """Return a name as text of one line that a terminal shows in its order.

    What is not UTF-8, moves the cursor, turns a line around or cannot be seen is escaped, such as `\\u202e`.
    """
    escaped = (
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c
        for c in _without_unseen(printable(name), lambda c: c.encode("unicode_escape").decode())
    )
    return "".join(escaped)


def seen(name: str) -> str:
    """Return a name without the characters that nobody sees."""
    return _without_unseen(name, lambda _: "")


def printable(path: Path | str) -> str:
    """Return a path as text that can be printed anywhere: names may contain any bytes."""
    try:
        raw = os.fspath(path).encode(errors="surrogateescape")
    except UnicodeEncodeError:  # JSON can hold surrogates that no name of a file has
        raw = os.fspath(path).encode(errors="backslashreplace")
    return raw.decode(errors="backslashreplace")


def _without_unseen(text: str, replace: Callable[[str], str]) -> str:
    if text.isprintable() and UNSEEN.isdisjoint(text):
        return text
    joined = {i for match in JOINED.finditer(text) for i in range(*match.span())}
    return "".join(replace(c) if i not in joined and _is_unseen(c) else c for i, c in enumerate(text))


def _is_unseen(character: str) -> bool:
    is_format = unicodedata.category(character) == "Cf" and character not in SEEN_FORMATS
    return is_format or character in UNSEEN
