"""When photographs were taken, and which are newer than a given time: `split.after`."""

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
from PIL import ExifTags, Image

from thaw.core.errors import ThawError, did_you_mean

EXIF = "exif"


def are_newer(images: pl.DataFrame, raw: Path, after: str | float, where: str) -> pl.Series:
    """Say of each image whether its time is later than `after`.

    A time is a number, or a date of ISO 8601 or as EXIF has it. A date without a time of day stands for the whole day:
    what was taken on it is not newer. A time with a time zone is compared in UTC.

    Args:
        images: images.csv.
        raw: Its folder.
        after: `split.after`.
        where: `split.time`: `exif`, what the camera wrote into each file; or the name of a column `meta_…`.

    Raises:
        ThawError: `after` or the time of an image is none, or the column is missing, or no image is newer, or all are.
    """
    texts, name = (_exif(images, raw), "EXIF") if where == EXIF else _column(images, where)
    parse = _number if isinstance(after, int | float) else _date
    what = "number" if parse is _number else "date"
    limit = parse(str(after))
    if limit is None:
        raise ThawError(f'split.after {after!r} is no {what}: it should be such as "2024-05-01" or a number')
    times = [parse(text) for text in texts]
    if without := [i for i, time in enumerate(times) if time is None]:
        first = images["image_id"][without[0]]
        example = f"{texts[without[0]]!r} is no {what}" if texts[without[0]] else "it is empty"
        raise ThawError(
            f"split.after: {len(without):,} of {len(times):,} photographs have no {what} in {name}, the first is "
            f"{first} ({example}){_EXIF_HINT if where == EXIF else ''}"
        )
    newer = pl.Series([_is_later(time, limit) for time in times], dtype=pl.Boolean)
    if newer.all() or not newer.any():
        in_order = sorted(times, key=None if parse is _number else str)
        first, last = in_order[0], in_order[-1]
        which = "all photographs are" if newer.all() else "no photograph is"
        raise ThawError(f"split.after: {which} newer than {after}; they are from {first} to {last}")
    return newer


_EXIF_HINT = "; split.time names a column with them instead"


def _column(images: pl.DataFrame, where: str) -> tuple[Sequence[str], str]:
    column = f"meta_{where.removeprefix('meta_')}"
    if column not in images.columns:
        named = [name for name in images.columns if name.startswith("meta_")]
        raise ThawError(
            f"split.time: the photographs have no column {column}{did_you_mean(column, [EXIF, *named])}; a table's "
            "column needs that name"
        )
    return images[column].fill_null("").to_list(), column


def _exif(images: pl.DataFrame, raw: Path) -> tuple[Sequence[str], str]:
    """Return when the camera took each photograph, as it wrote it; empty if the file does not say it."""
    return [_taken(raw / path) for path in images["path"]]


def _taken(path: Path) -> str:
    try:
        with Image.open(path) as image:
            text = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    except Exception:  # damaged EXIF raises errors of many types
        return ""
    return str(text or "").strip("\0 ")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> date | datetime | None:
    """Return a date, or a date with a time of day: without a time zone, in UTC if the text has one."""
    for parse in (date.fromisoformat, datetime.fromisoformat, _exif_time):
        with suppress(ValueError):
            time = parse(text)
            is_zoned = isinstance(time, datetime) and time.tzinfo
            return time.astimezone(UTC).replace(tzinfo=None) if is_zoned else time
    return None


def _exif_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y:%m:%d %H:%M:%S")


def _is_later(time: float | date | datetime, limit: float | date | datetime) -> bool:
    if isinstance(time, date) and isinstance(limit, datetime) and not isinstance(time, datetime):
        limit = limit.date()
    elif isinstance(time, datetime) and not isinstance(limit, datetime):
        time = time.date()
    return time > limit
