"""Files and folders that are whole or absent: written under a temporary name beside their place, then renamed."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path


def partial(path: Path) -> Path:
    """Return the temporary name beside `path`; it is one name, so that the next run clears what a kill left."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it takes the place of `path` only if the block ends without error."""
    temporary = partial(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it takes the place of `path` only if the block ends without error."""
    temporary = partial(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        old = path.with_name(f".{path.name}.old.partial")
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
