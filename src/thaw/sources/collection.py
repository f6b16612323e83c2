"""How the images of a source become `data/raw`, and who is named for them."""

import contextlib
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import polars.selectors as cs
from PIL import ExifTags, Image

from thaw.core import progress, store, tables
from thaw.core.cache import Cache
from thaw.core.encodings import printable
from thaw.core.errors import ThawError
from thaw.core.files import clone, write_json
from thaw.core.machine import usable_cores
from thaw.images import decoding
from thaw.images.pixel_values import UnknownDepthError
from thaw.sources import formats
from thaw.sources.base import ChangedError, FailingError, Listing, SourceImage, UnreachableError
from thaw.sources.own_files import raise_if_lost
from thaw.sources.shards import are_wanted, pack

SAFE_ENDING = re.compile(r"\.[a-z0-9]{1,8}")  # of a file name; others are dropped, since the content says what it is
# Training needs a probability for each view and class. Of 10,000 classes, the fewest that a split takes are 70,000
# photographs: the 42,000 that train, with 3 copies each, make a table of 6.7 GB, and it is needed several times.
MAX_CLASSES = 10_000
ANOTHER_FILE = "another file than the one that was labelled"
ROTATIONS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def collect(
    listing: Listing,
    raw: Path,
    added: Listing | None = None,
    cache: Cache | None = None,
    shards: int | str | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Copy the images of a listing into `raw/images`; write `images.csv`, `labels.csv`, `missing.csv`, `source.json`.

    To find damage, each image is decoded. The `cache` keeps the pixels for later stages. Of more images than `shards`,
    see `shards.are_wanted`, the files become shards.

    Of each class, these are the first `listing.max_per_class` images that can be read: the next image in the listing
    replaces one that cannot. With several labels, they are so many that show a class, and so many that do not; each
    keeps all that is known of it. All images of `added` come beside them; `listing.info` has the classes of both.

    Returns the table of the images (tables.IMAGES and the source's `meta_` columns, sorted by id) and that of the
    images that were left out (tables.MISSING).

    Raises:
        ThawError: Two images have the same id, there are fewer than two classes or over MAX_CLASSES, a class has fewer
            than `listing.min_per_class` images, over half of the files of one's own cannot be read, or the server
            failed at an image.
        UnreachableError: The network, the disk or the share fails.
        ChangedError: A file of one's own changed, or was removed, meanwhile.
    """
    parts = [listing]
    if added:
        parts.append(replace(added, info=replace(added.info, classes=listing.info.classes)))
    every = [image for part in parts for image in part.images]
    _check(every, listing.info.classes)
    (raw / "images").mkdir(parents=True)
    candidates: dict[_Kind, list[SourceImage]] = {}
    rows: dict[_Kind, list[dict[str, object]]] = {}
    missing: dict[str, tuple[str, str]] = {}
    results = []
    for part in parts:
        offered = _candidates(part)
        copied, lost = _copy_all(part, offered, raw, cache)
        results.append((part, copied, lost))
        candidates = {kind: candidates.get(kind, []) + images for kind, images in offered.items()}
        rows = {kind: rows.get(kind, []) + some for kind, some in copied.items()}
        missing |= lost
    for kind, copied in rows.items():
        if len(copied) < listing.min_per_class:
            why = next((f" ({missing[i.image_id][1]})" for i in candidates[kind] if i.image_id in missing), "")
            if not candidates[kind]:
                raise ThawError(f"no photograph {kind.text} is left: all have another label now, or were left out")
            if not copied:
                raise ThawError(f"no photograph {kind.text} could be read{why}")
            needed = f"a split needs {listing.min_per_class} or more"
            raise ThawError(f"{kind.few(len(copied))} left{why}: {needed}")
    for part, copied, lost in results:
        if part.read is None:  # otherwise the next image has replaced one that cannot be read
            lost = {image_id: said for image_id, said in lost.items() if said[1] != ANOTHER_FILE}  # readable
            _check_that_most_are_read(part, len({row["image_id"] for some in copied.values() for row in some}), lost)
    by_id = {row["image_id"]: row for copied in rows.values() for row in copied}
    missing |= {image.image_id: (_file(image), image.left_out) for image in every if image.left_out}
    images = pl.DataFrame(list(by_id.values()), infer_schema_length=None)
    images = images.with_columns(cs.starts_with("meta_").fill_null("")).sort("image_id")  # one part may lack a column
    left_out = sorted((image_id, _printable(file), reason) for image_id, (file, reason) in missing.items())
    left_out = pl.DataFrame(left_out, tables.MISSING, orient="row")
    if are_wanted(shards, len(images)):
        paths = images.select("image_id", "path").iter_rows()
        pack(raw / store.FOLDER, {image_id: store.name(path) for image_id, path in paths})
    tables.write(images, raw / "images.csv")
    tables.write(_labels(image for image in every if image.image_id in by_id), raw / "labels.csv")
    tables.write(left_out, raw / "missing.csv")
    write_json(raw / "source.json", asdict(listing.info))
    return images, left_out


def collected(raw: Path) -> set[str] | None:
    """Return the names of the files that `collect` has written to `raw/images`, as its table and its index say.

    None: the table is missing or damaged.
    """
    try:
        names = {store.name(path) for path in tables.read_images(raw)["path"]}
    except ThawError:
        return None
    return names | store.written_files(raw / store.FOLDER, names)


def attribution(table: pl.DataFrame, images: list[SourceImage]) -> pl.DataFrame:
    """List the author and licence of each image of `table` that has one, as Creative Commons licences require."""
    by_id = {image.image_id: image for image in images}
    licensed = table.filter(pl.any_horizontal(pl.col("license", "author", "landing_url") != ""))
    credited = [by_id[image_id] for image_id in licensed["image_id"]]
    return licensed.select(
        "image_id",
        pl.Series("title", [image.title for image in credited], pl.String),
        "author",
        pl.Series("author_url", [image.author_url for image in credited], pl.String),
        "license",
        "landing_url",
        "source",
    )


def _check(images: list[SourceImage], classes: Sequence[str]) -> None:
    repeated = [i for i, count in Counter(image.image_id for image in images).items() if count > 1]
    if repeated:
        paths = " and ".join(str(image.path) for image in images if image.image_id == min(repeated))
        raise ThawError(f"two photographs have the id {min(repeated)}: {paths}")
    count = len(classes)
    if count < 2 and not any(image.known for image in images):
        raise ThawError("a classifier needs at least two classes")
    if count > MAX_CLASSES:
        raise ThawError(f"{count:,} classes are too many: Thaw trains up to {MAX_CLASSES:,}; use broader classes")


class _Kind(NamedTuple):
    """A kind of images of which as many are taken as of any other."""

    label: str
    is_present: bool | None = None  # with several labels, whether the images show the class

    @property
    def text(self) -> str:
        """What its images are."""
        if self.is_present is None:
            return f"of the class {self.label!r}"
        return f"known {'' if self.is_present else 'not '}to show {self.label!r}"

    def few(self, count: int) -> str:
        """Say that there are only so many."""
        if self.is_present is None:
            return f"the class {self.label!r} has only {count} photographs"
        return f"only {count} photographs {self.text} are"


def _candidates(listing: Listing) -> dict[_Kind, list[SourceImage]]:
    """Return the images of each kind that may be taken, in the order of the listing."""
    several = any(image.known for image in listing.images)
    signs = (True, False) if several else (None,)
    candidates = {_Kind(label, sign): [] for label in listing.info.classes for sign in signs}
    for image in listing.images:
        if not image.left_out:
            kinds = [_Kind(label, is_present) for label, is_present, _ in image.known]
            for kind in kinds if several else [_Kind(image.label)]:
                candidates[kind].append(image)
    return candidates


def _labels(images: Iterable[SourceImage]) -> pl.DataFrame:
    """Return what is known of images with several labels: tables.LABELS, sorted by id and class; else no row."""
    rows = ((i.image_id, label, int(is_present), weight) for i in images for label, is_present, weight in i.known)
    return pl.DataFrame(sorted(rows), tables.LABELS, orient="row")


def _copy_all(
    listing: Listing, candidates: dict[_Kind, list[SourceImage]], raw: Path, cache: Cache | None
) -> tuple[dict[_Kind, list[dict[str, object]]], dict[str, tuple[str, str]]]:
    """Copy the images that count, tried in the order of the candidates of each kind.

    Returns their rows of `images.csv` by kind; and file and reason of each image that cannot be read, by id. An image
    of several kinds is copied once. Raises ThawError if the server failed at an image, after the other images of the
    round are read.
    """
    most = listing.max_per_class
    if listing.read is None:
        paths = {image.image_id: image.path for images in candidates.values() for image in images[:most]}
        decoding.announce(list(paths.values()), cache)
    waiting = {kind: iter(images) for kind, images in candidates.items()}
    rows: dict[_Kind, list[dict[str, object]]] = {kind: [] for kind in candidates}
    copied: dict[str, dict[str, object]] = {}
    missing: dict[str, tuple[str, str]] = {}
    failures: list[str] = []
    total = len({image.image_id for images in candidates.values() for image in images[:most]})
    with (
        ThreadPoolExecutor(listing.workers or usable_cores()) as pool,
        progress.bar("photographs", total) as bar,
    ):
        # In rounds: each replaces what the round before could not read. So the result does not depend on which thread
        # is faster.
        while batch := [
            (kind, image)
            for kind, images in waiting.items()
            for image in islice(images, None if most is None else most - len(rows[kind]))
        ]:
            new = {i.image_id: i for _, i in batch if i.image_id not in copied and i.image_id not in missing}
            results = pool.map(partial(_copy, listing, raw, cache), new.values())
            for image, result in zip(new.values(), results, strict=True):
                if isinstance(result, FailingError):
                    failures.append(f"{_file(image)}: {result}")
                elif isinstance(result, ThawError):
                    missing[image.image_id] = (_file(image), _reason(result, image))
                else:
                    copied[image.image_id] = result
                    bar.update()
            if failures:
                more = f" (and {len(failures) - 1:,} more)" if failures[1:] else ""
                raise ThawError(f"{failures[0]}{more}; run again to go on with what has arrived")
            for kind, image in batch:
                if image.image_id in copied:
                    rows[kind].append(copied[image.image_id])
    return rows, missing


def _check_that_most_are_read(listing: Listing, read: int, missing: dict[str, tuple[str, str]]) -> None:
    """Raise ThawError if over half of the images that were tried could not be read: the data are not as meant."""
    tried = read + len(missing)
    if 2 * len(missing) > tried:
        first = next(image for image in listing.images if image.image_id in missing)
        raise ThawError(
            f"{len(missing):,} of {tried:,} photographs cannot be read, over half of them; the first is "
            f"{printable(first.path)} ({missing[first.image_id][1]})"
        )


def _copy(listing: Listing, raw: Path, cache: Cache | None, image: SourceImage) -> dict[str, object] | ThawError:
    """Copy one image and return its row of `images.csv`, or the error why there is none."""
    ending = image.path.suffix.lower()
    if listing.read is None:
        ending = _own_ending(image.path)
    name = f"images/{image.image_id}{ending if SAFE_ENDING.fullmatch(ending) else ''}"
    try:
        if listing.read is None:
            height, width = _copy_own(image, raw / name, listing, cache)
        else:
            height, width = listing.read(image)
            if image.rotation:
                width, height = _rotate(image.path, raw / name, image.rotation)
            else:
                clone(image.path, raw / name)
    except (UnreachableError, ChangedError):
        raise
    except ThawError as error:
        return error
    return {
        "image_id": image.image_id,
        "path": name,
        "label": image.label,
        "weight": image.weight,
        "source": listing.info.name,
        "license": image.license or listing.info.license,
        "author": image.author,
        "landing_url": image.landing_url,
        "sha256": hashlib.sha256((raw / name).read_bytes()).hexdigest(),
        "width": width,
        "height": height,
        **{f"meta_{key}": value for key, value in image.meta.items()},
    }


def _copy_own(image: SourceImage, target: Path, listing: Listing, cache: Cache | None) -> tuple[int, int]:
    """Copy a file of one's own, check the copy and return its height and width: the original may change at any time.

    If only `listing.bits` says what its values mean, the copy is a PNG of 8 bits: no later stage has to know.

    Raises ThawError, with the reason, if the image is to be left out; ChangedError if the file changed meanwhile, or
    is gone although it was there when it was listed; UnreachableError if the disk or share fails.
    """
    try:
        before = _state(image.path)
        clone(image.path, target)
        changed = _state(image.path) != before
    except FileNotFoundError:
        if listing.seen and not os.path.lexists(image.path):
            raise ChangedError(_changed(image, "was removed")) from None
        raise ThawError("no such file") from None
    except OSError as error:
        raise_if_lost(error, image.path)
        if error.filename != str(image.path):  # the copy cannot be written: the disk may be full
            raise
        raise ThawError(f"cannot be read ({error.strerror})") from None
    if changed:
        raise ChangedError(_changed(image, "changed"))
    if image.labelled_sha256 and hashlib.sha256(target.read_bytes()).hexdigest() != image.labelled_sha256:
        target.unlink()
        raise ThawError(ANOTHER_FILE)
    try:
        kind = formats.kind(target)
        if kind.name and kind.problem:  # Pillow would open some of these, and show a preview
            raise ThawError(kind.problem)
        if kind.name == "JPEG" or listing.bits is None:
            return decoding.check(target, cache)
        return _in_8_bits(target, listing.bits)
    except ThawError as error:
        target.unlink()
        reason = str(error).removeprefix(f"{target}: ").replace(str(target), image.path.name)
        raise ThawError(kind.problem or reason) from None


def _own_ending(path: Path) -> str:
    """Return the ending of a file's name, or that of its format if the name does not say it, as FiftyOne expects."""
    ending = path.suffix.lower()
    try:
        kind = formats.kind(path)
    except (OSError, ValueError):  # copying it gives the reason
        return ending
    return ending if kind.problem else formats.ending(kind.name, ending)


def _in_8_bits(path: Path, bits: int) -> tuple[int, int]:
    """Write an image anew where its values mean something else without `bits`; return its height and width."""
    pixels = decoding.decode(path, bits=bits)
    try:
        is_same = np.array_equal(pixels, decoding.decode(path))
    except UnknownDepthError:
        is_same = False
    if not is_same:
        grey = decoding.grey_channel(pixels)
        Image.fromarray(pixels if grey is None else grey).save(path, "PNG", exif=_time_alone(path))
    return pixels.shape[:2]


def _time_alone(path: Path) -> bytes:
    """Return EXIF data with nothing but the time at which a photograph was taken; none if it does not say it."""
    kept = Image.Exif()
    with contextlib.suppress(Exception), Image.open(path) as image:  # damaged data: Pillow raises errors of many types
        if taken := image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal):
            kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
            return kept.tobytes()
    return b""


def _state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
        raise ThawError("not a file")
    return status.st_ino, status.st_size, status.st_mtime_ns


def _changed(image: SourceImage, what: str) -> str:
    return f"{printable(image.path)} {what} while the photographs were read: run again when nothing changes them"


def _rotate(source: Path, target: Path, degrees: int) -> tuple[int, int]:
    """Write a JPEG rotated counter-clockwise, without EXIF orientation; return its width and height."""
    with Image.open(source) as image:
        image = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
        rotated = image.transpose(ROTATIONS[degrees])
        # The finest setting in common use: at quality 95 with full chroma, the second encoding is invisible.
        rotated.save(target, "JPEG", quality=95, subsampling=0, exif=_time_alone(source))
    return rotated.size


def _file(image: SourceImage) -> str:
    return image.file or image.path.name


def _printable(name: str) -> str:
    """Return the name of a file as valid text: a name may contain any bytes."""
    return os.fsencode(name).decode(errors="replace")


def _reason(error: ThawError, image: SourceImage) -> str:
    """Return the message without the path: no output may contain a path of this machine."""
    return str(error).removeprefix(f"{image.path}: ").replace(str(image.path), image.path.name)
