"""What was computed once, kept in a folder that all clones on this machine share.

The cache never changes a result: without it, or where an entry is damaged, the same is computed again. An entry is
whole or absent. The environment says where the folder is, and how large it may become.
"""

import contextlib
import os
import re
import shutil
import struct
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from thaw.core.errors import ThawError
from thaw.core.paths import named_path

FOLDER, LIMIT = "THAW_CACHE", "THAW_CACHE_LIMIT"  # environment variables
DEFAULT_FOLDER, DEFAULT_LIMIT = "~/.cache/thaw", "20GB"
KINDS = ("pixels", "outputs")  # folders of entries
SUFFIX = ".thaw"  # of their files: other files are not of this cache, and stay
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
HEADER = struct.Struct("<8sQI")  # MAGIC; bytes of the content; their CRC-32
MAGIC = b"thaw\0\0\0\1"
# An entry that was used this recently stays where room is needed. Otherwise photographs that do not all fit would
# push one another out, and each would be gone before it is wanted again.
RECENT = 24 * 3600.0  # seconds
MIN_AGE_OF_USE = 3600.0  # seconds after which a use is noted again: noting each would cost a write
RECOUNT = 10**9  # bytes that are added before the folder is counted again: other runs add to it, too
LEFT_FREE = 10**9  # bytes of the disk that the cache leaves to others, with half of what else it could take
OF_ENTRY = re.compile(rf"[^.]+{re.escape(SUFFIX)}|\.[^.]+{re.escape(SUFFIX)}\..*\.partial")  # a file, or a begun one


class Entry(NamedTuple):
    """A file of the cache."""

    used: float  # when it was last used, in seconds since 1970
    size: int  # bytes on disk
    path: Path


