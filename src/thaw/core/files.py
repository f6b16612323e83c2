"""Files and folders that are complete or absent: written under a temporary name beside the final one, then renamed."""

import codecs
import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from thaw.core.errors import ThawError, missing


def read_json(path: Path) -> dict | list:
    """Return the content of an artifact in JSON; raises ThawError if the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError as error:  # such as what Git leaves in a file that two people have changed
        raise ThawError(f"{path} is damaged ({error}): run `dvc repro`") from None


def read_utf8(path: Path) -> str:
    """Return the text of a file that a person may have saved, without a byte order mark; lines end in a line feed.

    Raises FileNotFoundError; ThawError, one line, if it is in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ThawError(f"{path} is in UTF-16: save it in UTF-8") from None
        line = error.object[: error.start].count(b"\n") + 1
        raise ThawError(f"{path} is not in UTF-8 (line {line}): save it in UTF-8") from None


def temporary_path(path: Path) -> Path:
    """Return the temporary name beside `path`: always the same, so that the next run removes what a killed one left."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` only if the block ends without an error."""
    temporary = temporary_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_edit(path: Path) -> Iterator[Path]:
    """As `atomic_file`, for a file of a person: a link to it stays a link, and its permissions stay."""
    file = path.resolve()
    with atomic_file(file) as temporary:
        yield temporary
        if file.exists():
            shutil.copymode(file, temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; it is complete or absent."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object, indent: int | None = 1) -> None:
    """Write a value as JSON in UTF-8, with a line break at its end; the file is complete or absent."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent) + "\n")


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it replaces `path` only if the block ends without an error."""
    with temporary_folder(path) as temporary:
        yield temporary
        _replace(temporary, path)


@contextlib.contextmanager
def atomic_entries(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; if the block ends without an error, what is in it moves into the folder `path`.

    Each file and folder replaces that of the same name. What else is in `path` stays.
    """
    with temporary_folder(path) as temporary:
        yield temporary
        path.mkdir(parents=True, exist_ok=True)
        for entry in sorted(temporary.iterdir()):
            _replace(entry, path / entry.name)


@contextlib.contextmanager
def atomic_files(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; if the block ends without an error, its files move into the folder `path`.

    Each replaces the file of the same name, at any depth. What else is in `path` stays. The files of before go first:
    a run that is killed in between leaves files missing, and no old ones beside new ones.
    """
    check_no_link(path)
    with temporary_folder(path / "new") as temporary:  # inside: the folder may be on a disk of its own
        yield temporary
        names = sorted(file.relative_to(temporary) for file in temporary.rglob("*") if file.is_file())
        for name in names:
            (path / name).unlink(missing_ok=True)
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).replace(path / name)


def check_no_link(path: Path) -> None:
    """Raise ThawError if an output, relative to the project, or a folder that it lies in, is a link.

    DVC keeps no output behind a link, and the stage would replace the link.
    """
    if not path.is_absolute() and (link := next((part for part in (path, *path.parents) if part.is_symlink()), None)):
        raise ThawError(f"{link} is a link, and DVC keeps no output behind one: put a folder in its place")


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder of the temporary name beside `path`; it is removed at the end."""
    temporary = temporary_path(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(new: Path, path: Path) -> None:
    """Give a file or folder the name `path`; what had it is removed."""
    old = path.with_name(f".{path.name}.old.partial")
    shutil.rmtree(old, ignore_errors=True)
    if path.is_dir():
        path.replace(old)
    new.replace(path)
    shutil.rmtree(old, ignore_errors=True)


FICLONE = 0x40049409  # Linux' request to share a file's blocks (ioctl_ficlone(2))


def clone(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks on disk where the file system supports it (Btrfs, XFS), as DVC does by default.

    Source and target stay independent: writing to one never changes the other. The target is always writable.
    """
    with source.open("rb") as original, target.open("wb") as copy:
        try:
            fcntl.ioctl(copy, FICLONE, original.fileno())
        except OSError:
            shutil.copyfileobj(original, copy, 1 << 20)
