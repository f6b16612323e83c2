"""The tables that the stages join on: their columns, and how they are read, checked and written."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from thaw.core.errors import ThawError, missing
from thaw.core.files import atomic_file

SPLITS = ("train", "validation", "test")
EVALUATED = ("validation", "test")  # the splits that models are measured on

IMAGES = {
    "image_id": pl.String,  # stable, unique, safe as a file name
    "path": pl.String,  # relative to the folder of images.csv
    "label": pl.String,
    "weight": pl.Float64,  # 1 unless the source gives a confidence
    "source": pl.String,
    "license": pl.String,
    "author": pl.String,
    "landing_url": pl.String,
    "sha256": pl.String,
    "width": pl.Int64,  # pixels, upright
    "height": pl.Int64,
}  # and further columns of the source, prefixed `meta_`
SPLIT = {"image_id": pl.String, "label": pl.String, "weight": pl.Float64, "group": pl.String, "split": pl.String}
LABELS = {  # of images with several labels, a row for each pair of which something is known; else none
    "image_id": pl.String,
    "label": pl.String,
    "value": pl.Int64,  # 1: present, 0: verified to be absent
    "weight": pl.Float64,
}
SAMPLE_ROWS = 1000  # of a table, that say what its columns hold
FOLD_COLUMNS = r"^fold(_\d+)?$"  # of split.csv, only with `split.folds`: the fold of each image, from 0; one a repeat
MISSING = dict.fromkeys(("image_id", "file", "reason"), pl.String)  # the images that were left out
ROWS = {  # the view in each row of an array
    "image_id": pl.String,
    "copy": pl.Int64,  # 0 is the plain image
    "preset": pl.String,  # of augmentation, that drew the copy; null for the plain image
}


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write a table as CSV, in the order of its rows; the file is complete or absent."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        # Python writes the file: the error of polars on a full disk does not say that the disk is full.
        file.write(frame.clear().write_csv().encode())
        for rows in frame.iter_slices(100_000):
            file.write(rows.write_csv(include_header=False).encode())


def read(path: Path, schema: dict[str, pl.DataType], key: Sequence[str] = ()) -> pl.DataFrame:
    """Read a table and check that it has the columns of `schema`, and each id (or id and copy, or `key`) once.

    Further columns are text if their name starts with `meta_`. Others are numbers if all of their values are.
    Raises ThawError if the file is missing or is not such a table.
    """
    try:
        header = pl.read_csv(path, n_rows=0, infer_schema=False, glob=False).columns
        absent = [name for name in schema if name not in header]
        if absent:
            raise ThawError(f"{path}: the columns {', '.join(absent)} are missing")
        dtypes = {name: pl.String for name in header if name.startswith("meta_")}
        dtypes |= {name: schema[name] for name in header if name in schema}
        frame = _read_csv(path, dtypes)
    except FileNotFoundError:
        raise missing(path) from None
    except pl.exceptions.PolarsError as error:
        raise ThawError(f"{path} is not a readable table ({str(error).splitlines()[0]})") from error
    key = key or ("image_id", *(["copy"] if "copy" in header else []))
    duplicated = frame.filter(frame.select(key).is_duplicated())
    if len(duplicated):
        raise ThawError(f"{path}: the id {duplicated['image_id'][0]} is there more than once")
    return frame


def _read_csv(path: Path, dtypes: dict[str, pl.DataType]) -> pl.DataFrame:
    """Read a table. Columns without a dtype have the one that all of their values allow.

    To look at all values of a million rows takes six times as long as to read them. So the first rows say what the
    others are to be, and all values are looked at only where one is something else.
    """
    first_rows = {"infer_schema_length": SAMPLE_ROWS, "n_rows": SAMPLE_ROWS}
    with contextlib.suppress(pl.exceptions.ComputeError):  # a value that is something else
        sample = pl.read_csv(path, schema_overrides=dtypes, glob=False, **first_rows)
        if not any(column.null_count() == len(sample) for column in sample if column.name not in dtypes):
            return pl.read_csv(path, schema_overrides=sample.schema, infer_schema_length=0, glob=False)
    return pl.read_csv(path, schema_overrides=dtypes, infer_schema_length=None, glob=False)


def tested(split: pl.DataFrame) -> pl.DataFrame:
    """Return those images of a table split.csv that models are tested on: with folds, all of them."""
    return split if "fold" in split.columns else split.filter(split="test")


def read_images(raw: Path) -> pl.DataFrame:
    """Read `images.csv` of a raw data folder, sorted by id."""
    return read(raw / "images.csv", IMAGES).sort("image_id")
