"""Assign every photograph to train, validation or test in `data/split.csv`, near-duplicates together.

Stratified by label and by the columns that the source names; drawn by hash, so that the split is stable.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from thaw import duplicates, images, params, splits, tables
from thaw.errors import run

RAW = Path("data/raw")
OUTPUT = Path("data/split.csv")


def main() -> None:
    split = params.load(Path("params.yaml")).split
    table = tables.read_images(RAW)
    strata = json.loads((RAW / "source.json").read_text())["strata"]
    groups = table["image_id"].to_list()
    if split.group_duplicates:
        groups = duplicates.group_near_duplicates(groups, thumbnails([RAW / path for path in table["path"]]))
    subset = table["meta_subset"] if split.keep_subsets and "meta_subset" in table.columns else pl.lit("")
    table = table.with_columns(
        group=pl.Series(groups), subset=subset, stratum=pl.concat_str("label", *strata, separator="/")
    )
    table = table.with_columns(split=splits.draw(table, split))
    tables.write(table.select(list(tables.SPLIT)), OUTPUT)

    counts = ", ".join(f"{(table['split'] == part).sum():,} {part}" for part in tables.SPLITS)
    grouped = len(table) - table["group"].n_unique()
    print(f"split: {counts}; {grouped:,} near-duplicates kept with the photograph that they repeat")
    for group, size in duplicates.oversized_groups(groups):
        print(f"split: warning: {size:,} photographs count as near-duplicates of {group}: look whether they are")


def thumbnails(paths: list[Path]) -> np.ndarray:
    """Return the (n, s, s) uint8 thumbnails by which near-duplicates are found."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        small = pool.map(lambda path: duplicates.thumbnail(images.decode(path, least=128)), paths)
        return np.stack(list(tqdm(small, "near-duplicates", len(paths), disable=None, unit="image")))


if __name__ == "__main__":
    run(main)
