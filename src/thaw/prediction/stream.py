"""From the names of images to a model's predictions, in the order of the names, at the speed of the engine.

The prediction for an image that cannot be read is its error. The others go on.
"""

import argparse
import fnmatch
import functools
import glob
import importlib.util
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat, tee
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thaw.core import prefetch, store
from thaw.core.errors import ThawError
from thaw.core.machine import usable_cores
from thaw.core.store import Member, Photograph
from thaw.engines.inference import Run, rebatch
from thaw.images.views import network_input
from thaw.prediction.sheet import is_sheet
from thaw.sources import formats
from thaw.sources.leftovers import is_leftover

LEFTOVER = "hidden, or a leftover of a program"
LINK = "a link to a folder"
SHEET = "a contact sheet of predictions"
MAX_AHEAD = 32  # images decoded before the engine needs them: enough to keep every core busy, little memory
MAX_PARALLEL_PIXELS = 32_000_000  # a larger image may take one or two gigabytes: these are decoded one at a time
# Pillow keeps this many blocks of pixels, of at most 16 MB each, for the next image. New memory from the system is
# cleared first, which costs a quarter of the time that a JPEG takes.
Image.core.set_blocks_max(8)

# Photographs of iPhones are HEIC. Pillow reads them if the package pillow-heif is installed.
READS_HEIF = importlib.util.find_spec("pillow_heif") is not None
if READS_HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()


@dataclass(frozen=True)
class LoadedImage:
    """An image as the network receives it, or the error why there is none."""

    path: str
    view: np.ndarray | None = None  # (size, size, 3) uint8 RGB; or what `load_with` has read
    error: str | None = None
    source: Photograph | None = None  # what was read


@dataclass(frozen=True)
class Prediction:
    """What the network returns for an image; without probabilities if the image has an error."""

    image: LoadedImage
    probabilities: np.ndarray | None = None  # (classes,) float32
    distance: float | None = None  # from the training images, if it is measured; see `ood`


def expand(
    names: Iterable[str | LoadedImage], left_out: dict[Path, str] | None = None
) -> Iterator[LoadedImage | Photograph]:
    """Yield the images that names stand for.

    A name is a file, a folder with all that lies below it, or a pattern (`*.jpg`). A file may have any ending, and may
    lie in a shard of its folder. In a folder the files that are pictures by their content are taken, as in training
    (`formats.kind`), sorted by name, before the subfolders. A name without any image is a LoadedImage with an error;
    one that has an error already is passed on.

    `left_out` receives the other files of folders, links to folders, and what is hidden or a leftover of a program,
    each with its reason.
    """
    left_out = {} if left_out is None else left_out
    shards = functools.cache(_shards)
    for name in names:
        if isinstance(name, LoadedImage):
            yield name
            continue
        path = Path(name)
        if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises on a name that the system refuses
            yield from _expand_folder(path, left_out)
        elif os.path.lexists(name):
            yield path
        elif members := shards(path.parent):
            yield from _expand_members(path, members)
        elif glob.has_magic(name):
            yield from _expand_pattern(name, left_out)
        else:
            yield path


def _shards(folder: Path) -> store.Shards | None:
    return store.Shards(folder) if store.has_shards(folder) else None


def _expand_members(path: Path, shards: store.Shards) -> Iterator[LoadedImage | Photograph]:
    """Yield the photographs in shards that a name stands for: a path as if they were files, or a pattern."""
    if path.name in shards:
        yield shards[path.name]
    elif matching := fnmatch.filter(shards.names, path.name) if glob.has_magic(path.name) else []:
        yield from map(shards.__getitem__, matching)
    else:
        yield path


def _expand_pattern(pattern: str, left_out: dict[Path, str]) -> Iterator[LoadedImage | Photograph]:
    """Yield each image of a pattern once: `**` matches a folder and also what lies in it."""
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - absolute ones too
    if not matches:
        yield LoadedImage(pattern, error="no file matches")
    folders = {match for match in matches if os.path.isdir(match)}  # noqa: PTH112 - as above
    yielded: set[LoadedImage | Photograph] = set()
    for match in matches:
        if match in folders and not folders.isdisjoint(match.parents):
            continue
        for item in _expand_folder(match, left_out) if match in folders else [match]:
            if item not in yielded:
                left_out.pop(item, None)  # it is named, whatever it is
                yield item
            yielded.add(item)


def _expand_folder(folder: Path, left_out: dict[Path, str]) -> Iterator[LoadedImage | Photograph]:
    is_empty = True
    errors: list[OSError] = []

    def unread() -> Iterator[LoadedImage]:
        while errors:
            error = errors.pop(0)
            yield LoadedImage(str(error.filename), error=f"cannot be read: {error.strerror}")

    for root, folders, files in os.walk(folder, onerror=errors.append):
        is_empty &= not errors
        yield from unread()
        passed = {name: LEFTOVER for name in folders if is_leftover(name, is_folder=True)}
        passed |= {name: LEFTOVER for name in files if is_leftover(name, is_folder=False)}
        passed |= {name: LINK for name in folders if os.path.islink(os.path.join(root, name))}  # noqa: PTH114, PTH118
        folders[:] = sorted(name for name in folders if name not in passed)
        if shards := _shards(Path(root)):
            is_empty = False
            yield from map(shards.__getitem__, shards.names)
        for name in sorted(set(files) - passed.keys() - (shards.files if shards else set())):
            if why := _no_picture(Path(root, name)):
                passed[name] = why
            else:
                is_empty = False
                yield Path(root, name)
        left_out |= {Path(root, name): why for name, why in passed.items()}
    is_empty &= not errors
    yield from unread()
    if is_empty:
        yield LoadedImage(str(folder), error="no photograph in this folder")


