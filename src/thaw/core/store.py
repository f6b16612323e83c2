"""Where the photographs of `data/raw` are: each is a file, or a member of a shard.

Shards are uncompressed tar files, in the layout of WebDataset. An index says at which byte of which shard a photograph
begins, so that it is read without the others. `Photographs` opens both kinds of stores. What it returns is read alike:
`open`, `read_bytes`, `exists`, `name` and `suffix` are those of a path.
"""

import codecs
import contextlib
import io
import os
import re
import shutil
import tarfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from thaw.core.errors import ThawError
from thaw.core.files import atomic_file

if TYPE_CHECKING:
    import polars as pl

FOLDER = "images"  # in the raw data folder
INDEX = "index.csv"  # in the folder of the shards
COLUMNS = (  # of the index, which has a row for each photograph
    "name",  # of the file that it would be without shards
    "shard",
    "offset",  # of its first byte
    "size",  # in bytes
)
SHARD = re.compile(r"\d{5}\.tar")
BLOCK = tarfile.BLOCKSIZE
MAX_PLAIN_NAME, MAX_PLAIN_SIZE = 100, 8**11 - 1  # characters and bytes for which one block of header is enough


@dataclass(frozen=True, slots=True)
class Member:
    """A photograph in a shard. Its text is the path that it would have as a file."""

    folder: Path  # of the shards
    shard: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return str(self.folder / self.name)

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def exists(self) -> bool:
        return True  # what is missing was noticed when the index was read

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the bytes of the photograph for reading. Raises ThawError if the shard holds something else there."""
        if mode != "rb":
            raise ValueError(f"a photograph in a shard is only read, not opened as {mode!r}")
        return io.BufferedReader(self._window())

    def read_bytes(self) -> bytes:
        with self._window() as window:
            return window.readall()

    def _window(self) -> "_Window":
        path = self.folder / self.shard
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DamagedShardError(f"{path} is missing: {remedy(self.folder)}") from None
        window = _Window(file, self.offset, self.size)
        block = os.pread(file, BLOCK, self.offset - BLOCK)
        try:
            header = tarfile.TarInfo.frombuf(block, "ascii", "replace")
            fits = (header.name, header.size) == (_short(self.name), self.size)
        except tarfile.HeaderError:
            fits = False
        if not fits:
            window.close()
            raise DamagedShardError(f"{path} does not hold {self.name} where {INDEX} says: {remedy(self.folder)}")
        return window


Photograph = Path | Member


class DamagedShardError(ThawError):
    """A shard is missing, or its index does not fit it."""


class _Window(io.RawIOBase):
    """A part of a file that is open, as a file of its own. It closes the file."""

    def __init__(self, file: int, start: int, size: int):
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if position < 0:
            raise OSError(f"position {position} lies before the beginning")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        length = max(0, min(len(buffer), self._size - self._position))
        count = os.preadv(self._file, [memoryview(buffer)[:length]], self._start + self._position)
        self._position += count
        return count

    def readall(self) -> bytes:
        content = os.pread(self._file, max(0, self._size - self._position), self._start + self._position)
        self._position += len(content)
        return content

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


def open_image(photograph: Photograph) -> Image.Image:
    """Open a photograph with Pillow, which reads what it needs. Raises what Pillow raises."""
    image = Image.open(photograph if isinstance(photograph, Path) else photograph.open())
    image.filename = ""  # else Pillow maps a TIFF into memory by its upright size, which scrambles a turned one
    return image


def byte_count(photograph: Photograph) -> int:
    """Return the size of a photograph in bytes. Raises OSError if a file is missing."""
    return photograph.stat().st_size if isinstance(photograph, Path) else photograph.size


def copy(photograph: Photograph, target: BinaryIO) -> None:
    """Write a photograph to a file that is open."""
    with photograph.open("rb") as source:
        shutil.copyfileobj(source, target, 1 << 20)


def bring_out(photographs: Iterable[Photograph], folder: Path) -> int:
    """Write photographs as files of their names into a folder, and return how many. Those that it has already stay.

    Raises ThawError, before it writes one, if the folder has another file of such a name, or a photograph is missing.
    """
    photographs = list(photographs)
    if absent := next((photograph for photograph in photographs if not photograph.exists()), None):
        raise ThawError(f"{absent} is missing: run `dvc checkout download`")
    there = {photograph.name for photograph in photographs if os.path.lexists(folder / photograph.name)}
    for photograph in photographs:
        target = folder / photograph.name
        if photograph.name in there and not _is_copy(target, photograph):
            raise ThawError(f"{target} is there already, as another file: remove it, or name another folder")
    for photograph in photographs:
        if photograph.name not in there:
            with atomic_file(folder / photograph.name) as temporary, temporary.open("wb") as file:
                copy(photograph, file)
    return len(photographs)


def _is_copy(path: Path, photograph: Photograph) -> bool:
    is_as_long = path.is_file() and path.stat().st_size == byte_count(photograph)
    return is_as_long and path.read_bytes() == photograph.read_bytes()


class Shards:
    """The photographs in the shards of a folder, by their names.

    Args:
        folder: holds the shards and their index.

    Raises:
        ThawError: The index is damaged, or a shard is missing, not listed, or not as long as the index says.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        table = _read_index(folder)
        _check_lengths(folder, table)
        self.files = {INDEX, *table["shard"]}
        self._rows = {name: row for row, name in enumerate(table["name"])}
        shard = table["shard"].rle_id().to_numpy()
        self._shards = table["shard"].unique(maintain_order=True).to_list()
        self._shard, self._offset, self._size = shard, table["offset"].to_numpy(), table["size"].to_numpy()

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> Member:
        """Return the photograph of a name; raises KeyError if there is none."""
        row = self._rows[name]
        shard = self._shards[self._shard[row]]
        return Member(self.folder, shard, name, int(self._offset[row]), int(self._size[row]))

    @property
    def count(self) -> int:
        """How many shards there are."""
        return len(self._shards)

    @property
    def names(self) -> list[str]:
        """The names of all photographs, sorted."""
        return sorted(self._rows)


