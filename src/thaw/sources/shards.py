"""Many photographs in few files: DVC takes long for each file, whatever its size.

A photograph goes to a shard by a hash of its id, so that one more changes one shard. There are 2^k shards; when k
grows, each becomes two.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from thaw.core import progress, store, tables

MEAN_BYTES = 256_000_000  # at most, of the photographs in a shard
MAX_BITS = 16  # 65,536 shards


def are_wanted(shards: int | str | None, photographs: int) -> bool:
    """Return whether so many photographs go into shards. `shards`: `download.shards`, a number, `always` or None."""
    return shards is not None and (shards == "always" or photographs > shards)


def pack(folder: Path, names: Mapping[str, str]) -> int:
    """Replace the files of a folder by shards of them, and their index. Return the number of shards.

    A file is removed when its shard is written: the disk holds little more than the photographs at any time.

    Args:
        folder: of the files.
        names: image_id → the name of its file.
    """
    sizes = {image_id: (folder / name).stat().st_size for image_id, name in names.items()}
    bits = hash_bits(sum(sizes.values()))
    shards: dict[int, list[str]] = defaultdict(list)
    for image_id in names:
        shards[shard_number(image_id, bits)].append(image_id)
    index = []
    with progress.bar("shards", len(names)) as bar:
        for number in sorted(shards):
            members = sorted((names[image_id], sizes[image_id]) for image_id in shards[number])
            index.append(_write(folder, store.shard_name(number), members))
            bar.update(len(members))
    tables.write(pl.concat(index), folder / store.INDEX)
    return len(shards)


def hash_bits(total: int) -> int:
    """Return the bits of the hash that choose a shard, for photographs of `total` bytes."""
    return min(MAX_BITS, max(0, -(-total // MEAN_BYTES) - 1).bit_length())


def shard_number(image_id: str, bits: int) -> int:
    """Return the number of the shard of a photograph: the first bits of a hash of its id."""
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:4]) >> (32 - bits)


def _write(folder: Path, shard: str, members: Iterable[tuple[str, int]]) -> pl.DataFrame:
    """Write a shard of these files, by name and size, and remove them. Return its rows of the index."""
    names, sizes = zip(*members, strict=True)
    offsets, length = store.layout(names, np.array(sizes, np.int64))
    with (folder / shard).open("wb") as file:
        for name, size, offset in zip(names, sizes, offsets.tolist(), strict=True):
            header = store.header_bytes(name, size)
            file.seek(offset - len(header))
            file.write(header)
            store.copy(folder / name, file)
        file.truncate(length)
    for name in names:
        (folder / name).unlink()
    return pl.DataFrame({"name": names, "shard": shard, "offset": offsets, "size": sizes}).select(store.COLUMNS)