class Cache:
    """Entries by name, such as `pixels/ab/abcd`, in a folder of limited size.

    Its methods may be called in several threads, and by several processes at once. A folder that cannot be written, or
    a full disk, ends the writing with one line for the person; the run goes on.

    Args:
        folder: is made when it is first written to.
        limit: bytes of all entries.
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = folder, limit
        self._lock, self._writable, self._said = threading.Lock(), True, set()
        self._total, self._uncounted = 0, RECOUNT  # bytes of all entries, and of those since they were counted
        self._allowed = 0  # bytes of all entries: the limit, or less on a disk that is nearly full
        self._removable: list[Entry] = []  # those that were not used recently, the last used first

    def get(self, name: str) -> bytes | None:
        """Return the content of an entry; None if there is none, or if it is damaged."""
        try:
            with self._path(name).open("rb") as file:
                header, content = file.read(HEADER.size), file.read()
                self._note_use(file)
        except OSError:
            return None
        if header == _header(content):
            return content
        self.drop_damaged(name)
        return None

    def open(self, name: str) -> BinaryIO | None:
        """Return the file of an entry, at the start of its content, of which the reader checks what it reads."""
        try:
            file = self._path(name).open("rb")
        except OSError:
            return None
        self._note_use(file)
        file.seek(HEADER.size)
        return file

    def put(self, name: str, *content: bytes | memoryview) -> None:
        """Keep an entry, if there is room for it. Its content may come in parts."""
        header = _header(*content)
        size = sum(map(len, (header, *content)))
        with self._lock:
            if not self._writable:
                return
            if not self._make_room(size):
                self._say_full()
                return
            self._total += size
            self._uncounted += size
        path = self._path(name)
        # A name of its own for each writer: two may compute the same at once.
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.writelines((header, *content))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            self._stop(error)

    def entries(self, kind: str = "") -> list[Entry]:
        """Return the entries of one of KINDS, or of a folder in it, or all, by their paths.

        What a killed run left half-written is among them once it is a day old.
        """
        found = []
        for part in (kind,) if kind else KINDS:
            for folder, _, names in os.walk(self.folder / part):
                for name in filter(OF_ENTRY.fullmatch, names):
                    path = Path(folder, name)
                    with contextlib.suppress(OSError):  # another process has removed it
                        status = path.stat()
                        if not name.startswith(".") or status.st_mtime < time.time() - RECENT:
                            found.append(Entry(status.st_mtime, status.st_size, path))
        return sorted(found, key=lambda entry: entry.path)

    def shrink(self, limit: int) -> int:
        """Remove the entries that were not used for longest until all have at most `limit` bytes; return their number.

        Raises OSError if one cannot be removed.
        """
        entries = sorted(self.entries())
        total, removed = sum(entry.size for entry in entries), 0
        for entry in entries:
            if total <= limit:
                break
            entry.path.unlink(missing_ok=True)
            total, removed = total - entry.size, removed + 1
        return removed

    def drop_damaged(self, name: str) -> None:
        """Remove an entry that is damaged, and tell the person of the first."""
        self._say_once("damaged", f"{self._path(name)} is damaged: what such files held is computed again")
        with contextlib.suppress(OSError):  # it may not be ours to remove
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def _make_room(self, size: int) -> bool:
        """Remove old entries until one of `size` bytes fits; return whether it does."""
        if self._uncounted >= RECOUNT:
            self._count()
        while self._total + size > self._allowed and self._removable:
            entry = self._removable.pop()
            with contextlib.suppress(OSError):
                if entry.path.stat().st_mtime == entry.used:  # else it was used since they were counted
                    entry.path.unlink()
                    self._total -= entry.size
        return self._total + size <= self._allowed

    def _count(self) -> None:
        entries = self.entries()
        self._total, self._uncounted = sum(entry.size for entry in entries), 0
        limit = time.time() - RECENT
        self._removable = sorted((entry for entry in entries if entry.used < limit), reverse=True)
        self._allowed = min(self.limit, max(0, self._total + _free(self.folder) - LEFT_FREE) // 2)

    def _stop(self, error: OSError) -> None:
        with self._lock:
            self._writable = False
        self._say_once("off", f"the cache {self.folder} cannot be written, so it keeps nothing more: {error.strerror}")

    def _say_full(self) -> None:
        is_disk = self._allowed < self.limit
        why = "its disk is nearly full" if is_disk else f"its limit is {size_text(self.limit)} ({LIMIT})"
        self._say_once("full", f"the cache {self.folder} is full, {why}: what does not fit is computed again")

    def _say_once(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            say(line)

    def _note_use(self, file: BinaryIO) -> None:
        with contextlib.suppress(OSError):  # a folder that others have filled may not be ours to change
            if os.fstat(file.fileno()).st_mtime < time.time() - MIN_AGE_OF_USE:
                os.utime(file.fileno())


def of_environment() -> Cache | None:
    """Return the cache that the environment names; None if its limit is 0.

    A person without a home has none either, and is told so. Raises ThawError if the limit is no size.
    """
    if not size_of(os.environ.get(LIMIT) or DEFAULT_LIMIT, LIMIT):
        return None
    try:
        return named_cache()
    except ThawError:
        if os.environ.get(FOLDER):
            raise
        say(f"there is no home for {DEFAULT_FOLDER}, so nothing is kept: {FOLDER} names another folder")
        return None


def named_cache() -> Cache:
    """Return the cache that the environment names, also one with a limit of 0.

    Raises ThawError if the limit is no size, or if the folder is in a home that is not there.
    """
    limit = size_of(os.environ.get(LIMIT) or DEFAULT_LIMIT, LIMIT)
    return Cache(named_path(os.environ.get(FOLDER) or DEFAULT_FOLDER, FOLDER), limit)


def size_of(text: str, name: str) -> int:
    """Return the bytes that a text such as `20GB` means; raises ThawError, which calls it `name`, if it means none."""
    found = re.fullmatch(r"([\d.]+)\s*([KMGT]B|)", text.strip().upper())
    try:
        return int(float(found[1]) * UNITS[found[2]])
    except (TypeError, ValueError, OverflowError):
        raise ThawError(f"{name} should be a size such as 500MB or 20GB, or 0 for no cache, not {text!r}") from None


def size_text(size: int) -> str:
    """Return a number of bytes as text, such as `12 MB`."""
    if size < 1e6:
        return f"{size / 1e3:,.0f} kB"
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def say(line: str) -> None:
    """Print a line for the person."""
    print(f"thaw: {line}", file=sys.stderr, flush=True)


def _header(*content: bytes | memoryview) -> bytes:
    check = 0
    for part in content:
        check = zlib.crc32(part, check)
    return HEADER.pack(MAGIC, sum(map(len, content)), check)


def _free(folder: Path) -> int:
    """Return the free bytes of the disk on which the folder is, or will be."""
    folders = (folder, *folder.parents)
    existing = next(path for path in folders if os.path.exists(path))  # noqa: PTH110 - Path's raises where it may not look
    return shutil.disk_usage(existing).free