class Photographs:
    """The photographs of a raw data folder, by the column `path` of its images.csv.

    Args:
        raw: the folder.

    Raises:
        ThawError: There are shards, and they are damaged: see `Shards`.
    """

    def __init__(self, raw: Path):
        self._raw, folder = raw, raw / FOLDER
        if not (folder / INDEX).exists() and (folder / shard_name(0)).exists():
            raise ThawError(f"{folder / INDEX} is missing: {remedy(folder)}")
        self.shards = Shards(folder) if (folder / INDEX).exists() else None

    def __getitem__(self, path: str) -> Photograph:
        """Return a photograph. Where it is not there, this is a path without a file, and reading it raises."""
        is_member = self.shards is not None and name(path) in self.shards
        return self.shards[name(path)] if is_member else self._raw / path


def name(path: str) -> str:
    """Return the name of a photograph in the folder or the shards, of its path in images.csv."""
    return path.removeprefix(f"{FOLDER}/")


def shard_name(number: int) -> str:
    """Return the name of a shard."""
    return f"{number:05}.tar"


def has_shards(folder: Path) -> bool:
    """Return whether a folder holds an index of shards: other programs, too, call a table index.csv.

    An editor may have saved it with other ends of lines, or a byte order mark.
    """
    try:
        with (folder / INDEX).open("rb") as file:
            return file.readline(100).removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n") == ",".join(COLUMNS).encode()
    except (OSError, ValueError):  # a name that the system refuses
        return False


def written_files(folder: Path, names: Collection[str]) -> set[str]:
    """Return the names of the shards and of the index that `download` has written to a folder, damaged or not.

    A tar file is one if an index lists it, or if it begins with one of the photographs `names`.
    """
    written = {path.name for path in folder.glob("*.tar") if SHARD.fullmatch(path.name) and _first(path) in names}
    index = folder / INDEX
    if has_shards(folder) or (index.is_file() and not index.stat().st_size):  # an empty one holds nothing of a person's
        written.add(INDEX)
        with contextlib.suppress(ThawError):  # it is damaged
            written.update(_read_index(folder)["shard"])
    return written


