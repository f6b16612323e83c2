"""Assign images to train, validation and test: stratified, groups kept whole, stable when the data change a little."""

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING

import polars as pl

from thaw.core.errors import ThawError
from thaw.core.tables import SPLITS

if TYPE_CHECKING:
    from thaw.parameters.split import Split

HELD_OUT = ("test", "validation")  # assigned first, in this order; the rest trains


def draw(images: pl.DataFrame, params: "Split") -> pl.Series:
    """Return the split of each image, in the order of the rows.

    Every image has a hash of its id and the seed. A group takes the smallest hash of its images, and belongs to the
    stratum of that image. The groups of a stratum are sorted by their hashes. The first ones are the test split, the
    next ones the validation split, the rest trains. So adding or removing a few images moves only those at the two
    borders, and the order of the rows has no effect.

    A group of near-duplicates larger than the smallest split of its stratum goes to training, if the other groups can
    fill every split. The fractions then apply to the other groups. Otherwise such a group could take a whole split.

    An image whose `subset` is `validation` or `test` stays in that split, together with its whole group. A split that
    no subset names is drawn from the other images.

    Args:
        images: The columns `image_id`, `label`, `group`, `stratum` and `subset`.
        params: The section `split`.

    Returns:
        A series of strings from `tables.SPLITS`.

    Raises:
        ThawError: A split has no image of a class.
    """
    images = images.with_columns(order=images["image_id"].map_elements(lambda i: _hash(params.seed, i), pl.String))
    rank = pl.col("subset").replace_strict({"test": 2, "validation": 1}, default=0, return_dtype=pl.Int8)
    groups = images.sort("order").group_by("group", maintain_order=True)
    groups = groups.agg(pl.first("order", "stratum"), size=pl.len(), rank=rank.max())
    kept = {split: rank for split, rank in (("test", 2), ("validation", 1)) if (groups["rank"] == rank).any()}
    assigned = [groups.filter(rank=rank).select("group", split=pl.lit(split)) for split, rank in kept.items()]
    pool = groups.filter(pl.col("rank") == 0) if kept else groups
    fractions = {split: 0.0 if split in kept else getattr(params, split) for split in HELD_OUT}
    pool = pool.with_columns(oversized=_is_oversized(fractions, params))
    assigned.append(pool.filter("oversized").select("group", split=pl.lit("train")))
    assigned.append(_drawn_in_order(pool.filter(~pl.col("oversized")), fractions))
    split = images.select("group").join(pl.concat(assigned), on="group", how="left", maintain_order="left")["split"]
    _check_every_class(images["label"], split, kept, params)
    return split


def _is_oversized(fractions: dict[str, float], params: "Split") -> pl.Expr:
    """Say which groups are larger than the smallest split of their stratum, where the other groups are enough."""
    smallest = min(filter(None, fractions.values()), default=1.0)
    oversized = (pl.col("size") > 1) & (pl.col("size") > smallest * pl.col("size").sum().over("stratum"))
    return oversized & ((~oversized).sum().over("stratum") >= _min_images(params))


def _drawn_in_order(groups: pl.DataFrame, fractions: dict[str, float]) -> pl.DataFrame:
    """Return the columns `group` and `split`: each stratum in its order, first test, then validation, then train."""
    # The images of a stratum, in order, lie on a line from 0 to 1. The middle of a group determines its split.
    end = pl.col("size").cum_sum().over("stratum")
    middle = (end - pl.col("size") / 2) / pl.col("size").sum().over("stratum")
    split = (
        pl.when(middle < fractions["test"])
        .then(pl.lit("test"))
        .when(middle < fractions["test"] + fractions["validation"])
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )
    return groups.sort("stratum", "order").select("group", split=split)


def _hash(seed: int, image_id: str) -> str:
    return hashlib.sha256(f"{seed}/{image_id}".encode()).hexdigest()


def _check_every_class(labels: pl.Series, split: pl.Series, kept: Collection[str], params: "Split") -> None:
    """Raise ThawError if a split has no image of a class; `kept` are the splits that are subsets of the source."""
    counts = pl.DataFrame({"label": labels, "split": split}).group_by("label", "split").len()
    for label in labels.unique().sort():
        class_counts = counts.filter(label=label)
        missing = [split for split in SPLITS if split not in class_counts["split"]]
        all_kept = set(class_counts["split"]) <= set(kept)
        if missing_subsets := [split for split in missing if all_kept or split in kept]:
            raise ThawError(
                f"the class {label!r} has no image in the source's own {' and '.join(missing_subsets)}; "
                "with split.keep_subsets: false the splits are drawn anew"
            )
        if missing:
            raise ThawError(
                f"the class {label!r} has too few images to split: {class_counts['len'].sum()}, of which none are in "
                f"{' and '.join(missing)}; at split.validation {params.validation} and split.test {params.test} a "
                f"class needs at least {_min_images(params)} that are not near-duplicates"
            )


def _min_images(params: "Split") -> int:
    """Return the smallest number of images of a stratum that gives each split at least one of them."""
    return int(1 / min(params.validation, params.test, 1 - params.validation - params.test)) + 1
