"""When photographs were taken, and which are newer than a given time: `split.after`."""

from collections.abc import Sequence

import polars as pl
from PIL import ExifTags

from thaw.core import columns, dates, prefetch, store
from thaw.core.errors import ThawError
from thaw.core.machine import usable_cores
from thaw.core.progress import track
from thaw.core.store import Photograph, Photographs

EXIF = "exif"
AHEAD = 256  # photographs whose dates are read before they are needed


def are_newer(images: pl.DataFrame, photographs: Photographs, after: str | float, where: str) -> pl.Series:
    """Say of each image whether its time is later than `after`: see `dates.newer`.

    Args:
        images: images.csv.
        photographs: Its photographs.
        after: `split.after`.
        where: `split.time`: `exif`, what the camera wrote into each file; or the name of a column `meta_…`.

    Raises:
        ThawError: `after` or the time of an image is none, or the column is missing, or no image is newer, or all are.
    """
    ids = images["image_id"].to_list()
    if where != EXIF:
        column = f"meta_{where.removeprefix('meta_')}"
        columns.check_name(column, images.columns, "split.time", [EXIF])
        newer = dates.newer(images[column].fill_null("").to_list(), ids, after, column)
    else:
        try:
            newer = dates.newer(_exif(images, photographs), ids, after, "EXIF")
        except ThawError as error:
            raise ThawError(f"{error}; split.time names a column with them instead") from None
    return pl.Series(newer, dtype=pl.Boolean)


def _exif(images: pl.DataFrame, photographs: Photographs) -> Sequence[str]:
    """Return when the camera took each photograph, as it wrote it; empty if the file does not say it."""
    files = (photographs[path] for path in images["path"])
    taken = prefetch.map_in_order(_taken, files, usable_cores(), AHEAD)
    return list(track(taken, "dates", "image", len(images)))


def _taken(photograph: Photograph) -> str:
    try:
        with store.open_image(photograph) as image:
            text = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    except Exception:  # damaged EXIF raises errors of many types
        return ""
    return str(text or "").strip("\0 ")
