"""What a person's photographs are: listed by their source, and a sample of them opened."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

import polars as pl
from PIL import Image

from thaw.core import progress, store, tables
from thaw.core.columns import ADDED, as_groups
from thaw.core.encodings import printable
from thaw.core.errors import ThawError
from thaw.images import decoding
from thaw.parameters.split import HELD_OUT
from thaw.sources import formats
from thaw.sources.base import Listing, SourceImage, UnreachableError, known_columns
from thaw.sources.own_files import raise_if_lost
from thaw.sources.registry import SOURCES

OPENED = 400  # photographs whose size is read; the median of as many is close to that of a million
MAX_SECONDS = 20.0  # for opening them, as from a slow share
DECODED = 12  # photographs that are decoded, to see how long it takes


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        source: `folder` or `table`.
        path: absolute.
        listing: of all photographs, as the source lists them.
        sizes: width and height in pixels of the photographs that were opened, in the order of the listing.
        unreadable: why those that were opened and are no readable photographs are none, each with its path.
        decode_seconds: for one photograph, on one core.
    """

    source: str
    path: Path
    listing: Listing
    sizes: Sequence[tuple[int, int]]
    unreadable: Sequence[str]
    decode_seconds: float

    @cached_property
    def used(self) -> list[SourceImage]:
        return [image for image in self.listing.images if not image.left_out]

    @cached_property
    def class_counts(self) -> list[tuple[str, int]]:
        """The classes, in their order, with the number of their photographs."""
        counts = Counter(image.label for image in self.used)
        return [(name, counts[name]) for name in self.listing.info.classes]

    @cached_property
    def subset_counts(self) -> dict[str, int]:
        """How many photographs their owner put into each split; empty if nobody did."""
        counts = Counter(image.meta.get("subset", "") for image in self.used)
        return {name: counts[name] for name in tables.SPLITS if counts[name]} if any(counts.keys() - {""}) else {}

    @cached_property
    def has_own_split(self) -> bool:
        """Whether some photographs must be in validation or test; or in training, where others may be anywhere."""
        subsets = {image.meta.get("subset", "") for image in self.used}
        return not subsets.isdisjoint(HELD_OUT) or {"train", ""} <= subsets

    def group_sizes(self, columns: Iterable[str]) -> dict[str, Counter]:
        """Return column → group → how many photographs are in it: of the source's own groups, and of columns `meta_…`.

        A column without any group is left out.
        """
        of_columns = {}
        for column in dict.fromkeys(["meta_group", *columns]):
            values = as_groups([image.meta.get(column.removeprefix("meta_")) for image in self.used])
            of_columns[column] = Counter(value for value in values if value)
        return {column: sizes for column, sizes in of_columns.items() if sizes}

    @property
    def median_size(self) -> tuple[int, int]:
        return sorted(self.sizes, key=lambda size: size[0] * size[1])[len(self.sizes) // 2]

    @property
    def median_short_side(self) -> float:
        return median(min(size) for size in self.sizes)

    @property
    def median_aspect(self) -> float:
        """The longer side divided by the shorter one."""
        return median(max(size) / min(size) for size in self.sizes)


def list_photographs(source: str, section: object, path: Path) -> Listing:
    """List the photographs as the stage `download` will.

    Args:
        source: its name in `download.source`.
        section: its section of the parameters, with the path.
        path: where the photographs are.

    Raises:
        ThawError: one line, if there are no two classes of photographs; it says where they may be.
    """
    try:
        return SOURCES[source].find(section)
    except UnreachableError:
        raise
    except ThawError as error:
        raise ThawError(str(error).replace(f"download.{source}.path {path}", str(path))) from None


def open_sample(source: str, path: Path, listing: Listing) -> Survey:
    """Open some of the photographs; raises ThawError if none of these can be read, or if the disk fails."""
    used = [image.path for image in listing.images if not image.left_out]
    sizes, readable, unreadable, start = [], [], [], time.monotonic()
    for image in progress.track(_evenly(used, OPENED), "opened", "image", min(OPENED, len(used))):
        try:
            sizes.append(_size(image))
            readable.append(image)
        except UnreachableError:
            raise
        except ThawError as error:
            unreadable.append(str(error))
        if time.monotonic() - start > MAX_SECONDS and readable:
            break
    if not readable:
        raise ThawError(f"none of the {len(unreadable):,} photographs that were opened can be read: {unreadable[0]}")
    seconds = []
    for image in _evenly(readable, DECODED):
        begin = time.thread_time()  # of this core: what else runs has no effect
        try:
            decoding.check(image)
        except ThawError as error:
            unreadable.append(str(error))
        seconds.append(time.thread_time() - begin)
    return Survey(source, path, listing, sizes, unreadable, sum(seconds) / len(seconds))


def changes_since(raw: Path, survey: Survey) -> dict[str, int]:
    """Count the photographs that are new, gone or changed since a run copied them to `raw`; empty if none is.

    A photograph has changed if its label, weight, split, group or another column has, or the size of its file. With
    `download.bits`, a copy may have another size than its original: then the stage `fingerprints` alone can tell.
    """
    if not all((raw / name).exists() for name in ("images.csv", "missing.csv")):
        return {}
    of_source = tables.read_images(raw).filter(pl.col("source") != ADDED)
    copied = {row["image_id"]: row for row in of_source.iter_rows(named=True)}
    unusable = set(tables.read(raw / "missing.csv", tables.MISSING)["image_id"])
    listed = {image.image_id: image for image in survey.used if image.image_id not in unusable}
    photographs = store.Photographs(raw)
    both = listed.keys() & copied.keys()
    changed = [image_id for image_id in both if _differs(listed[image_id], copied[image_id], photographs)]
    counts = {
        "new": len(listed.keys() - copied.keys()), "gone": len(copied.keys() - listed.keys()), "changed": len(changed),
    }  # fmt: skip
    return {what: count for what, count in counts.items() if count}


def as_table(survey: Survey) -> pl.DataFrame:
    """Return the columns of images.csv that a split depends on, but for the times in the files."""
    return pl.DataFrame(known_columns(survey.used) | {"weight": [image.weight for image in survey.used]})


def _evenly(items: Sequence[Path], count: int) -> list[Path]:
    """Return up to `count` of the items, spread over all of them."""
    count = min(count, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def _size(path: Path) -> tuple[int, int]:
    """Return width and height as the header of a file says them; raises ThawError with one line."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise_if_lost(error, path)
        why = error.strerror or _problem(path)
    except Image.DecompressionBombError:
        why = f"over {decoding.MAX_PIXELS / 1e6:.0f} megapixels"
    except Exception as error:  # Pillow's plugins raise errors of many types on a damaged file
        why = f"damaged ({error})"
    raise ThawError(f"{printable(path)}: {why}")


def _problem(path: Path) -> str:
    try:
        return formats.kind(path).problem or formats.UNREADABLE
    except OSError:  # it is gone by now
        return formats.UNREADABLE


def _differs(image: SourceImage, row: dict[str, object], photographs: store.Photographs) -> bool:
    meta = {f"meta_{key}": value for key, value in image.meta.items()}
    if (image.label, image.weight) != (row["label"], row["weight"]):
        return True
    if any((row.get(key) or "") != value for key, value in meta.items()):
        return True
    try:
        return image.path.stat().st_size != store.byte_count(photographs[row["path"]])
    except OSError:
        return True
