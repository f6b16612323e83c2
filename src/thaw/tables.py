"""The tables that the stages join on: their columns, their checks, their reading and writing."""

from pathlib import Path

import polars as pl

from thaw.errors import ThawError, missing
from thaw.files import whole_file

SPLITS = ("train", "validation", "test")

IMAGES = {
    "image_id": pl.String,  # stable, unique, safe as a file name
    "path": pl.String,  # below the folder of images.csv
    "label": pl.String,
    "weight": pl.Float64,  # 1 unless the source gives a confidence
    "source": pl.String,
    "license": pl.String,
    "author": pl.String,
    "landing_url": pl.String,
    "sha256": pl.String,
    "width": pl.Int64,  # pixels, upright
    "height": pl.Int64,
}  # and any column of the source's own, prefixed `meta_`
SPLIT = {"image_id": pl.String, "label": pl.String, "weight": pl.Float64, "group": pl.String, "split": pl.String}
MISSING = dict.fromkeys(("image_id", "file", "reason"), pl.String)  # what the source could not give
ROWS = {"image_id": pl.String, "copy": pl.Int64}  # what a row of an array shows; copy 0 is the plain photograph


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write a table whole or not at all, sorted as it stands."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        # Written by Python: polars' own error on a full disk does not say that it is one.
        file.write(frame.clear().write_csv().encode())
        for rows in frame.iter_slices(100_000):
            file.write(rows.write_csv(include_header=False).encode())


def read(path: Path, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Read a table and check that it has the columns of `schema`; further ones are numbers where all of their values
    are, but `meta_` columns text."""
    try:
        header = pl.read_csv(path, n_rows=0, infer_schema=False, glob=False).columns
        absent = [name for name in schema if name not in header]
        if absent:
            raise ThawError(f"{path}: the columns {', '.join(absent)} are missing")
        known = {name: pl.String for name in header if name.startswith("meta_")}
        known |= {name: schema[name] for name in header if name in schema}
        frame = pl.read_csv(path, schema_overrides=known, infer_schema_length=None, glob=False)
    except FileNotFoundError:
        raise missing(path) from None
    except pl.exceptions.PolarsError as error:
        raise ThawError(f"{path} is not a readable table ({str(error).splitlines()[0]})") from error
    duplicated = frame.filter(frame.select("image_id", *(["copy"] if "copy" in header else [])).is_duplicated())
    if len(duplicated):
        raise ThawError(f"{path}: the id {duplicated['image_id'][0]} stands more than once")
    return frame


def read_images(raw: Path) -> pl.DataFrame:
    """Read `images.csv` of a raw data folder, sorted by id."""
    return read(raw / "images.csv", IMAGES).sort("image_id")
