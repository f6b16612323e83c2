"""Dates and numbers that say when a photograph was taken, as tables, cameras and params.yaml have them."""

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime

from thaw.core.errors import ThawError

EXAMPLE = 'it should be such as "2024-05-01" or a number'

Time = float | date | datetime


def newer(texts: Sequence[str], ids: Sequence[str], after: str | float, where: str) -> list[bool]:
    """Say of each photograph whether its time is later than `after`.

    A time is a number if `after` is one; otherwise a date of ISO 8601 or as EXIF has it. A date without a time of day
    stands for the whole day: what was taken on it is not newer. A time with a time zone is compared in UTC.

    Args:
        texts: The times.
        ids: Of the photographs, for errors.
        after: `split.after`.
        where: What the times are from, for errors.

    Raises:
        ThawError: `after` or the time of a photograph is none, or no photograph is newer, or all are.
    """
    parse = _number if isinstance(after, int | float) else parse_date
    what = "number" if parse is _number else "date"
    limit = parse(str(after))
    if limit is None:
        raise ThawError(f"split.after {after!r} is no {what}: {EXAMPLE}")
    times = [parse(text) for text in texts]
    if without := [i for i, time in enumerate(times) if time is None]:
        first = texts[without[0]]
        example = f"{first!r} is no {what}" + _hint(first, what) if first else "it is empty"
        raise ThawError(
            f"split.after: {len(without):,} of {len(times):,} photographs have no {what} in {where}, the first is "
            f"{ids[without[0]]} ({example})"
        )
    later = [_is_later(time, limit) for time in times]
    if all(later) or not any(later):
        in_order = sorted(times, key=None if parse is _number else str)
        which = "all photographs are" if all(later) else "no photograph is"
        raise ThawError(f"split.after: {which} newer than {after}; they are from {in_order[0]} to {in_order[-1]}")
    return later


def parse_date(text: str) -> date | datetime | None:
    """Return a date, or a date with a time of day: without a time zone, in UTC if the text has one. None: it is none.

    A date such as 03/04/2024 is none: in some countries it is of March, in others of April.
    """
    for parse in (date.fromisoformat, datetime.fromisoformat, _exif_time):
        with suppress(ValueError, OverflowError):  # the latter: a zone takes it beyond the years 1 to 9999
            time = parse(text)
            is_zoned = isinstance(time, datetime) and time.tzinfo
            return time.astimezone(UTC).replace(tzinfo=None) if is_zoned else time
    return None


def _hint(text: str, what: str) -> str:
    if what == "date" and _number(text) is not None:
        return "; split.after would have to be a number, too"
    if what == "number" and parse_date(text):
        return "; split.after would have to be a date in quotes, too"
    return '; dates are such as "2024-05-01"' if what == "date" else ""


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _exif_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y:%m:%d %H:%M:%S")


def _is_later(time: Time, limit: Time) -> bool:
    if isinstance(time, date) and isinstance(limit, datetime) and not isinstance(time, datetime):
        limit = limit.date()
    elif isinstance(time, datetime) and not isinstance(limit, datetime):
        time = time.date()
    return time > limit