def header_bytes(name: str, size: int) -> bytes:
    """Return what stands before a member of a shard: the same for every person, day and machine."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def layout(names: Sequence[str], sizes: np.ndarray) -> tuple[np.ndarray, int]:
    """Return where each member of a shard begins, (n,) int64, and the length of the shard, in bytes."""
    is_plain = np.fromiter((len(name) <= MAX_PLAIN_NAME and name.isascii() for name in names), bool, len(sizes))
    headers = np.full(len(sizes), BLOCK, np.int64)
    for row in np.flatnonzero(~is_plain | (sizes > MAX_PLAIN_SIZE)):
        headers[row] = len(header_bytes(names[row], int(sizes[row])))
    ends = np.cumsum(headers + -(-sizes // BLOCK) * BLOCK)
    offsets = ends - -(-sizes // BLOCK) * BLOCK
    end = int(ends[-1]) + 2 * BLOCK  # two blocks of zeros end an archive
    return offsets, -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def remedy(folder: Path) -> str:
    """Say what to do about shards that are damaged."""
    return f"`dvc checkout {folder}` brings it back, or `dvc repro -f download` writes it again"


def _first(path: Path) -> str | None:
    """Return the name of the first member of a tar file, or None."""
    try:
        with tarfile.open(path, "r:") as archive:
            member = archive.next()
        return member and member.name
    except (OSError, tarfile.TarError):
        return None


def _short(name: str) -> str:
    """Return what the last block of a header has of a name."""
    return name.encode("ascii", "replace")[:MAX_PLAIN_NAME].decode()


def _read_index(folder: Path) -> "pl.DataFrame":
    """Return the index of a folder of shards. Raises ThawError if it is damaged."""
    import polars as pl  # takes a quarter of a second, which a prediction of a file need not wait for

    path, dtypes = folder / INDEX, (pl.String, pl.String, pl.Int64, pl.Int64)
    try:
        table = pl.read_csv(path, schema=dict(zip(COLUMNS, dtypes, strict=True)), glob=False)
    except pl.exceptions.PolarsError as error:
        raise ThawError(f"{path} is no index of shards ({str(error).splitlines()[0]}): {remedy(folder)}") from None
    is_whole = len(table) and not any(table.null_count().row(0)) and table["name"].n_unique() == len(table)
    shards = table["shard"].unique() if is_whole else ["none"]
    if not all(map(SHARD.fullmatch, shards)) or table["shard"].rle_id().max() + 1 != len(shards):
        raise ThawError(f"{path} is damaged: {remedy(folder)}")
    return table


def _check_lengths(folder: Path, table: "pl.DataFrame") -> None:
    """Raise ThawError unless each shard is as long as its members in the index, one after the other."""
    found = (path for path in folder.glob("*.tar") if SHARD.fullmatch(path.name) and path.exists())  # no broken link
    present = {path.name: path.stat().st_size for path in found}
    if extra := sorted(present.keys() - set(table["shard"])):
        raise ThawError(f"{folder / INDEX} does not list {extra[0]}: {remedy(folder)}")
    for (shard,), members in table.group_by("shard", maintain_order=True):
        if shard not in present:
            raise ThawError(f"{folder / shard} is missing: {remedy(folder)}")
        offsets, length = layout(members["name"].to_list(), members["size"].to_numpy())
        if not np.array_equal(offsets, members["offset"].to_numpy()):
            raise ThawError(f"{folder / INDEX} is damaged at {shard}: {remedy(folder)}")
        if present[shard] != length:
            raise ThawError(
                f"{folder / shard} has {present[shard]:,} bytes, and by {INDEX} {length:,}: {remedy(folder)}"
            )
