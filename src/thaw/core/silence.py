"""Keep what a library prints off the terminal."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def silence(*descriptors: int) -> Iterator[None]:
    """Send file descriptors (1: stdout, 2: stderr) to nowhere, for all that Python and C++ print meanwhile."""
    streams = {1: sys.stdout, 2: sys.stderr}
    saved = {descriptor: os.dup(descriptor) for descriptor in descriptors}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in descriptors:
            streams[descriptor].flush()  # what was printed before is kept
            os.dup2(nowhere, descriptor)
        yield
    finally:
        for descriptor, original in saved.items():
            streams[descriptor].flush()
            os.dup2(original, descriptor)
            os.close(original)
        os.close(nowhere)
