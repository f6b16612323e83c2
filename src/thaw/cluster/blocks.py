"""Rows that machines have computed, in the store: a block of some megabytes holds rows, and the key of each.

A block has the digest of its content at its end. Its name is made from its keys and their number.
"""

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from thaw.cluster.shared_store import Store
from thaw.core.errors import ThawError
from thaw.core.kept_rows import KEY_BYTES, find_keys

MAGIC = b"thaw\0\0\1\1"
DIGEST_BYTES = 32
THREADS = 16  # that read the keys of blocks: each waits for a server most of the time
OPEN_BYTES = 2**28  # of blocks in memory while rows are read: rows of many runs stand in many blocks


def pack(keys: np.ndarray, rows: np.ndarray) -> tuple[str, bytes]:
    """Return the name and the content of a block with rows (n, ...), whose keys are (n, KEY_BYTES) uint8."""
    content = b"".join((MAGIC, keys.tobytes(), rows.tobytes()))
    name = f"{hashlib.blake2b(keys.tobytes(), digest_size=16).hexdigest()}-{len(keys)}"
    return name, content + _digest(content)


class Blocks:
    """The blocks of one kind of rows.

    Args:
        store: where they are.
        folder: in the store.
        shape: of a row.
        dtype: of a row.
    """

    def __init__(self, store: Store, folder: str, shape: tuple[int, ...], dtype: np.dtype):
        self._store, self._folder, self._shape, self._dtype = store, folder, shape, dtype
        self._row_bytes = int(np.prod(shape)) * dtype.itemsize
        self._keys: dict[str, np.ndarray] = {}  # of each block, by its name
        self._names: list[str] = []  # to which `find` refers
        self._open: OrderedDict[str, np.ndarray] = OrderedDict()  # rows of the blocks used last

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return where the rows of these keys (n, KEY_BYTES) uint8 are: (n, 2) int, -1 where there is none."""
        self._names = self._store.names(self._folder)
        new = [name for name in self._names if name not in self._keys]
        with ThreadPoolExecutor(THREADS) as pool:
            self._keys |= dict(zip(new, pool.map(self._read_keys, new), strict=True))
        found = np.full((len(keys), 2), -1)
        of_blocks = [self._keys[name] for name in self._names]
        kept = np.concatenate([np.empty((0, KEY_BYTES), np.uint8), *of_blocks])
        if not len(kept) or not len(keys):
            return found
        counts = [len(block) for block in of_blocks]
        places = np.stack(
            [np.repeat(np.arange(len(counts)), counts), np.concatenate([*map(np.arange, counts)])], axis=1
        )
        at = find_keys(keys, kept)
        found[at >= 0] = places[at[at >= 0]]
        return found

    def read(self, places: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the rows at these places, as `find` returns them, in their order, some at a time.

        Raises ThawError if a block is damaged; it is removed.
        """
        breaks = np.flatnonzero(np.diff(places[:, 0])) + 1
        for start, end in itertools.pairwise([0, *breaks.tolist(), len(places)]):
            yield self._rows(self._names[places[start, 0]])[places[start:end, 1]]

    def _rows(self, name: str) -> np.ndarray:
        if name not in self._open:
            content, count = self._store.read(f"{self._folder}/{name}"), len(self._keys[name])
            start = len(MAGIC) + count * KEY_BYTES
            end = start + count * self._row_bytes
            if content[end:] != _digest(content[:end]):
                self._store.remove(f"{self._folder}/{name}")
                raise ThawError(
                    f"{self._store.address}/{self._folder}/{name} was damaged and is removed: run again, and its rows "
                    "are computed again"
                )
            rows = np.frombuffer(content, self._dtype, count * self._row_bytes // self._dtype.itemsize, start)
            self._open[name] = rows.reshape(count, *self._shape)
            while len(self._open) > 1 and sum(block.nbytes for block in self._open.values()) > OPEN_BYTES:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return self._open[name]

    def _read_keys(self, name: str) -> np.ndarray:
        """Return the keys of a block; none if it is of another make."""
        count = int(name.rpartition("-")[2]) if name.rpartition("-")[2].isdecimal() else 0
        start = self._store.read(f"{self._folder}/{name}", 0, len(MAGIC) + count * KEY_BYTES)
        keys = start[len(MAGIC) :]
        if not start.startswith(MAGIC) or not count or len(keys) != count * KEY_BYTES:
            return np.empty((0, KEY_BYTES), np.uint8)
        return np.frombuffer(keys, np.uint8).reshape(count, KEY_BYTES)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
