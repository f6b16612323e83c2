"""Assign images to train, validation and test: stratified, groups kept whole, stable when the data change a little."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import polars as pl

from thaw.core import hashes
from thaw.core.errors import ThawError
from thaw.core.tables import SPLITS
from thaw.core.words import plural
from thaw.parameters.split import HELD_OUT, MIN_FOLDS
from thaw.splitting import folds
from thaw.splitting.folds import AUTO_FOLDS
from thaw.splitting.own_groups import MAX_FRACTION, largest, stays_whole
from thaw.splitting.subsets import must_train

if TYPE_CHECKING:
    from thaw.parameters.split import Split


def draw(images: pl.DataFrame, params: "Split") -> pl.Series:
    """Return the split of each image, in the order of the rows.

    Every image has a hash of its id and the seed. A group takes the smallest hash of its images (added ones count only
    in groups of their own), and belongs to the stratum of that image. The groups of a stratum are sorted by their
    hashes. The first ones are the test split, the next ones the validation split, the rest trains. So adding or
    removing a few images moves only those at the two borders, and the order of the rows has no effect.

    A group of near-duplicates larger than the smallest split of its stratum goes to training, if the other groups can
    fill every split. The fractions then apply to the other groups. Otherwise such a group could take a whole split.

    With `split.added: train`, groups of nothing but added images train, if the other groups of their class can fill
    every split. So what was labelled later, and was chosen because it is doubtful, changes no other split.

    An image whose `subset` is `validation` or `test` stays in that split, and none joins it there. The other images of
    its group are left out, or train (`split.duplicates_across`). A split that no subset names is drawn from the groups
    without such an image; if some images have no subset, from those alone, and what is of `train` trains.

    Args:
        images: The columns `image_id`, `label`, `group`, `own_group`, `stratum`, `subset` and `is_added`.
        params: The section `split`.

    Returns:
        A series of strings from `tables.SPLITS`; null: the image is left out.

    Raises:
        ThawError: A split has no image of a class.
    """
    images = images.with_columns(
        order=images["image_id"].map_elements(lambda i: hashes.order(params.seed, i), pl.String),
        must_train=must_train(images["subset"], images["is_added"]),
    )
    is_kept = pl.col("subset").is_in(HELD_OUT)
    kept = images.filter(is_kept)["subset"].unique().to_list()
    groups = images.sort("is_added", "order").group_by("group", maintain_order=True)
    groups = groups.agg(
        pl.first("order", "stratum", "label"),
        pl.col("must_train").any(),
        size=pl.len(),
        is_kept=is_kept.any(),
        is_added=pl.col("is_added").all(),
    )
    fractions = {split: 0.0 if split in kept else getattr(params, split) for split in HELD_OUT}
    pool = groups.filter(~pl.col("is_kept"))
    is_later = pl.lit(False)
    if params.added == "train":
        others = (~pl.col("is_added")).sum().over("label")
        is_later = pl.col("is_added") & (others >= _min_images(params))
    later = pool.filter(is_later | pl.col("must_train")).select("group", split=pl.lit("train"))
    pool = pool.join(later, on="group", how="anti").with_columns(oversized=_is_oversized(fractions, params))
    oversized = pool.filter("oversized").select("group", split=pl.lit("train"))
    assigned = pl.concat([later, oversized, _drawn_in_order(pool.filter(~pl.col("oversized")), fractions)])
    images = images.join(assigned, on="group", how="left", maintain_order="left")
    images = images.with_columns(split=pl.when(is_kept).then("subset").otherwise("split"))
    if params.duplicates_across == "keep":
        images = images.with_columns(pl.col("split").fill_null("train"))
    _check_every_class(images, kept, params)
    return images["split"]


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


def _check_every_class(images: pl.DataFrame, kept: Collection[str], params: "Split") -> None:
    """Raise ThawError if a split has no image of a class; `kept` are the splits that are subsets of the source."""
    counts = images.group_by("label", "split").len()
    left_out = counts.filter(pl.col("split").is_null())
    counts = counts.filter(pl.col("split").is_not_null())
    held_out = "of the source's own validation or test" if params.after is None else f"newer than {params.after}"
    without_training = left_out.join(counts.filter(split="train"), on="label", how="anti").sort("label")
    for label, _, count in without_training.iter_rows():
        raise ThawError(
            f"the class {label!r} has no photograph left to train on: {count:,} are near-duplicates of, or in one "
            f"group with, photographs {held_out}; with split.duplicates_across: keep they train"
        )
    incomplete = counts.group_by("label").len().filter(pl.col("len") < len(SPLITS))["label"]
    if incomplete.is_empty():
        return
    label = incomplete.min()
    more = len(incomplete) - 1
    others = f"; so it is with {plural(more, 'more class')}" if more else ""
    class_counts = counts.filter(label=label)
    missing = [split for split in SPLITS if split not in class_counts["split"]]
    if params.after is not None and missing != ["validation"]:
        which = "newer than" if "test" in missing else "left from before"
        raise ThawError(f"the class {label!r} has no photograph {which} split.after {params.after}{others}")
    all_kept = set(class_counts["split"]) <= set(kept)
    if missing_subsets := [split for split in missing if all_kept or split in kept]:
        raise ThawError(
            f"the class {label!r} has no image in the source's own {' and '.join(missing_subsets)}; "
            f"with split.keep_subsets: false the splits are drawn anew{others}"
        )
    group, size = largest(images.filter(label=label))
    number = class_counts["len"].sum()
    is_most = size > 1 and size > MAX_FRACTION * number
    of_one_group = f"; {size:,} are of one group ({group}), {stays_whole(group)}" if is_most else ""
    marked = images.filter((pl.col("label") == label) & pl.col("must_train")).height
    of_train = f"; {marked:,} are marked to train" if marked else ""
    fewest = images.group_by("label").agg(pl.col("group").n_unique())["group"].min()
    may_have_folds = fewest >= MIN_FOLDS and params.after is None and not (kept or marked or is_most)
    count, remedy = min(AUTO_FOLDS, fewest), ""
    if may_have_folds and _has_folds(images, count, params):
        remedy = f"; split.folds: {count} would do with what there is"
    drawn = [split for split in HELD_OUT if split not in kept]
    is_free = ~pl.col("must_train") & pl.col("split").is_not_null() & ~pl.col("split").is_in(kept)
    needed, free = _min_images(params, drawn), images.filter(is_free, label=label)["group"].n_unique()
    need = f"a class needs at least {needed} that share no group, nor are near-duplicates"
    if free < number and kept:
        need += f", and {free} are left to draw from"
    if free >= needed:
        need = f"the {free} groups of the class are not enough, since they hold other classes too, or differ in size"
    raise ThawError(
        f"the class {label!r} has too few images to split: {number}, of which none are in "
        f"{' and '.join(missing)}{of_one_group}{of_train}; at "
        f"{' and '.join(f'split.{split} {getattr(params, split)}' for split in drawn)} {need}{remedy}{others}"
    )


def _has_folds(images: pl.DataFrame, count: int, params: "Split") -> bool:
    try:
        folds.draw(images, count, params.model_copy(update={"folds": count}))
    except ThawError:
        return False
    return True


def check_weights(table: pl.DataFrame) -> None:
    """Raise ThawError if a class cannot be learnt, or a split not measured: all their weights are 0.

    table: `label`, `weight` and `split` of each image.
    """
    sums = table.group_by("split", "label").agg(pl.col("weight").sum()).sort("split", "label")
    for label in sums.filter((pl.col("split") == "train") & (pl.col("weight") == 0))["label"]:
        raise ThawError(f"all training photographs of the class {label!r} have the weight 0: it cannot be learnt")
    totals = sums.group_by("split").agg(pl.col("weight").sum()).sort("split")
    for split in totals.filter((pl.col("split") != "train") & (pl.col("weight") == 0))["split"]:
        raise ThawError(f"all photographs of {split} have the weight 0: nothing can be measured on them")


def _min_images(params: "Split", drawn: Sequence[str] = HELD_OUT) -> int:
    """Return the smallest number of images of a stratum that gives train, and each split that is drawn, one of them."""
    fractions = [getattr(params, split) for split in drawn]
    return int(1 / min(*fractions, 1 - sum(fractions), 1)) + 1
