"""Arrays on disk: written row by row into a `.npy` file, read memory-mapped."""

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from thaw import ahead
from thaw.errors import ThawError, missing

BLOCK = 2**26  # bytes


def write_rows(path: Path, batches: Iterable[np.ndarray], rows: int) -> tuple[int, ...]:
    """Write batches of equal row shape and dtype one after the other as one `.npy` array; return its shape.

    Plain writes, not a memory map: a full disk is then an error of this call and not a bus error later, and what
    is written does not count as this process' memory. Raises ValueError where the batches do not add up to `rows`.
    """
    written, shape = 0, ()
    with path.open("wb") as file:
        for batch in batches:
            if not written:
                shape = (rows, *batch.shape[1:])
                header = {"descr": np.lib.format.dtype_to_descr(batch.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(file, header)
            if batch.dtype.kind == "f" and not np.isfinite(batch).all():
                raise ThawError(f"{path.name}: a value is not finite or too large for {batch.dtype}")
            file.write(np.ascontiguousarray(batch))
            written += len(batch)
    if written != rows:
        raise ValueError(f"{path}: {written} rows were written where {rows} were due")
    return shape


def open_rows(path: Path) -> np.memmap:
    """Return a `.npy` array as a read-only memory map."""
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise missing(path) from None
    except (ValueError, EOFError) as error:
        raise ThawError(f"{path} is damaged ({error}): `dvc checkout {path.parent}` brings it back") from error


def blocks(array: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the given rows of an array, in order, in blocks of about BLOCK bytes; of no rows, one empty block."""
    size = max(1, BLOCK // max(1, array[:1].nbytes))
    for start in range(0, max(1, len(rows)), size):
        yield array[rows[start : start + size]]


def pooled(array: np.ndarray) -> np.ndarray:
    """Return features (rows, channels) as they are, and the mean over the places of maps (rows, h, w, channels), as
    (rows, channels) of the same dtype."""
    if array.ndim == 2:
        return array
    means = (block.mean(axis=(1, 2), dtype=np.float32) for block in blocks(array, np.arange(len(array))))
    return np.concatenate([mean.astype(array.dtype) for mean in means])


def read_ahead(array: np.ndarray, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the rows of an array that each batch of row numbers names, while a thread reads those of the next one."""

    def read(rows: np.ndarray) -> np.ndarray:
        found = array[rows]
        if isinstance(array, np.memmap):
            release(array)
        return found

    return ahead.in_order(read, batches, threads=1, ahead=1)


def release(array: np.memmap) -> None:
    """Give the pages of a memory map back, so that what was read once does not count as memory for good."""
    array._mmap.madvise(mmap.MADV_DONTNEED)
