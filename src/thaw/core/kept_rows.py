"""Rows of arrays that were computed once, each under a key: what is new alone is computed.

The rows of a run are entries of the cache, of some megabytes each: a file for each row would be slow. A row is found by
its key, whichever run has computed it.
"""

import contextlib
import hashlib
import itertools
import os
import resource
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from thaw.core.cache import HEADER, LIMIT, Cache, say, size_text
from thaw.core.errors import ThawError

KEY_BYTES = 16
SEGMENT_BYTES = 2**26  # of the rows of an entry, in memory until written: what a run that is killed computes again
BLOCK_BYTES = 2**22  # of rows that are read at once
MAX_SEGMENTS = 500  # that are open at a time, those used last; fewer where the system allows few open files
INDEX = struct.Struct("<QQI")  # number of rows; bytes of a row; CRC-32 of the index


class _Segment(NamedTuple):
    name: str
    file: BinaryIO
    keys: np.ndarray  # (rows, KEY_BYTES) uint8
    sums: np.ndarray  # (rows,) uint32, the CRC-32 of each row
    start: int  # of the rows in the file, in bytes


class KeptRows:
    """The rows of one kind that the cache keeps.

    Args:
        cache: where they are kept.
        kind: what all of them have in common, as text that is safe as the name of a folder.
        shape: of a row.
        dtype: of a row.
    """

    def __init__(self, cache: Cache, kind: str, shape: tuple[int, ...], dtype: np.typing.DTypeLike):
        self.cache, self._folder, self._shape, self._dtype = cache, f"outputs/{kind}", shape, np.dtype(dtype)
        self._row_bytes = int(np.prod(shape)) * self._dtype.itemsize
        self._segments: list[_Segment] = []

    def announce(self, rows: int) -> None:
        """Tell the person, before the work, if this many new rows are more than the cache may hold."""
        if rows * self._row_bytes > self.cache.limit:
            say(
                f"{rows:,} new outputs need {size_text(rows * self._row_bytes)}, and the cache {self.cache.folder} "
                f"holds up to {size_text(self.cache.limit)} ({LIMIT}): the next run computes the rest again"
            )

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return where the rows of these keys (n, KEY_BYTES) uint8 are: (n, 2) int, -1 where there is none.

        Each row that is found is undamaged, and stays readable although the cache removes its entry, except where
        another machine removes it from a shared disk.
        """
        self._segments = self._open_segments()
        found = np.full((len(keys), 2), -1)
        for number, segment in enumerate(self._segments):
            at = find_keys(keys, segment.keys)
            new = np.flatnonzero((found[:, 0] < 0) & (at >= 0))
            if self._are_undamaged(segment, at[new]):
                found[new, 0], found[new, 1] = number, at[new]
            else:
                self.cache.drop_damaged(segment.name)
        return found

    def read(self, places: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the rows at these places, as `find` returns them, in blocks and in their order.

        Raises ThawError if rows cannot be read any more.
        """
        most = max(1, BLOCK_BYTES // self._row_bytes)
        breaks = np.flatnonzero((np.diff(places[:, 0]) != 0) | (np.diff(places[:, 1]) != 1)) + 1
        for first, end in itertools.pairwise([0, *breaks.tolist(), len(places)]):
            for start in range(first, end, most):
                count = min(most, end - start)
                segment = self._segments[places[start, 0]]
                block = self._read(segment, int(places[start, 1]), count)
                if len(block) < count * self._row_bytes:
                    raise ThawError(f"{segment.file.name} cannot be read any more: run again, it is computed then")
                yield np.frombuffer(block, self._dtype).reshape(count, *self._shape)

    def keep(self, keys: np.ndarray, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the batches, and keep their rows, which have these keys, whenever SEGMENT_BYTES of them are there."""
        waiting, size, start = [], 0, 0
        for batch in batches:
            waiting.append(batch)
            size += batch.nbytes
            if size >= SEGMENT_BYTES:
                start = self._write(keys, start, waiting)
                waiting, size = [], 0
            yield batch
        if waiting:
            self._write(keys, start, waiting)

    def _write(self, keys: np.ndarray, start: int, batches: list[np.ndarray]) -> int:
        """Keep the rows of some batches, whose keys begin at `start`; return where those of the next begin."""
        rows = np.concatenate(batches)
        content = rows.reshape(len(rows), -1).view(np.uint8)
        keys = keys[start : start + len(rows)]
        index = keys.tobytes() + np.array([zlib.crc32(row) for row in content], np.uint32).tobytes()
        header = INDEX.pack(len(rows), self._row_bytes, zlib.crc32(index))
        name = hashlib.blake2b(keys.tobytes(), digest_size=16).hexdigest()
        self.cache.put(f"{self._folder}/{name}", header, index, content.reshape(-1).data)
        return start + len(rows)

    def _open_segments(self) -> list[_Segment]:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = MAX_SEGMENTS if limit == resource.RLIM_INFINITY else min(MAX_SEGMENTS, limit // 2)
        entries = sorted(self.cache.entries(self._folder), reverse=True)[:most]
        segments = (self._open(f"{self._folder}/{entry.path.stem}") for entry in entries)
        return [segment for segment in segments if segment is not None]

    def _open(self, name: str) -> _Segment | None:
        file = self.cache.open(name)
        if file is None:
            return None
        with contextlib.suppress(OSError):  # a bad sector, or a disk of the network
            header = file.read(INDEX.size)
            if len(header) == INDEX.size:
                rows, row_bytes, check = INDEX.unpack(header)
                start = HEADER.size + INDEX.size + rows * (KEY_BYTES + 4)
                is_whole = os.fstat(file.fileno()).st_size == start + rows * row_bytes
                index = file.read(rows * (KEY_BYTES + 4)) if is_whole and row_bytes == self._row_bytes else b""
                if rows and len(index) == rows * (KEY_BYTES + 4) and zlib.crc32(index) == check:
                    keys = np.frombuffer(index, np.uint8, rows * KEY_BYTES).reshape(rows, KEY_BYTES)
                    return _Segment(name, file, keys, np.frombuffer(index, np.uint32, rows, rows * KEY_BYTES), start)
        file.close()
        self.cache.drop_damaged(name)
        return None

    def _are_undamaged(self, segment: _Segment, rows: np.ndarray) -> bool:
        """Return whether these rows of a segment are what was written."""
        return all(zlib.crc32(self._read(segment, row)) == segment.sums[row] for row in np.sort(rows).tolist())

    def _read(self, segment: _Segment, row: int, count: int = 1) -> bytes:
        """Return the bytes of rows; fewer, or none, if they cannot be read."""
        try:
            return os.pread(segment.file.fileno(), count * self._row_bytes, segment.start + row * self._row_bytes)
        except OSError:
            return b""


def find_keys(keys: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return which of the kept keys (m, KEY_BYTES) uint8, m > 0, each key (n, KEY_BYTES) uint8 is: (n,) int, or -1."""
    wanted, numbers = _as_numbers(keys), _as_numbers(kept)
    order = np.argsort(numbers, kind="stable")
    at = order[np.searchsorted(numbers, wanted, sorter=order).clip(max=len(kept) - 1)]
    return np.where((kept[at] == keys).all(axis=1), at, -1)


def _as_numbers(keys: np.ndarray) -> np.ndarray:
    """Return the first 8 bytes of each key, which tell nearly all apart, as numbers that can be searched."""
    return np.ascontiguousarray(keys[:, :8]).view(np.uint64)[:, 0]
