"""Assign every photograph to train, validation or test in `data/split.csv`, near-duplicates together.

The splits are stratified by the label and by the columns that the source names. They are drawn by hash, so that a few
photographs more or less move only few others. A split of the source's own stays as it is; what would leak from it into
training is left out. `data/duplicates.csv` lists the groups, and `reports/duplicates.jpg` shows the largest ones.
"""

from pathlib import Path

import thaw  # noqa: F401 - first: it chooses the kernels of other libraries

# isort: split
import polars as pl

from thaw.core import params, tables
from thaw.core.errors import run
from thaw.core.files import read_json
from thaw.splitting import duplicates, listing, splits, thumbnails

RAW = Path("data/raw")
OUTPUT = Path("data/split.csv")
LISTING = Path("data/duplicates.csv")
SHEET = Path("reports/duplicates.jpg")


def main() -> None:
    split = params.load(Path("params.yaml")).split
    table = tables.read_images(RAW)
    strata = read_json(RAW / "source.json")["strata"]
    image_ids, paths = table["image_id"].to_list(), [RAW / path for path in table["path"]]
    alike = image_ids
    if split.group_duplicates:
        small = thumbnails.read(paths, OUTPUT.parent)
        alike = duplicates.group_near_duplicates(image_ids, small, mirrored=split.mirrored_duplicates)
    for group, size in duplicates.oversized_groups(alike):
        print(f"split: warning: {size:,} photographs count as near-duplicates of {group}: check whether they are")
    own_groups = [table["meta_group"].to_list()] if "meta_group" in table.columns else []
    subset = table["meta_subset"].fill_null("") if split.keep_subsets and "meta_subset" in table.columns else pl.lit("")
    table = table.with_columns(
        group=pl.Series(duplicates.connected(image_ids, alike, *own_groups)),
        subset=subset,
        stratum=pl.concat_str("label", *strata, separator="/"),
    )
    table = table.with_columns(split=splits.draw(table, split))
    splits.check_weights(table)
    listing.write_sheet(paths, alike, SHEET)
    tables.write(listing.groups(table), LISTING)
    tables.write(table.filter(pl.col("split").is_not_null()).select(list(tables.SPLIT)), OUTPUT)
    print(f"split: {summary(table, len(table) - len(set(alike)) if split.group_duplicates else None)}")


def summary(table: pl.DataFrame, near_duplicates: int | None) -> str:
    """Say how many photographs are in each split, how many near-duplicates there are, and what is done with them.

    `near_duplicates` is None if none were looked for.
    """
    parts = [", ".join(f"{(table['split'] == name).sum():,} {name}" for name in tables.SPLITS)]
    if near_duplicates is None:
        parts.append("near-duplicates were not looked for (split.group_duplicates)")
    else:
        parts.append(f"near-duplicates of others: {near_duplicates:,} (see {LISTING} and {SHEET})")
    across = listing.across_subsets(table)
    own = "near-duplicates of, or in one group with, photographs of your own validation or test split"
    if across["left_out"]:
        parts.append(f"left out of training: {across['left_out']:,}, {own}")
    if across["training"]:
        parts.append(f"trained on all the same: {across['training']:,}, {own}")
    if across["validation"]:
        parts.append(f"stay in validation: {across['validation']:,}, near-duplicates of test photographs")
    return "; ".join(parts)


if __name__ == "__main__":
    run(main)
