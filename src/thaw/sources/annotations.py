"""The annotation tables of Open Images, filtered as they arrive and cached as Parquet for all clones on the machine.

A table is up to 600 MB of CSV. It is read in blocks of BLOCK_BYTES. From each block, the rows and columns that a
selection may need become a Parquet file, a part, named by the range of bytes that it covers. The folder of the parts
gets its final name after the last one: a table is complete or absent, and a killed download continues after its last
part.
"""

import csv
import hashlib
import io
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl

from thaw.core import progress
from thaw.core.errors import ThawError
from thaw.core.files import atomic_file
from thaw.sources.base import FailingError, UnreachableError
from thaw.sources.fetching import ChangedError, Fetcher, GoneError, Stream

BLOCK_BYTES = 16 << 20  # of CSV, parsed at once
MAX_HEADER_BYTES = 10_000  # without a line break in so many bytes, it is not a table
WRITERS = 2  # threads that parse and write blocks while the next one arrives
LABEL_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
IMAGE_COLUMNS = (
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation",
)  # fmt: skip


@dataclass(frozen=True)
class _Table:
    url: str
    columns: tuple[str, ...]
    select: Callable[[pl.LazyFrame], pl.DataFrame]  # keeps what a selection may need; ThawError if a row is damaged


class Annotations:
    """The tables below one address, each fetched when it is first used.

    Each address has its own folder in `cache`: tables of different mirrors are never mixed. Every method raises
    UnreachableError without a network, and ThawError if the server sends something else.
    """

    def __init__(self, url: str, cache: Path, fetcher: Fetcher):
        self.url, self.fetcher = url.rstrip("/"), fetcher
        self.folder = cache / folder_name(self.url)

    def classes(self) -> dict[str, str]:
        """Map the display name of each boxable class to its id, such as `Alpaca` to `/m/0pcr`."""
        path = self.folder / "classes.csv"
        url = f"{self.url}/v5/class-descriptions-boxable.csv"
        if path.exists():
            return _parse_classes(path.read_bytes(), str(path))
        body = self._get(url)
        classes = _parse_classes(body, url)
        with atomic_file(path) as temporary:
            temporary.write_bytes(body)
        return classes

    def labels(self, subset: str) -> pl.LazyFrame:
        """Scan the verified labels: `ImageID`, `LabelName`, `present` (whether the image shows the class)."""
        url = f"{self.url}/v5/{subset}-annotations-human-imagelabels-boxable.csv"
        return self._scan(_Table(url, LABEL_COLUMNS, _verified_labels), f"labels-{subset}")

    def images(self, subset: str) -> pl.LazyFrame:
        """Scan the images: `ImageID`, `landing_url`, `license`, `author_url`, `author`, `title`, `rotation` (text)."""
        boxable = "-boxable" if subset == "train" else ""
        url = f"{self.url}/2018_04/{subset}/{subset}-images{boxable}-with-rotation.csv"
        return self._scan(_Table(url, IMAGE_COLUMNS, _image_descriptions), f"images-{subset}")

    def _get(self, url: str) -> bytes:
        try:
            return self.fetcher.get(url)
        except GoneError:
            raise _absent(url) from None
        except FailingError as error:
            raise ThawError(
                f"{url}: {error}: run again later, or set download.open_images.annotations_url to a mirror"
            ) from None

    def _scan(self, table: _Table, name: str) -> pl.LazyFrame:
        folder = self.folder / name
        if not folder.exists():
            parts = self.folder / f"{name}.incomplete"
            try:
                _fetch(table, self.fetcher, parts)
            except GoneError:
                raise _absent(table.url) from None
            parts.rename(folder)
        return pl.scan_parquet(_parts(folder), glob=False)


