"""The names that a person gives, as arguments or as a list on standard input, in any form in which lists come."""

import io
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from PIL import Image

from thaw.core.paths import existing
from thaw.prediction.stream import LoadedImage

STDIN = "-"
BLOCK_BYTES = 1 << 16  # what is looked at to tell how a list is written
MAX_NAME_BYTES = 1 << 14  # four times the longest path that Linux takes
SHOWN_BYTES = 100  # of an entry that is no name
BOMS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xef\xbb\xbf": "utf-8"}


def read(arguments: Iterable[str], stdin: BinaryIO, null: bool = False) -> Iterator[str | LoadedImage]:
    """Yield the arguments; in place of `-`, yield the names on standard input, as they arrive.

    A list has a name in each line, in UTF-8, UTF-16, or any bytes. With `null`, or if its first name ends in a zero
    byte (`find -print0`), zero bytes separate the names, and line breaks belong to them. A name that is no file is
    taken as `paths.existing` finds it. An entry that is no name is a LoadedImage with an error.
    """
    for argument in arguments:
        if argument == STDIN:
            yield from map(_as_name, _entries(stdin, null))
        else:
            yield existing(argument)


def _entries(stdin: BinaryIO, null: bool) -> Iterator[bytes | LoadedImage]:
    """Yield the entries of a list, in bytes, without what separates them."""
    stdin = stdin if hasattr(stdin, "peek") else io.BufferedReader(stdin, BLOCK_BYTES)
    first = stdin.peek(BLOCK_BYTES)
    if _is_image(first):
        yield LoadedImage(STDIN, error="standard input is an image, and a list of names is expected: name the file")
        return
    bom = next((bom for bom in BOMS if first.startswith(bom)), b"")
    if bom:
        stdin.read(len(bom))
    encoding = BOMS.get(bom) or ("utf-8" if null else _encoding(first))
    if encoding != "utf-8":
        text = stdin.read().decode(encoding, errors="replace")
        yield from (line.rstrip("\r").encode() for line in text.split("\n") if line.strip())
    elif null or (b"\0" in first and b"\n" not in first.partition(b"\0")[0]):
        yield from filter(None, _separated(stdin, b"\0"))
    else:
        yield from (line.rstrip(b"\r") for line in _separated(stdin, b"\n") if line.strip())


def _encoding(first: bytes) -> str:
    """Return the encoding of a list without a byte order mark, from its beginning.

    In UTF-16 every other byte of plain letters is zero. Taken as separators, these would make the path of a file in `/`
    the name of the whole disk.
    """
    even, odd = first[:8:2], first[1:8:2]
    if len(odd) == 4 and all(even) and not any(odd):
        return "utf-16-le"
    if len(odd) == 4 and all(odd) and not any(even):
        return "utf-16-be"
    return "utf-8"


def _separated(stdin: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """Yield what lies between separators, each as soon as it is there; of one that is too long, only its beginning."""
    begun = b""
    while block := stdin.read1(BLOCK_BYTES):
        *entries, begun = (begun + block).split(separator)
        yield from entries
        begun = begun[: MAX_NAME_BYTES + 1]
    yield begun


def _as_name(entry: bytes | LoadedImage) -> str | LoadedImage:
    if isinstance(entry, LoadedImage):
        return entry
    if len(entry) > MAX_NAME_BYTES or b"\0" in entry:
        why = "it holds a zero byte (-0 separates names by these)" if b"\0" in entry else "it is too long"
        shown = os.fsdecode(entry[:SHOWN_BYTES].replace(b"\0", b"\\0"))
        return LoadedImage(shown, error=f"not the name of a file: {why}")
    return existing(os.fsdecode(entry))


def _is_image(block: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(block)):
            return True
    except Exception:  # most lists; Pillow raises errors of many types on other bytes
        return False
