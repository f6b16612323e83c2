"""Files and folders that are whole or absent: written under a temporary name beside their place, then renamed."""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from thaw.errors import ThawError, missing


def below_home(path: str, name: str) -> Path:
    """Return a path in which `~` is a home; raises ThawError, calling it `name`, where nobody is called that."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ThawError(f"{name} {path}: there is no such home") from None


def read_json(path: Path) -> dict | list:
    """Return what a JSON file among the artifacts holds; raises ThawError where it is missing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None


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


FICLONE = 0x40049409  # Linux' request to share a file's blocks (ioctl_ficlone(2))


def clone(source: Path, target: Path) -> None:
    """Copy a file's bytes, sharing its blocks where the file system can (Btrfs, XFS), as DVC does by default.

    The target is a file of its own: writing to one never changes the other, and a read-only source makes no
    read-only target.
    """
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new, FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
