"""Errors written for the person who reads them, and how a script ends with one."""

import difflib
import errno
import sys
from collections.abc import Callable, Iterable
from pathlib import Path


class ThawError(Exception):
    """A mistake that the person can mend: its message is one line that says what is wrong, where, and how."""


def missing(path: Path) -> ThawError:
    """Return the error that an artifact is not there, as in a clone that has pulled nothing yet."""
    return ThawError(f"{path} is missing: run `dvc repro`, or `dvc pull` where a teammate pushed it")


def nearest(name: str, valid: Iterable[str], count: int = 5) -> str:
    """Return ` (did you mean …?)` with the valid names nearest to `name`, or with the first ones where none is."""
    names = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), names, n=count, cutoff=0.5)
    return f" (did you mean {', '.join(close)}?)" if close else f" (valid: {', '.join(names[:30])})"


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`: a person's mistake and a full disk end it with one line and exit status 1."""
    try:
        main()
    except ThawError as error:
        sys.exit(f"thaw: {' '.join(str(error).split())}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        file = error.filename2 or error.filename  # of a copy, the second is the one that is written
        where = f": {file}" if file else ""
        sys.exit(f"thaw: cannot write{where}: {error.strerror}; nothing half-written was kept, run again once mended")
    except KeyboardInterrupt:
        sys.exit("thaw: interrupted; the next run starts this stage again")
