"""Errors written for the person who reads them, and how a script runs and ends."""

import contextlib
import difflib
import errno
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
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
    """Run a script's `main`: a person's mistake and a full disk end it with one line and exit status 1.

    A reader of its output that has seen enough, such as `head`, ends it without a word. A stage that DVC started runs
    alone in its working copy, and ends when DVC does: see `_as_stage`.
    """
    try:
        if "DVC_STAGE" in os.environ:
            with _as_stage(os.environ["DVC_STAGE"]):
                main()
                sys.stdout.flush()
                os._exit(0)  # all is written; to take TensorFlow down in order would take a second
        main()
    except ThawError as error:
        sys.exit(f"thaw: {' '.join(str(error).split())}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the exit
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        file = error.filename2 or error.filename  # of a copy, the second is the one that is written
        where = f": {file}" if file else ""
        closed = os.path.isfile(file or "") and not os.access(file, os.R_OK)  # noqa: PTH113 - Path's may raise, too
        verb = "read" if closed else "write"
        sys.exit(f"thaw: cannot {verb}{where}: {error.strerror}; nothing half-written was kept, run again once mended")
    except KeyboardInterrupt:
        sys.exit("thaw: interrupted; the next run starts this stage again")


@contextlib.contextmanager
def _as_stage(name: str) -> Iterator[None]:
    """Keep a stage that outlives a killed `dvc` from writing beside, or after, that of the next `dvc repro`.

    It ends within half a second of DVC, since nothing would record what it writes. Where it does not notice (while it
    is stopped, or below a shell and without /proc), the next one waits for it. The lock is on the script itself: it
    needs no file of its own, each working copy has one, and the system releases it whatever ends the stage.
    """
    above = _up_to_dvc(name)
    if os.getsid(above[-1]) != os.getsid(0):  # DVC was killed during the imports: init has taken its place
        os._exit(1)
    threading.Thread(target=_end_with, args=(name, above), daemon=True).start()
    with Path(sys.argv[0]).open("rb") as script:
        try:
            fcntl.flock(script, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{name}: waiting for an earlier run of this stage (`pgrep -f {sys.argv[0]}` shows it)", flush=True)
            fcntl.flock(script, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, as some of a network are
            pass
        yield


def _up_to_dvc(name: str) -> list[int]:
    """Return the processes above this stage, DVC last: bash gives way to the command, other shells stay between."""
    parent = os.getppid()
    process = Path(f"/proc/{parent}")
    try:
        if f"DVC_STAGE={name}\0".encode() in (process / "environ").read_bytes():
            return [parent, int((process / "stat").read_text().rpartition(")")[2].split()[1])]
    except OSError:  # no Linux, or it has just ended
        pass
    return [parent]


def _end_with(name: str, above: list[int]) -> None:
    while _up_to_dvc(name) == above:
        time.sleep(0.5)
    os._exit(1)  # as a kill does: whatever is half-written, the next run clears