def _no_picture(path: Path) -> str:
    """Return why a file is no picture; an empty text if it is one, or if only reading it tells."""
    try:
        kind = formats.kind(path)
    except OSError:
        return ""
    if kind.is_picture and is_sheet(path):
        return SHEET
    return "" if kind.is_picture else kind.problem


def refuse_overwriting(
    items: Iterable[LoadedImage | Photograph], outputs: Iterable[Path]
) -> Iterator[LoadedImage | Photograph]:
    """Yield the items; raises ThawError at an image that one of the output files would overwrite.

    A contact sheet of an earlier prediction is passed over: it is no photograph.
    """
    existing = {os.path.realpath(path) for path in outputs if path.exists() and not is_sheet(path)}
    sheets = {os.path.realpath(path) for path in outputs if is_sheet(path)}
    for item in items:
        if sheets and isinstance(item, Path) and os.path.realpath(item) in sheets:
            continue
        if existing and isinstance(item, Path) and os.path.realpath(item) in existing:
            raise ThawError(f"{item} is one of the photographs and would be overwritten: give another name")
        yield item


def load_images(
    items: Iterable[LoadedImage | Photograph], size: int, resize: str, bits: int | None = None
) -> Iterator[LoadedImage]:
    """Yield each image as the network receives it, in order. An item that has an error already is passed on.

    `size`, `resize` and `bits` are those of `network_input`.
    """
    return load_with(items, functools.partial(network_input, size=size, resize=resize, bits=bits))


def load_with(items: Iterable[LoadedImage | Photograph], read: Callable[[Photograph], Any]) -> Iterator[LoadedImage]:
    """Yield each image with what `read` returns for its file as its view, in order.

    An item that has an error already is passed on. An error of `read` becomes the error of the image.

    Images are read on one thread per core, and large ones on a single thread for all. (A lock would not do: the
    allocator keeps freed memory for each thread, so each thread would come to hold the memory of a large image.)
    """

    def read_view(path: Photograph) -> Any:
        return large_images.submit(read, path).result() if _is_large(path) else read(path)

    def load(item: LoadedImage | Photograph) -> LoadedImage:
        return item if isinstance(item, LoadedImage) else _load(item, read_view)

    with ThreadPoolExecutor(1) as large_images:
        yield from prefetch.map_in_order(load, items, usable_cores(), MAX_AHEAD)


def _load(path: Photograph, read_view: Callable[[Photograph], Any]) -> LoadedImage:
    """Read an image. Any error becomes the error of the image."""
    try:
        _check_file(path)
        return LoadedImage(str(path), view=read_view(path), source=path)
    except ThawError as error:
        return LoadedImage(str(path), error=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return LoadedImage(str(path), error=f"cannot be read: {error.strerror}")
    except Exception as error:  # the file may hold anything, and so a decoder may raise anything
        return LoadedImage(str(path), error=f"damaged ({type(error).__name__}: {error})")


def _check_file(path: Photograph) -> None:
    """Raise what is clearer than a decoder's error, and refuse what a decoder would show only a preview of."""
    if isinstance(path, Member):
        return  # `download` has checked it
    if path.exists() and not path.is_file():
        raise ThawError("not a file")  # reading a pipe or a device would never end
    check_kind(formats.kind(path))  # raises OSError, with a reason, for a missing permission or a name too long


def check_kind(kind: formats.Kind) -> None:
    """Raise ThawError for a file of a kind that a decoder does not read, or reads only a preview of."""
    if kind.name == "HEIC" and READS_HEIF:
        return
    if kind.name == "HEIC":
        raise ThawError("HEIC is read where the package pillow-heif is installed")
    if kind.problem not in ("", formats.NO_IMAGE, formats.UNREADABLE):
        raise ThawError(kind.problem)


def _is_large(path: Photograph) -> bool:
    try:
        with store.open_image(path) as image:
            return image.width * image.height > MAX_PARALLEL_PIXELS
    except Exception:
        return False  # `network_input` raises a better error


def predict(images: Iterable[LoadedImage], run: Run, measure: Run | None = None) -> Iterator[Prediction]:
    """Yield the prediction for each image, in order.

    `run` maps batches of views (n, size, size, 3) to arrays of probabilities, `measure` the same batches to arrays of
    distances. The arrays follow the order of the views; they may be of other lengths than the batches.
    """
    pending: deque[LoadedImage] = deque()

    def views() -> Iterator[np.ndarray]:
        for image in images:
            pending.append(image)
            if image.view is not None:
                yield image.view[None]

    def unread() -> Iterator[Prediction]:
        while pending and pending[0].view is None:
            yield Prediction(pending.popleft())

    if measure is None:
        outputs = zip(chain.from_iterable(run(rebatch(views()))), repeat(None))
    else:
        batches, same_batches = tee(rebatch(views()))  # keeps the batches that only one of the two has read
        outputs = zip(chain.from_iterable(run(batches)), chain.from_iterable(measure(same_batches)), strict=True)
    for probabilities, distance in outputs:
        yield from unread()
        yield Prediction(pending.popleft(), probabilities, distance)
    yield from unread()


def add_bits(parser: argparse.ArgumentParser) -> None:
    """Add the option `--bits` to the parser of a script."""

    def bits(text: str) -> int:
        if not text.isdecimal() or not 8 <= int(text) <= 16:
            raise argparse.ArgumentTypeError(f"should be from 8 to 16, not {text}")
        return int(text)

    parser.add_argument("--bits", type=bits, metavar="N", help="of values in 16 bits, where a file does not say it")
