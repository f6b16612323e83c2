"""The annotation tables of Open Images, filtered as they arrive and kept as Parquet for every clone on the machine.

A table is up to 600 MB of CSV. It passes through memory in blocks of BLOCK bytes; of each, the rows and columns that
a selection may need become a Parquet file, named by the bytes it covers, in a folder that gets its name when the last
one is there. So a table is whole or absent, and a download that was killed goes on behind the last part.
"""

import csv
import hashlib
import io
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
from tqdm import tqdm

from thaw.errors import ThawError
from thaw.files import whole_file
from thaw.sources.fetching import ChangedError, FailingError, Fetcher, GoneError, Stream, UnreachableError

BLOCK = 16 << 20  # bytes of CSV that are parsed at a time
WRITERS = 2  # blocks that are parsed and written while the next one arrives
SUBSETS = ("train", "validation", "test")
LABELS = ("ImageID", "Source", "LabelName", "Confidence")
IMAGES = (
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation",
)  # fmt: skip


class Annotations:
    """The tables below one address, each fetched when it is first asked for.

    They lie in a folder of `cache` that is named by the address, so that a mirror's tables never pass for another's.
    Every method raises UnreachableError without a network, and ThawError where the server sends something else.
    """

    def __init__(self, url: str, cache: Path, fetcher: Fetcher):
        self.url, self.fetcher = url.rstrip("/"), fetcher
        self.folder = cache / folder_of(self.url)

    def classes(self) -> dict[str, str]:
        """Map the display name of each boxable class to its id, such as `Alpaca` to `/m/0pcr`."""
        path = self.folder / "classes.csv"
        url = f"{self.url}/v5/class-descriptions-boxable.csv"
        if path.exists():
            return _parse_classes(path.read_bytes(), str(path))
        body = self._get(url)
        classes = _parse_classes(body, url)
        with whole_file(path) as temporary:
            temporary.write_bytes(body)
        return classes

    def labels(self, subset: str) -> pl.LazyFrame:
        """Scan the verified labels: `ImageID`, `LabelName`, `present` (true: the class is there, false: it is not)."""
        url = f"{self.url}/v5/{subset}-annotations-human-imagelabels-boxable.csv"
        return self._table(url, LABELS, f"labels-{subset}", _verified)

    def images(self, subset: str) -> pl.LazyFrame:
        """Scan the images: `ImageID`, `landing_url`, `license`, `author_url`, `author`, `title`, `rotation` (text)."""
        boxable = "-boxable" if subset == "train" else ""
        url = f"{self.url}/2018_04/{subset}/{subset}-images{boxable}-with-rotation.csv"
        return self._table(url, IMAGES, f"images-{subset}", _described)

    def _get(self, url: str) -> bytes:
        try:
            return self.fetcher.get(url)
        except GoneError:
            raise ThawError(_not_there(url)) from None
        except FailingError as error:
            raise ThawError(
                f"{url}: {error}: run again later, or set download.open_images.annotations_url to a mirror"
            ) from None

    def _table(self, url: str, header: tuple[str, ...], name: str, keep: Callable) -> pl.LazyFrame:
        table = self.folder / name
        if not table.exists():
            parts = self.folder / f"{name}.incomplete"
            try:
                _fetch(self.fetcher, url, header, parts, keep)
            except GoneError:
                raise ThawError(_not_there(url)) from None
            parts.rename(table)
        return pl.scan_parquet(_parts(table), glob=False)


