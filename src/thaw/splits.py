"""Draw train, validation and test: stratified, groups whole, and stable against small changes of the data."""

import hashlib
from collections.abc import Collection

import polars as pl

from thaw.errors import ThawError
from thaw.params import Split
from thaw.tables import SPLITS

HELD_OUT = ("test", "validation")  # drawn first, in this order; training takes what is left


def draw(images: pl.DataFrame, params: Split) -> pl.Series:
    """Assign each image of `images` (columns `image_id`, `label`, `group`, `stratum`, `subset`) to a split.

    Within a stratum the groups stand in the order of a hash of their first id and the seed, and the first share of
    them is the test split, the next the validation split: adding or removing a few images moves only those at the
    borders, and the order of the rows moves none. A group counts for the stratum of its first image. One of several
    images that would fill a share of its stratum alone trains, where the others are enough for every split, and the
    shares are theirs: near that size, a few images move many.

    Images whose `subset` is `validation` or `test` stay there, and take their whole group along; a split that no
    subset names is drawn from the rest. Raises ThawError where a class would be missing from a split.
    """
    images = images.with_columns(order=images["image_id"].map_elements(lambda i: _hash(params.seed, i), pl.String))
    subset = pl.col("subset").replace_strict({"test": 2, "validation": 1}, default=0, return_dtype=pl.Int8)
    groups = images.sort("order").group_by("group", maintain_order=True)
    groups = groups.agg(pl.first("order", "stratum"), size=pl.len(), subset=subset.max())
    kept = {part: rank for part, rank in (("test", 2), ("validation", 1)) if (groups["subset"] == rank).any()}
    fixed = [groups.filter(subset=rank).select("group", split=pl.lit(part)) for part, rank in kept.items()]
    pool = groups.filter(pl.col("subset") == 0) if kept else groups
    shares = {part: 0.0 if part in kept else getattr(params, part) for part in HELD_OUT}
    smallest = min(filter(None, shares.values()), default=1.0)
    fills = (pl.col("size") > 1) & (pl.col("size") > smallest * pl.col("size").sum().over("stratum"))
    pool = pool.with_columns(fills=fills & ((~fills).sum().over("stratum") >= _enough(params)))
    fixed.append(pool.filter("fills").select("group", split=pl.lit("train")))
    # The middle of each group on the line from 0 to 1 that its stratum's other images fill in order.
    reach = pl.col("size").cum_sum().over("stratum")
    middle = (reach - pl.col("size") / 2) / pl.col("size").sum().over("stratum")
    drawn = (
        pool.filter(~pl.col("fills"))
        .sort("stratum", "order")
        .select(
            "group",
            split=pl.when(middle < shares["test"])
            .then(pl.lit("test"))
            .when(middle < shares["test"] + shares["validation"])
            .then(pl.lit("validation"))
            .otherwise(pl.lit("train")),
        )
    )
    split = images.select("group").join(pl.concat([*fixed, drawn]), on="group", how="left", maintain_order="left")[
        "split"
    ]
    _check_every_class(images["label"], split, kept, params)
    return split


def _hash(seed: int, image_id: str) -> str:
    return hashlib.sha256(f"{seed}/{image_id}".encode()).hexdigest()


def _check_every_class(labels: pl.Series, split: pl.Series, kept: Collection[str], params: Split) -> None:
    counts = pl.DataFrame({"label": labels, "split": split}).group_by("label", "split").len()
    for label in labels.unique().sort():
        of_label = counts.filter(label=label)
        missing = [part for part in SPLITS if part not in of_label["split"]]
        all_kept = set(of_label["split"]) <= set(kept)
        if lacking := [part for part in missing if all_kept or part in kept]:
            raise ThawError(
                f"the class {label!r} has no image in the source's own {' and '.join(lacking)}; "
                "with split.keep_subsets: false the splits are drawn anew"
            )
        if missing:
            raise ThawError(
                f"the class {label!r} has too few images to split: {of_label['len'].sum()}, of which none fell into "
                f"{' and '.join(missing)}; at split.validation {params.validation} and split.test {params.test} a "
                f"class wants at least {_enough(params)} that are not near-duplicates"
            )


def _enough(params: Split) -> int:
    """The smallest number of images that, drawn from one stratum, gives each split at least one."""
    return int(1 / min(params.validation, params.test, 1 - params.validation - params.test)) + 1