def folder_name(url: str) -> str:
    """Return a readable and unique folder name for what comes from an address."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", urlsplit(url).netloc)
    return f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _absent(url: str) -> ThawError:
    return ThawError(
        f"{url} is not there: download.open_images.annotations_url must be the address of Open Images or of a mirror"
    )


def _parse_classes(body: bytes, url: str) -> dict[str, str]:
    try:
        rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error):
        rows = []
    if not rows or not all(len(row) == 2 and row[0].startswith("/") for row in rows):
        raise ThawError(
            f"{url} is {_content(body)}, not the list of classes (rows of an id such as /m/0pcr and a name)"
        )
    return {name: class_id for class_id, name in rows}


def _content(body: bytes) -> str:
    """Describe what came instead of a table."""
    start = body[:200].lstrip()
    if not start:
        return "empty"
    if start.startswith(b"<"):
        return "HTML"
    return f"a file that starts with {start.splitlines()[0][:60].decode(errors='replace')!r}"


def _parts(folder: Path) -> list[Path]:
    """List the parts of a table in their order; the name of one is `<first byte>-<last byte + 1>.parquet`."""
    return sorted(folder.glob("*.parquet"))


def _fetch(table: _Table, fetcher: Fetcher, parts: Path) -> None:
    """Fetch a table into the folder `parts`, after the parts that an earlier run left there.

    The file `version` in that folder identifies the table that the parts come from.

    Raises GoneError, FailingError or UnreachableError if the server does not send the table; the parts are kept.
    Raises another ThawError if it has other columns, is damaged or ends within a row; then nothing of it is kept.
    """
    parts.mkdir(parents=True, exist_ok=True)
    version = parts / "version"
    while True:
        offset = _end(parts)
        stream = fetcher.stream(table.url, offset, version.read_text(encoding="utf-8") if offset else "")
        try:
            with ThreadPoolExecutor(WRITERS) as pool:
                storing: deque[Future] = deque()
                for start, block in _blocks(stream, table.columns, offset):
                    if start == 0:
                        version.write_text(stream.version, encoding="utf-8")
                    if len(storing) == WRITERS:
                        storing.popleft().result()
                    storing.append(pool.submit(_store, table, parts, start, block))
                for last in storing:
                    last.result()
            return
        except ChangedError:
            shutil.rmtree(parts)
            parts.mkdir()
        except ThawError as error:
            if not isinstance(error, UnreachableError | FailingError | GoneError):  # overloaded servers refuse, too
                shutil.rmtree(parts)
            raise


def _end(parts: Path) -> int:
    """Return the number of bytes that the parts cover without a gap, from byte 0 on; remove parts after a gap."""
    end = 0
    for part in _parts(parts):
        start, stop = (int(number) for number in part.stem.split("-"))
        if start == end:
            end = stop
        else:
            part.unlink()
    return end


def _store(table: _Table, parts: Path, start: int, block: bytes) -> None:
    """Write one block of a table as a part, which is complete or absent.

    Args:
        table: says what to keep of the block.
        parts: the folder of the parts.
        start: the offset of the block's first byte in the table.
        block: complete rows of CSV.

    Raises:
        ThawError: the block is damaged.
    """
    schema = dict.fromkeys(table.columns, pl.String)
    rows = pl.scan_csv(io.BytesIO(block), has_header=False, schema=schema, skip_lines=int(start == 0))
    try:
        frame = table.select(rows)
    except (ThawError, pl.exceptions.PolarsError) as error:
        raise ThawError(f"{table.url} is damaged: {str(error).splitlines()[0]}") from None
    with atomic_file(parts / f"{start:015d}-{start + len(block):015d}.parquet") as temporary:
        parquet = io.BytesIO()  # the error of polars on a full disk does not say that the disk is full
        frame.write_parquet(parquet, compression="zstd", compression_level=1, statistics=False)
        temporary.write_bytes(parquet.getbuffer())


def _blocks(stream: Stream, columns: tuple[str, ...], offset: int) -> Iterator[tuple[int, bytes]]:
    """Cut a table into blocks of complete rows, of about BLOCK_BYTES; yield each with the offset of its first byte."""
    rest = bytearray()
    checked = offset > 0
    with progress.bar(Path(urlsplit(stream.url).path).name, unit="B", initial=offset) as bar:
        for chunk in stream:
            rest += chunk
            bar.total = stream.length
            bar.update(len(chunk))
            if not checked and (b"\n" in rest or len(rest) > MAX_HEADER_BYTES):
                _check_header(rest, columns, stream.url)
                checked = True
            if len(rest) >= BLOCK_BYTES and (cut := _end_of_rows(rest)):
                yield offset, bytes(rest[:cut])
                offset += cut
                del rest[:cut]
    if not checked:
        _check_header(rest, columns, stream.url)
    if not rest.endswith(b"\n") and rest:
        last = rest[rest.rfind(b"\n", 0, len(rest)) + 1 :].decode(errors="replace")
        if len(next(csv.reader([last]))) < len(columns) or rest.count(b'"') % 2:
            raise ThawError(f"{stream.url} is cut short: its last line is {last[:80]!r}; run again, or tell its host")
    if rest:
        yield offset, bytes(rest)


def _end_of_rows(block: bytearray) -> int:
    """Return the length of the complete rows: the end of the last line that does not end within quotes."""
    cut = block.rfind(b"\n") + 1
    if b'"' not in block:  # the usual case, and ten times as fast as counting
        return cut
    while cut and block.count(b'"', 0, cut) % 2:
        cut = block.rfind(b"\n", 0, cut - 1) + 1
    return cut


def _check_header(start: bytearray, columns: tuple[str, ...], url: str) -> None:
    line = bytes(start).split(b"\n", 1)[0].rstrip(b"\r")
    if line != ",".join(columns).encode():
        raise ThawError(f"{url} is {_content(bytes(start))}, not the table with the columns {','.join(columns)}")


def _verified_labels(labels: pl.LazyFrame) -> pl.DataFrame:
    """Keep the labels that people verified: their confidence is 1 (the image shows the class) or 0 (it does not)."""
    labels = labels.select(pl.col("ImageID", "LabelName").fill_null(""), "Confidence").collect()
    confidence = labels["Confidence"]
    if not confidence.is_in(["0", "1"]).all():  # other notations, predictions of a machine, or damage
        number = confidence.cast(pl.Float32, strict=False)
        if number.null_count():
            row = ",".join(value or "" for value in labels.row(number.is_null().arg_max()))
            raise ThawError(f"the label {row!r} has no confidence")
        labels = labels.with_columns(number.cast(pl.String)).filter((number == 0) | (number == 1))
    return labels.select("ImageID", "LabelName", present=pl.col("Confidence").is_in(["1", "1.0"]))


def _image_descriptions(images: pl.LazyFrame) -> pl.DataFrame:
    columns = {
        "landing_url": "OriginalLandingURL",
        "license": "License",
        "author_url": "AuthorProfileURL",
        "author": "Author",
        "title": "Title",
        "rotation": "Rotation",
    }
    return images.select("ImageID", **columns).fill_null("").collect()