def folder_of(url: str) -> str:
    """A folder name for what comes from an address: readable, and its own."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", urlsplit(url).netloc)
    return f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _not_there(url: str) -> str:
    return f"{url} is not there: download.open_images.annotations_url wants the address of Open Images or of a mirror"


def _parse_classes(body: bytes, url: str) -> dict[str, str]:
    try:
        rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error):
        rows = []
    if not rows or not all(len(row) == 2 and row[0].startswith("/") for row in rows):
        raise ThawError(
            f"{url} is {_instead(body)}, not the list of classes (rows of an id such as /m/0pcr and a name)"
        )
    return {name: class_id for class_id, name in rows}


def _instead(body: bytes) -> str:
    """Say in words what came in the place of a table."""
    start = body[:200].lstrip()
    if not start:
        return "empty"
    return (
        "HTML"
        if start.startswith(b"<")
        else f"a file that starts with {start.splitlines()[0][:60].decode(errors='replace')!r}"
    )


def _parts(folder: Path) -> list[Path]:
    """List the parts of a table, each named `<first byte>-<byte behind the last>.parquet`, in their order."""
    return sorted(folder.glob("*.parquet"))


def _fetch(fetcher: Fetcher, url: str, header: tuple[str, ...], parts: Path, keep: Callable) -> None:
    """Bring what `keep` leaves of a table into `parts`, going on behind those that an earlier run left there.

    Raises ThawError where the table has not the columns of `header` or ends within a row; nothing of it is kept then.
    """
    parts.mkdir(parents=True, exist_ok=True)
    version = parts / "version"
    while True:
        offset = _end(parts)
        stream = fetcher.stream(url, offset, version.read_text() if offset else "")
        try:
            with ThreadPoolExecutor(WRITERS) as pool:
                storing: deque[Future] = deque()
                for start, block in _blocks(stream, header, offset):
                    if start == 0:
                        version.write_text(stream.version)
                    if len(storing) == WRITERS:
                        storing.popleft().result()
                    storing.append(pool.submit(_store, parts, start, block, header, keep, url))
                for last in storing:
                    last.result()
            return
        except ChangedError:
            shutil.rmtree(parts)
            parts.mkdir()
        except ThawError as error:
            if not isinstance(error, UnreachableError | FailingError | GoneError):  # loaded servers refuse, too
                shutil.rmtree(parts)
            raise


def _end(parts: Path) -> int:
    """Return the offset behind the parts that follow one another from byte 0; removes those behind a gap."""
    end = 0
    for part in _parts(parts):
        start, stop = (int(number) for number in part.stem.split("-"))
        if start == end:
            end = stop
        else:
            part.unlink()
    return end


def _store(parts: Path, start: int, block: bytes, header: tuple[str, ...], keep: Callable, url: str) -> None:
    """Write what `keep` leaves of a block of whole rows; the name comes last, so that the part is whole or absent."""
    schema = dict.fromkeys(header, pl.String)
    rows = pl.scan_csv(io.BytesIO(block), has_header=False, schema=schema, skip_lines=int(start == 0))
    try:
        frame = keep(rows, url)
    except pl.exceptions.PolarsError as error:
        raise ThawError(f"{url} is damaged: {str(error).splitlines()[0]}") from None
    with whole_file(parts / f"{start:015d}-{start + len(block):015d}.parquet") as temporary:
        table = io.BytesIO()  # written by Python: polars' own error on a full disk does not say that it is one
        frame.write_parquet(table, compression="zstd", compression_level=1, statistics=False)
        temporary.write_bytes(table.getbuffer())


def _blocks(stream: Stream, header: tuple[str, ...], offset: int) -> Iterator[tuple[int, bytes]]:
    """Cut a table into whole rows of about BLOCK bytes, each with the offset of its first byte."""
    rest = bytearray()
    checked = offset > 0
    with tqdm(
        desc=Path(urlsplit(stream.url).path).name, disable=None, unit="B", unit_scale=True, initial=offset
    ) as bar:
        for chunk in stream:
            rest += chunk
            bar.total = stream.length
            bar.update(len(chunk))
            if not checked and (b"\n" in rest or len(rest) > 10_000):
                _check_header(rest, header, stream.url)
                checked = True
            if len(rest) >= BLOCK and (cut := _end_of_rows(rest)):
                yield offset, bytes(rest[:cut])
                offset += cut
                del rest[:cut]
    if not checked:
        _check_header(rest, header, stream.url)
    if not rest.endswith(b"\n") and rest:
        last = rest[rest.rfind(b"\n", 0, len(rest)) + 1 :].decode(errors="replace")
        if len(next(csv.reader([last]))) < len(header) or rest.count(b'"') % 2:
            raise ThawError(f"{stream.url} is cut short: its last line is {last[:80]!r}; run again, or tell its host")
    if rest:
        yield offset, bytes(rest)


def _end_of_rows(block: bytearray) -> int:
    """Return the offset behind the last row that is whole: behind a line's end that lies within no quotes."""
    cut = block.rfind(b"\n") + 1
    if b'"' not in block:  # the usual case, and ten times as fast as counting
        return cut
    while cut and block.count(b'"', 0, cut) % 2:
        cut = block.rfind(b"\n", 0, cut - 1) + 1
    return cut


def _check_header(start: bytearray, header: tuple[str, ...], url: str) -> None:
    line = bytes(start).split(b"\n", 1)[0].rstrip(b"\r")
    if line != ",".join(header).encode():
        raise ThawError(f"{url} is {_instead(bytes(start))}, not the table with the columns {','.join(header)}")


def _verified(labels: pl.LazyFrame, url: str) -> pl.DataFrame:
    """Keep what people verified: a confidence of 1, the class is there, or 0, it is not; not a machine's guess."""
    labels = labels.select(pl.col("ImageID", "LabelName").fill_null(""), "Confidence").collect()
    confidence = labels["Confidence"]
    if not confidence.is_in(["0", "1"]).all():  # numbers written in another way, machines' guesses, or damage
        number = confidence.cast(pl.Float32, strict=False)
        if number.null_count():
            row = ",".join(value or "" for value in labels.row(number.is_null().arg_max()))
            raise ThawError(f"{url} is damaged: the label {row!r} has no confidence")
        labels = labels.with_columns(number.cast(pl.String)).filter((number == 0) | (number == 1))
    return labels.select("ImageID", "LabelName", present=pl.col("Confidence").is_in(["1", "1.0"]))


def _described(images: pl.LazyFrame, url: str) -> pl.DataFrame:
    columns = {
        "landing_url": "OriginalLandingURL",
        "license": "License",
        "author_url": "AuthorProfileURL",
        "author": "Author",
        "title": "Title",
        "rotation": "Rotation",
    }
    return images.select("ImageID", **columns).fill_null("").collect()
