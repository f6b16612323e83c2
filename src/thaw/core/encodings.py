"""What a script reads does not depend on the locale or on who started it, and any name can be printed."""

import io
import os
import sys


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
