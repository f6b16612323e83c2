"""What is known of the data before any model: how many photographs, how large, how alike, how sure of their labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from thaw.tables import SPLITS

SIZES_NAMED = 6  # a source of one camera has one or two; of many sizes the commonest say little
WEIGHTS_NAMED = 8  # more distinct ones are counted in tenths


@dataclass(frozen=True)
class Health:
    counts: Mapping[str, Sequence[int]]  # split → photographs of each class, in their order
    sizes: Sequence[tuple[str, int]]  # the commonest, as text, and how many photographs have each
    distinct_sizes: int
    shortest: tuple[int, int, int]  # least, median and most pixels of the shorter side
    groups: int  # of near-duplicates, with two photographs or more
    grouped: int  # photographs in them
    largest_group: int
    disputed: Sequence[tuple[str, ...]]  # the ids of each group whose photographs have different labels
    weights: Sequence[tuple[str, Sequence[int]]]  # weight of the label → photographs of each class
    missing: Sequence[tuple[str, int]]  # why photographs were left out, and how many for each reason


def describe(images: pl.DataFrame, split: pl.DataFrame, missing: pl.DataFrame, classes: Sequence[str]) -> Health:
    """Describe the tables images.csv, split.csv and missing.csv."""
    counts = {part: _by_class(split.filter(split=part), classes) for part in SPLITS}
    sizes = images.select(size=pl.format("{} × {}", "width", "height"))["size"].value_counts()
    sizes = sizes.sort("count", "size", descending=[True, False])
    short = images.select(pl.min_horizontal("width", "height").alias("short"))["short"]
    groups = split.sort("image_id").group_by("group", maintain_order=True)
    groups = groups.agg("image_id", labels=pl.col("label").n_unique()).filter(pl.col("image_id").list.len() > 1)
    lengths = groups["image_id"].list.len()
    reasons = missing["reason"].value_counts().sort("count", "reason", descending=[True, False])
    return Health(
        counts=counts,
        sizes=list(sizes.head(SIZES_NAMED).iter_rows()),
        distinct_sizes=len(sizes),
        shortest=(int(short.min()), int(short.median()), int(short.max())),
        groups=len(groups),
        grouped=int(lengths.sum()),
        largest_group=int(lengths.max() or 0),
        disputed=[tuple(ids) for ids in groups.filter(pl.col("labels") > 1).sort("group")["image_id"].to_list()],
        weights=_weights(split, classes),
        missing=list(reasons.iter_rows()),
    )


def _by_class(frame: pl.DataFrame, classes: Sequence[str]) -> list[int]:
    counts = dict(frame["label"].value_counts().iter_rows())
    return [counts.get(name, 0) for name in classes]


def _weights(split: pl.DataFrame, classes: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Count each weight by class, the heaviest first; of many, those of each tenth (closed above)."""
    split = split.with_columns(pl.col("weight").round(3))  # 1/3 of one source is not always that of another
    if split["weight"].n_unique() <= WEIGHTS_NAMED:
        values = split["weight"].unique().sort(descending=True)
        return [(f"{weight:.3g}", _by_class(split.filter(weight=weight), classes)) for weight in values]
    most = split["weight"].max()
    edges = [most, *(most * i / 10 for i in range(9, -1, -1))]
    rows = []
    for high, low in pairwise(edges):
        least = pl.col("weight") >= low if low == 0 else pl.col("weight") > low
        inside = split.filter((pl.col("weight") <= high) & least)
        rows.append((f"{low:.3g}–{high:.3g}", _by_class(inside, classes)))
    return rows
