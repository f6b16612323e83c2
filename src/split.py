"""Assign every photograph to train, validation or test in `data/split.csv`, near-duplicates together.

The splits are stratified by the label and by the columns that the source names. They are drawn by hash, so that a few
photographs more or less move only few others.
"""

from pathlib import Path

import polars as pl

from thaw.core import params, tables
from thaw.core.errors import run
from thaw.core.files import read_json
from thaw.splitting import duplicates, splits, thumbnails

RAW = Path("data/raw")
OUTPUT = Path("data/split.csv")


def main() -> None:
    split = params.load(Path("params.yaml")).split
    table = tables.read_images(RAW)
    strata = read_json(RAW / "source.json")["strata"]
    groups = table["image_id"].to_list()
    if split.group_duplicates:
        groups = duplicates.group_near_duplicates(groups, thumbnails.read([RAW / path for path in table["path"]]))
    for group, size in duplicates.oversized_groups(groups):
        print(f"split: warning: {size:,} photographs count as near-duplicates of {group}: check whether they are")
    subset = table["meta_subset"] if split.keep_subsets and "meta_subset" in table.columns else pl.lit("")
    table = table.with_columns(
        group=pl.Series(groups), subset=subset, stratum=pl.concat_str("label", *strata, separator="/")
    )
    table = table.with_columns(split=splits.draw(table, split))
    tables.write(table.select(list(tables.SPLIT)), OUTPUT)

    counts = ", ".join(f"{(table['split'] == name).sum():,} {name}" for name in tables.SPLITS)
    grouped = len(table) - table["group"].n_unique()
    print(f"split: {counts}; {grouped:,} near-duplicates are in the split of their original")


if __name__ == "__main__":
    run(main)
