"""Arrays on disk: written row by row into a `.npy` file, read memory-mapped."""

import math
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from thaw.core import prefetch
from thaw.core.errors import ThawError, missing

BLOCK_BYTES = 2**26  # of rows that are read at once


def write_rows(path: Path, batches: Iterable[np.ndarray], rows: int) -> tuple[int, ...]:
    """Write batches, one after the other, as one `.npy` array of `rows` rows; return its shape.

    All batches have the same dtype and the same shape of a row. Raises ThawError if a value is not finite, ValueError
    if the batches have more or fewer rows than `rows`, OSError if the disk is full.
    """
    # Not a memory map: there, a full disk is a bus error later, and what was written counts as this process' memory.
    written, shape = 0, ()
    with path.open("wb") as file:
        for batch in batches:
            if not file.tell():  # the first may have no rows
                shape = (rows, *batch.shape[1:])
                header = {"descr": np.lib.format.dtype_to_descr(batch.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(file, header)
            check_finite(batch, path.name)
            file.write(np.ascontiguousarray(batch))
            written += len(batch)
    if written != rows:
        raise ValueError(f"{path}: {written} rows were written, not {rows}")
    return shape


def check_finite(values: np.ndarray, name: str) -> None:
    """Raise ThawError if one of the values is NaN or infinite; whole numbers are neither."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ThawError(f"{name}: a value is not finite or too large for {values.dtype}")


def open_rows(path: Path) -> np.memmap:
    """Return a `.npy` array as a read-only memory map; raises ThawError if the file is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise missing(path) from None
    except (ValueError, EOFError) as error:
        raise ThawError(f"{path} is damaged ({error}): `dvc checkout {path}` brings it back") from error


class Rows:
    """Rows of an array, read when they are indexed. Of `array` only `shape`, `dtype` and indexing by rows are used."""

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self._array, self._rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        values = self._array[self._rows[key]]
        release(self._array)
        return values


def blocks(array: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the given rows of an array, in their order, in blocks of at most BLOCK_BYTES or one row.

    Without any rows, it yields one empty block. Of `array` only `shape`, `dtype` and indexing by row numbers are used:
    a row may be expensive to compute.
    """
    row_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
    size = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, max(1, len(rows)), size):
        yield array[rows[start : start + size]]


def pooled(array: np.ndarray) -> np.ndarray:
    """Average maps (rows, height, width, channels) over their positions.

    Returns (rows, channels) of the same dtype. Features that are already (rows, channels) are returned unchanged.
    """
    if array.ndim == 2:
        return array
    means = (block.mean(axis=(1, 2), dtype=np.float32) for block in blocks(array, np.arange(len(array))))
    return np.concatenate([mean.astype(array.dtype) for mean in means])


def as_float32(values: np.ndarray) -> np.ndarray:
    """Return values as float32. Of float16, OpenCV makes the same values as NumPy in a tenth of the time."""
    if values.dtype != np.float16 or not values.size:
        return values.astype(np.float32)
    import cv2  # not everybody who reads arrays needs it

    numbers = np.ascontiguousarray(values).view(np.int16).reshape(len(values), -1)
    return cv2.convertFp16(numbers).reshape(values.shape)


def read_ahead(array: np.ndarray, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield `array[rows]` for each batch of row numbers, while a thread reads the next batch."""

    def read(rows: np.ndarray) -> np.ndarray:
        batch = array[rows]
        release(array)
        return batch

    return prefetch.map_in_order(read, batches, threads=1, ahead=1)


def release(array: np.ndarray) -> None:
    """Give the pages of a memory map back to the system, so that they no longer count as this process' memory.

    What is in memory anyway stays.
    """
    if getattr(array, "_mmap", None):  # of a map, and of views of it
        array._mmap.madvise(mmap.MADV_DONTNEED)
