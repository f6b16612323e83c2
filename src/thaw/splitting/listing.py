"""The photographs that share a group with others: as a table, as pictures, and in words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from thaw.core.cache import Cache
from thaw.core.store import Photograph
from thaw.images import contact_sheet, decoding
from thaw.parameters.split import HELD_OUT

MAX_GROUPS, MAX_IMAGES = 16, 8  # on the sheet: a row for each group
SHEET_SIZE = 112  # pixels of each image


def groups(images: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each image that shares a group with another, those of the largest group first.

    `images` has the columns `group`, `alike` (the group by near-duplication alone), `image_id`, `path` and `split`,
    which is null for an image that is left out. Returns these columns, and `action`: `kept` or `left out`.
    """
    sizes = pl.len().over("group")
    shared = (
        images.filter(sizes > 1)
        .with_columns(size=sizes)
        .sort("size", "group", "image_id", descending=[True, False, False])
    )
    action = pl.when(pl.col("split").is_null()).then(pl.lit("left out")).otherwise(pl.lit("kept"))
    return shared.select("group", "image_id", "path", "split", action.alias("action"), "alike")


def write_sheet(
    paths: Sequence[Photograph], near_duplicates: Sequence[str], sheet: Path, cache: Cache | None = None
) -> None:
    """Write the largest groups of near-duplicates as a contact sheet, a row for each: a blank one if there are none.

    Args:
        paths: the photographs.
        near_duplicates: the group of each.
        sheet: the JPEG file to write.
        cache: of decoded pixels.
    """
    members: dict[str, list[Photograph]] = {}
    for path, group in zip(paths, near_duplicates, strict=True):
        members.setdefault(group, []).append(path)
    largest = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_GROUPS]
    rows = [files[:MAX_IMAGES] for _, files in largest if len(files) > 1]
    columns = max(map(len, rows), default=1)
    images = np.full((max(1, len(rows)), columns, SHEET_SIZE, SHEET_SIZE, 3), 255, np.uint8)
    for row, files in zip(images, rows, strict=False):
        for column, path in enumerate(files):
            row[column] = decoding.fit(decoding.read(path, SHEET_SIZE, cache), SHEET_SIZE, "pad")
    contact_sheet.write(images, sheet)


def across_subsets(images: pl.DataFrame) -> dict[str, int]:
    """Count the images whose group is in more than one of the source's own subsets, or of the splits.

    `images` has the columns `group`, `subset` and `split`. Returns the numbers of those that are left out, that train
    beside validation or test (`training`), and those of validation in a group with one of test (`validation`).
    """
    held_out = pl.col("subset").is_in(HELD_OUT).any().over("group")
    with_test = (pl.col("split") == "test").any().over("group")
    counts = images.select(
        left_out=pl.col("split").is_null(),
        training=held_out & (pl.col("split") == "train"),
        validation=with_test & (pl.col("split") == "validation"),
    ).sum()
    return counts.row(0, named=True)
