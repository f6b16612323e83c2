"""Assign every photograph to train, validation or test, or to a fold, in `data/split.csv`: near-duplicates together.

The splits are stratified by the label and by the columns that the source names. They are drawn by hash, so that a few
photographs more or less move only few others. With several labels, they are stratified by each of these instead. A
split of the source's own stays as it is; what would leak from it into training is left out. `data/duplicates.csv` lists
the groups, and `reports/duplicates.jpg` shows the largest ones.

With folds, all photographs train the final model, so each is of the split `train`; the column `fold` says which of
those that measure do not see it.
"""

from pathlib import Path

import thaw  # noqa: F401 - first: it chooses the kernels of other libraries

# isort: split
import polars as pl
import polars.selectors as cs

from thaw.core import cache, label_values, params, store, tables
from thaw.core.columns import ADDED
from thaw.core.errors import run
from thaw.core.files import read_json
from thaw.splitting import (
    by_labels,
    candidates,
    duplicates,
    folds,
    listing,
    own_groups,
    splits,
    subsets,
    thumbnails,
)

PARAMS = Path("params.yaml")
RAW = Path("data/raw")
LABELS = RAW / "labels.csv"
OUTPUT = Path("data/split.csv")
LISTING = Path("data/duplicates.csv")
SHEET = Path("reports/duplicates.jpg")


def main() -> None:
    split = params.load(PARAMS).split
    table, pixels = tables.read_images(RAW), cache.of_environment()
    photographs = store.Photographs(RAW)
    source = read_json(RAW / "source.json")
    strata, classes = source["strata"], source["classes"]
    labels = label_values.read(LABELS, table["image_id"], classes)
    params.check_task(PARAMS, labels is not None)
    image_ids, paths = table["image_id"].to_list(), [photographs[path] for path in table["path"]]
    own, warnings = own_groups.read(table, split.group_columns)  # before the work
    subset = subsets.read(table, photographs, split)
    if split.after is None and split.time != "exif":
        warnings.append(f"split.time: {split.time} has no effect, since split.after is null")
    alike = image_ids
    if split.group_duplicates:
        small = thumbnails.read(paths, OUTPUT.parent, pixels)
        alike = duplicates.group_near_duplicates(image_ids, small, mirrored=split.mirrored_duplicates)
    for group, size in duplicates.oversized_groups(alike):
        print(f"split: warning: {size:,} photographs count as near-duplicates of {group}: check whether they are")
    for warning in warnings:
        print(f"split: warning: {warning}")
    table = table.with_columns(
        group=pl.Series(duplicates.connected(image_ids, alike, *own)),
        alike=pl.Series(alike),
        own_group=own[0] if own else pl.lit(""),
        subset=subset,
        is_added=pl.col("source") == ADDED,
        stratum=pl.concat_str("label", *strata, separator="/"),
    )
    choice = folds.choose(table, split)
    if choice.count is None and split.repeats > 1:
        print(f"split: warning: split.repeats: {split.repeats} has no effect, since there are no folds")
    params.check_folds(PARAMS, are_folds=choice.count is not None)
    if choice.count:
        drawn = folds.draw(table, choice.count, split)
        table = table.with_columns(*drawn, split=pl.lit("train"))
        for note in folds.notes(table, table["fold"]):
            print(f"split: warning: {note}")
    elif labels is not None:
        table = table.with_columns(split=by_labels.draw(table, labels, classes, split))
    else:
        table = table.with_columns(split=splits.draw(table, split))
        splits.check_weights(table)
    listing.write_sheet(paths, alike, SHEET, pixels)
    tables.write(listing.groups(table), LISTING)
    columns = [*tables.SPLIT, cs.matches(tables.FOLD_COLUMNS)]
    tables.write(table.filter(pl.col("split").is_not_null()).select(columns), OUTPUT)
    near_duplicates = len(table) - len(set(alike)) if split.group_duplicates else None
    print(f"split: {summary(table, choice.why, near_duplicates, split.after)}")


def summary(table: pl.DataFrame, why: str, near_duplicates: int | None, after: str | float | None) -> str:
    """Say how many photographs are in each split or fold, how many near-duplicates there are, and what becomes of them.

    Args:
        table: `group`, `subset`, `is_added`, `split` and, with folds, `fold` of each photograph.
        why: there are folds or not; empty if nothing was asked for.
        near_duplicates: None if none were looked for.
        after: `split.after`.
    """
    if "fold" in table.columns:
        repeats = len(table.select(cs.matches(tables.FOLD_COLUMNS)).columns)
        drawn = f", drawn {repeats} times" if repeats > 1 else ""
        parts = [f"{folds.sizes_text(table['fold'])}{drawn} ({why})"]
    else:
        sizes = ", ".join(f"{(table['split'] == name).sum():,} {name}" for name in tables.SPLITS)
        parts = [sizes + (f" ({why})" if why else "")]
    if near_duplicates is None:
        parts.append("near-duplicates were not looked for (split.group_duplicates)")
    else:
        parts.append(f"near-duplicates of others: {near_duplicates:,} (see {LISTING} and {SHEET})")
        if len(table) > candidates.MAX_ALL_PAIRS:
            parts.append(f"of so many, each was compared with the {candidates.NEAREST} most similar by their hashes")
    added = table.filter("is_added")
    if len(added) and "fold" not in table.columns:
        parts.append(
            f"of the {len(added):,} photographs of download.added, {(added['split'] == 'train').sum():,} train"
        )
    across = listing.across_subsets(table)
    held_out = "of your own validation or test split" if after is None else f"newer than {after}"
    own = f"near-duplicates of, or in one group with, photographs {held_out}"
    if across["left_out"]:
        parts.append(f"left out of training: {across['left_out']:,}, {own}")
    if across["training"]:
        parts.append(f"trained on all the same: {across['training']:,}, {own}")
    if across["validation"]:
        kin = "near-duplicates of, or in one group with, test photographs"
        parts.append(f"stay in validation: {across['validation']:,}, {kin}")
    return "; ".join(parts)


if __name__ == "__main__":
    run(main, stage=__doc__)
