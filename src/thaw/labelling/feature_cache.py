"""Features and thumbnails of photographs, kept from one use to the next under the hash of what their files hold.

A file that was renamed, copied or moved is not read by the network again. The features are those of one network, and
of one way to make its input: both are in the key, which names the file of the cache.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thaw.core import hashes, kernels
from thaw.core.errors import ThawError
from thaw.splitting.thumbnails import THUMBNAIL

MAX_KEPT = 4  # networks whose features are kept: those that were used last
MAX_IMAGES = 200_000  # of each network: 1.5 GB with 1,280 channels. Those that were added first go first
SOURCE = Path(__file__).parents[1]
MAKERS = (  # below SOURCE: the modules that decide the bytes
    "core/arrays.py",
    "core/store.py",
    "engines/inference.py",
    "engines/openvino_setup.py",
    "images",
    "labelling/candidates.py",
    "splitting/thumbnails.py",
)
LIBRARIES = ("openvino", "numpy", "opencv-python-headless", "pillow")
BUSY_S = 60  # that a process waits for another one that writes
BLOCK_HASHES = 500  # of a query


class Entry(NamedTuple):
    """What is kept of a photograph."""

    features: np.ndarray  # (channels,) float16
    thumbnail: np.ndarray  # () of THUMBNAIL


def key(network: Sequence[Path], settings: str) -> str:
    """Return a hash of all that decides the features: the files of the network, settings, code and libraries."""
    digest = hashlib.sha256(f"{settings} {kernels.CHOICE.baseline}".encode())
    for name in MAKERS:
        path = SOURCE / name
        for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(module.read_bytes())
    for name in LIBRARIES:
        digest.update(f"{name}=={importlib.metadata.version(name)}\n".encode())
    for path in network:
        digest.update(hashes.sha256(path).encode())
    return digest.hexdigest()


class FeatureCache:
    """Entries by the SHA-256 of a file. What cannot be kept on the disk is kept until the process ends.

    Args:
        folder: of the caches of all networks.
        key: of this network, see `key`.
    """

    def __init__(self, folder: Path, key: str):
        self._path = folder / f"{key}.sqlite"
        self._new: dict[str, Entry] = {}
        self.error = ""  # why nothing is kept on the disk
        self.hashes: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                os.utime(self._path)
            self.hashes = self._open()
            _remove_unused(folder)
        except (OSError, sqlite3.Error) as error:
            self.error = str(error)
        self._is_readable = not self.error

    def add(self, entries: dict[str, Entry]) -> None:
        """Keep entries; they replace those of the same hashes."""
        rows = [(sha, entry.features.tobytes(), entry.thumbnail.tobytes()) for sha, entry in entries.items()]
        if not self.error:
            try:
                with contextlib.closing(self._connect()) as connection, connection:
                    connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)
            except (OSError, sqlite3.Error) as error:  # the disk is full, or can only be read
                self.error = str(error)
        if self.error:
            self._new |= entries
        self.hashes |= entries.keys()

    def get(self, hashes: Iterable[str]) -> dict[str, Entry]:
        """Return the entries of these hashes, as far as there are any."""
        wanted = sorted(set(hashes))
        found = {sha: self._new[sha] for sha in wanted if sha in self._new}
        if not self._is_readable:
            return found
        for start in range(0, len(wanted), BLOCK_HASHES):
            block = wanted[start : start + BLOCK_HASHES]
            query = f"SELECT * FROM entries WHERE sha256 IN ({','.join('?' * len(block))})"
            try:
                rows = self._query(query, block)
            except (OSError, sqlite3.Error) as error:
                raise ThawError(f"{self._path} cannot be read ({error}): delete it; it is computed again") from None
            for sha, features, thumbnail in rows:
                found[sha] = Entry(np.frombuffer(features, np.float16), np.frombuffer(thumbnail, THUMBNAIL)[0])
        return found

    def _open(self) -> set[str]:
        """Make the table, or shorten it; return the hashes of its entries."""
        try:
            return self._shorten()
        except sqlite3.DatabaseError as error:
            if "locked" in str(error) or "unable to open" in str(error) or "readonly" in str(error):
                raise
            self._path.unlink()  # it is damaged, and can be computed again
            return self._shorten()

    def _shorten(self) -> set[str]:
        self._query("CREATE TABLE IF NOT EXISTS entries (sha256 TEXT PRIMARY KEY, features BLOB, thumbnail BLOB)")
        newest = "SELECT rowid FROM entries ORDER BY rowid DESC LIMIT ?"  # here: what this process adds, it needs
        self._query(f"DELETE FROM entries WHERE rowid NOT IN ({newest})", [MAX_IMAGES])
        return {sha for (sha,) in self._query("SELECT sha256 FROM entries")}

    def _query(self, query: str, values: Sequence[str | int] = ()) -> list[tuple]:
        with contextlib.closing(self._connect()) as connection, connection:
            return connection.execute(query, values).fetchall()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=BUSY_S)


def _remove_unused(folder: Path) -> None:
    """Remove all caches but the MAX_KEPT that were used last."""
    files = sorted(folder.glob("[0-9a-f]" * 64 + ".sqlite"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-MAX_KEPT]:
        path.unlink(missing_ok=True)
