"""Photographs named in any way to a model's answers, in the order in which they were named, at the engine's speed.

A photograph that cannot be read has its error for an answer, and does not stop the others.
"""

import glob
import importlib.util
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat, tee
from pathlib import Path

import numpy as np
from PIL import Image

from thaw import ahead, images
from thaw.errors import ThawError
from thaw.inference import rebatch

AHEAD = 32  # photographs decoded ahead of the engine: enough to keep every core busy, small in memory
LARGE = 32_000_000  # pixels; photographs above are decoded one at a time: each may take a gigabyte or two
# Pillow keeps this many blocks of pixels, of at most 16 MB each, for the next photograph: fresh memory from the system
# is cleared first, which costs a quarter of the time that a JPEG takes.
Image.core.set_blocks_max(8)

HEIF = {".heic", ".heif"}  # photographs of iPhones, which Pillow reads where the package pillow-heif is there
ENDINGS = images.IMAGE_ENDINGS | HEIF
Run = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]
READS_HEIF = importlib.util.find_spec("pillow_heif") is not None
if READS_HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()


@dataclass(frozen=True)
class Seen:
    """A photograph as the network sees it, (size, size, 3) uint8, or why it does not."""

    path: str
    view: np.ndarray | None = None
    error: str | None = None


@dataclass(frozen=True)
class Answer:
    """What the network answers to a photograph, (classes,) float32, or nothing where there is an error."""

    seen: Seen
    probabilities: np.ndarray | None = None
    distance: float | None = None  # from the training photographs, where that is measured


def expand(names: Iterable[str]) -> Iterator[Seen | Path]:
    """Yield the photographs that names stand for: files, folders with all that lies below, and patterns (`*.jpg`).

    A file is taken whatever its ending, of a folder the files of ENDINGS, in the order of their names and before its
    subfolders. Hidden files and links to folders are passed over there. What leads to no photograph is a Seen with
    its error.
    """
    for name in names:
        path = Path(name)
        if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises on a name that the system refuses
            yield from _below(path)
        elif not os.path.lexists(name) and glob.has_magic(name):
            yield from _matching(name)
        else:
            yield path


def _matching(pattern: str) -> Iterator[Seen | Path]:
    """Yield the photographs of a pattern, each once: of `**`, a folder matches and so does what lies in it."""
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - absolute ones too
    if not matches:
        yield Seen(pattern, error="no file matches")
    folders = {match for match in matches if os.path.isdir(match)}  # noqa: PTH112 - as above
    passed: set[Seen | Path] = set()
    for match in matches:
        if match in folders and not folders.isdisjoint(match.parents):
            continue
        for one in _below(match) if match in folders else [match]:
            if one not in passed:
                yield one
            passed.add(one)


def _below(folder: Path) -> Iterator[Seen | Path]:
    found = False
    refused: list[OSError] = []
    for root, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for error in refused:
            yield Seen(str(error.filename), error=f"cannot be read: {error.strerror}")
        found |= bool(refused)
        refused.clear()
        for name in sorted(files):
            if Path(name).suffix.lower() in ENDINGS and not name.startswith("."):
                found = True
                yield Path(root, name)
    for error in refused:
        yield Seen(str(error.filename), error=f"cannot be read: {error.strerror}")
    if not found and not refused:
        yield Seen(str(folder), error="no photograph in this folder")


def look(named: Iterable[Seen | Path], size: int, resize: str) -> Iterator[Seen]:
    """Yield each photograph as the network sees it, in order, decoded on one thread a core, large ones on one of all.

    (A lock would not do: a thread's allocator keeps what was freed, and each would come to hold a large one's memory.)
    """

    def one(item: Seen | Path) -> Seen:
        return item if isinstance(item, Seen) else _look(item, size, resize, large)

    with ThreadPoolExecutor(1) as large:
        yield from ahead.in_order(one, named, os.cpu_count(), AHEAD)


def _look(path: Path, size: int, resize: str, large: Executor) -> Seen:
    try:
        return Seen(str(path), view=_view(path, size, resize, large))
    except ThawError as error:
        return Seen(str(path), error=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return Seen(str(path), error=f"cannot be read: {error.strerror}")
    except Exception as error:  # of a file from anywhere, a decoder may raise anything
        return Seen(str(path), error=f"damaged ({type(error).__name__}: {error})")


def _view(path: Path, size: int, resize: str, large: Executor) -> np.ndarray:
    """Decode to what training saw; the pixels are the same."""
    if path.exists() and not path.is_file():
        raise ThawError("not a file")  # a pipe or a device would never end
    with path.open("rb") as file:  # permission, a name too long: the system's words for it
        if not file.read(1):
            raise ThawError("an empty file")
    if path.suffix.lower() in HEIF and not READS_HEIF:
        raise ThawError("HEIC is read where the package pillow-heif is installed")
    try:
        with Image.open(path) as image:
            many = image.width * image.height > LARGE
    except Exception:
        many = False  # `decode` has the words for it
    return large.submit(_fitted, path, size, resize).result() if many else _fitted(path, size, resize)


def _fitted(path: Path, size: int, resize: str) -> np.ndarray:
    return images.centre(images.fit(images.decode(path, size), size, resize), size).copy()


def answer(seen: Iterable[Seen], run: Run, distances: Run | None = None) -> Iterator[Answer]:
    """Yield the answer to each photograph, in order.

    `run` maps batches of views to arrays of probabilities, `distances` the same batches to arrays of distances.
    """
    waiting: deque[Seen] = deque()

    def views() -> Iterator[np.ndarray]:
        for one in seen:
            waiting.append(one)
            if one.view is not None:
                yield one.view[None]

    def refused() -> Iterator[Answer]:
        while waiting and waiting[0].view is None:
            yield Answer(waiting.popleft())

    if distances is None:
        outputs = zip(chain.from_iterable(run(rebatch(views()))), repeat(None))
    else:
        batches, again = tee(rebatch(views()))  # holds what one of the two is ahead of the other
        outputs = zip(chain.from_iterable(run(batches)), chain.from_iterable(distances(again)), strict=True)
    for probabilities, distance in outputs:
        yield from refused()
        yield Answer(waiting.popleft(), probabilities, distance)
    yield from refused()
