"""Errors written for the person who reads them, and how a script starts and ends."""

import argparse
import contextlib
import difflib
import errno
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from thaw.core import encodings, kernels, locks, progress

LIBRARIES = ("PIL", "cv2", "keras", "numpy", "openvino", "polars", "scipy", "sklearn", "tensorflow")
NO_ACCESS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
BROKEN_PIPE = 128 + 13  # the exit status that a shell gives a program which SIGPIPE has ended
NO_NAME = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)  # a file where a folder should be, or so


class ThawError(Exception):
    """A mistake that the person can correct: its message is one line that says what is wrong, where, and what to do."""


def missing(path: Path) -> ThawError:
    """Return the error for an artifact that is not there, as in a new clone before `dvc pull`."""
    return ThawError(f"{path} is missing: run `dvc repro`, or `dvc pull` where a teammate pushed it")


def did_you_mean(name: str, valid: Iterable[str], similarity: float = 0.5) -> str:
    """Return ` (did you mean …?)` with the valid names most similar to `name`, or ` (valid: …)` if none is similar."""
    names = [str(v) for v in valid]
    similar = difflib.get_close_matches(str(name), names, n=5, cutoff=similarity)
    return f" (did you mean {', '.join(similar)}?)" if similar else f" (valid: {', '.join(names[:30])})"


def run(main: Callable[[], None], stage: str = "") -> None:
    """Run a script's `main`. A person's mistake, or a full disk, ends it with one line and exit status 1.

    It exits silently when stdout is closed early (`| head`), with BROKEN_PIPE. If DVC started the script, it runs as a
    stage: see `_as_stage`. Names may hold any character, whatever the terminal shows: see `encodings`. `stage` is the
    docstring of a stage that takes no options: `--help` prints it, and any other argument is a mistake.
    """
    if stage:
        _take_no_options(stage)
    encodings.use_utf8_for_names()
    encodings.open_closed_streams()
    encodings.escape_what_cannot_be_shown()
    kernels.say(*kernels.notes(kernels.CHOICE), *_replaced_packages())
    if kernels.CHOICE.late:  # a plug-in of Python imported a library before this script
        kernels.start_again()
    try:
        if "DVC_STAGE" in os.environ:
            stage = os.environ["DVC_STAGE"]
            with _as_stage(stage), progress.lines(stage):
                main()
                print(end="", flush=True)
                os._exit(0)  # everything is written; an orderly end of TensorFlow would take a second
        main()
    except ThawError as error:
        sys.exit(f"thaw: {encodings.shown(' '.join(str(error).split()))}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more at its exit
        sys.exit(BROKEN_PIPE)  # what the script had still to do is not done
    except OSError as error:
        if error.errno not in (*NO_ACCESS, *NO_NAME):
            raise
        file = error.filename2 or error.filename  # if two files are named, the second is the target of a copy
        file = os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else ""  # it may be an open one
        where = f": {encodings.shown(file)}" if file else ""
        unreadable = os.path.isfile(file) and not os.access(file, os.R_OK)  # noqa: PTH113 - Path's may raise
        verb = "read" if unreadable else "use" if error.errno in NO_NAME else "write"
        sys.exit(
            f"thaw: cannot {verb}{where}: {error.strerror}; no incomplete output was kept: correct this and run again"
        )
    except KeyboardInterrupt:
        then = "the next run starts this stage again" if stage else "no incomplete output was kept"
        sys.exit(f"thaw: interrupted; {then}")


def _replaced_packages() -> Iterator[str]:
    """Yield a line for each folder of PYTHONPATH whose packages stand in the place of those of this environment.

    It does not name the folder: `src/doctor.py` prints no path.
    """
    own = Path(sysconfig.get_path("purelib"))
    for folder in map(Path, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))):
        names = [name for name in LIBRARIES if os.path.isfile(folder / name / "__init__.py")]  # noqa: PTH113 - raises
        if names and not (own.exists() and os.path.samefile(folder, own)):  # noqa: PTH121 - likewise
            yield f"PYTHONPATH has another {', '.join(names)}: results may differ; unset PYTHONPATH"


def _take_no_options(docstring: str) -> None:
    example = f"example: dvc repro {Path(sys.argv[0]).stem}"
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=docstring, epilog=example, formatter_class=form).parse_args()


@contextlib.contextmanager
def _as_stage(name: str) -> Iterator[None]:
    """If `dvc` is killed, this stage stops too, within half a second. Two runs of a stage never write at the same time.

    A stage that cannot notice the end of DVC, such as a suspended one, holds a lock: the next run of the stage waits.
    The lock is on the script itself: each working copy has its own.
    """
    ancestors = _ancestors_up_to_dvc(name)
    if os.getsid(ancestors[-1]) != os.getsid(0):  # DVC was killed during the imports: init is the parent now
        os._exit(1)
    threading.Thread(target=_exit_after_dvc, args=(name, ancestors), daemon=True).start()
    script = sys.argv[0]
    with locks.exclusive(
        Path(script), f"{name}: waiting for an earlier run of this stage (`pgrep -f {script}` shows it)"
    ):
        yield


def _ancestors_up_to_dvc(name: str) -> list[int]:
    """Return the ids of the processes above this stage, DVC last.

    DVC starts a stage through a shell. Bash replaces itself by the command; other shells stay between.
    """
    import psutil  # only stages need it

    parent = os.getppid()
    with contextlib.suppress(psutil.Error):  # it has just ended, or belongs to another user
        process = psutil.Process(parent)
        if process.environ().get("DVC_STAGE") == name:
            return [parent, process.ppid()]
    return [parent]


def _exit_after_dvc(name: str, ancestors: list[int]) -> None:
    while _ancestors_up_to_dvc(name) == ancestors:
        time.sleep(0.5)
    os._exit(1)  # as if killed: the next run removes what is incomplete
