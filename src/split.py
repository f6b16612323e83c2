"""Assign every photograph to train, validation or test in `data/split.csv`, near-duplicates together.

Stratified by label and by the columns that the source names; drawn by hash, so that the split is stable.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from thaw import duplicates, images, params, splits, tables
from thaw.errors import run
from thaw.files import read_json

RAW = Path("data/raw")
OUTPUT = Path("data/split.csv")
BLOCK = 512  # photographs handed to the threads at a time: what waits for its turn is memory, too
LEAST = 128  # pixels a side to decode: four for each of a thumbnail's


def main() -> None:
    split = params.load(Path("params.yaml")).split
    table = tables.read_images(RAW)
    strata = read_json(RAW / "source.json")["strata"]
    groups = table["image_id"].to_list()
    if split.group_duplicates:
        groups = duplicates.group_near_duplicates(groups, thumbnails([RAW / path for path in table["path"]]))
    for group, size in duplicates.oversized_groups(groups):
        print(f"split: warning: {size:,} photographs count as near-duplicates of {group}: look whether they are")
    subset = table["meta_subset"] if split.keep_subsets and "meta_subset" in table.columns else pl.lit("")
    table = table.with_columns(
        group=pl.Series(groups), subset=subset, stratum=pl.concat_str("label", *strata, separator="/")
    )
    table = table.with_columns(split=splits.draw(table, split))
    tables.write(table.select(list(tables.SPLIT)), OUTPUT)

    counts = ", ".join(f"{(table['split'] == part).sum():,} {part}" for part in tables.SPLITS)
    grouped = len(table) - table["group"].n_unique()
    print(f"split: {counts}; {grouped:,} near-duplicates kept with the photograph that they repeat")


def thumbnails(paths: list[Path]) -> np.ndarray:
    """Return the (n, s, s) uint8 thumbnails by which near-duplicates are found."""
    small = np.empty((len(paths), duplicates.SIDE, duplicates.SIDE), np.uint8)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(desc="near-duplicates", total=len(paths), disable=None, unit="image") as bar,
    ):
        for start in range(0, len(paths), BLOCK):
            block = paths[start : start + BLOCK]
            decoded = pool.map(lambda path: duplicates.thumbnail(images.decode(path, least=LEAST)), block)
            for i, thumbnail in enumerate(decoded, start):
                small[i] = thumbnail
            bar.update(len(block))
    return small


if __name__ == "__main__":
    run(main)
