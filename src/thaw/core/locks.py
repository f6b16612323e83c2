"""Locks between processes. The system releases them however a process ends, even if it is killed."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path, waiting: str = "") -> Iterator[None]:
    """Let one process at a time go on: a second one prints the line `waiting`, if there is one, and waits.

    Where the file system has no locks, as on some network shares, both go on.

    Args:
        path: a file or folder, which stays as it is.
        waiting: for the person who waits.

    Raises OSError if `path` cannot be opened.
    """
    can_write = path.is_file() and os.access(path, os.W_OK)
    file = os.open(path, os.O_RDWR if can_write else os.O_RDONLY)  # NFS locks only what is open for writing
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    print(waiting, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
