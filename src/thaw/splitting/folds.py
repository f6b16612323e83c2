"""Cross-validation: folds of equal size, stratified, groups kept whole, stable when the data change a little.

Which fold tests and which one validates in which training, `features.examples.Examples.rounds` says.
"""

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from thaw.core import hashes
from thaw.core.columns import check_each_is_in_a_group
from thaw.core.errors import ThawError
from thaw.core.words import listed, plural
from thaw.parameters.split import HELD_OUT, MIN_FOLDS
from thaw.splitting.own_groups import MAX_FRACTION, largest, stays_whole
from thaw.splitting.subsets import must_train

if TYPE_CHECKING:
    from thaw.parameters.split import Split

AUTO_FOLDS = 5  # the usual number: 3/5 of the photographs train in each round, as with one split
FOLDS_BELOW = 1000  # photographs: `auto` takes folds; from as many on, one split
MAX_OWN_GROUPS = 20  # of `groups`: each costs a training
FEW_GROUPS = 10  # of a class: below, what is measured of it is uncertain
MAX_NAMED = 5  # classes, in a message


class Choice(NamedTuple):
    """Whether there are folds, and why."""

    count: int | None  # None: one split
    why: str  # in a few words, for the line of the stage; empty where nothing was asked for


def choose(images: pl.DataFrame, params: "Split") -> Choice:
    """Say how many folds `split.folds` asks for: with `groups`, one for each group.

    Args:
        images: The columns `label`, `group`, `own_group`, `subset` and `is_added`.
        params: The section `split`.

    Raises:
        ThawError: A class has fewer groups than there are folds, one group has over half of the images, own groups are
            missing, too few or too many, or images are marked to train while others may be in any split.
    """
    if params.folds is None:
        return Choice(None, "")
    name = f"split.folds: {params.folds}"
    label, fewest = images.group_by("label").agg(pl.col("group").n_unique()).sort("group", "label").row(0)
    group, size = largest(images)
    too_large = size > MAX_FRACTION * len(images)  # where it tests, less than half would train
    of_one_group = f"{size / len(images):.0%} of the photographs are of one group ({group})"
    are_marked = must_train(images["subset"], images["is_added"]).any()
    if are_marked and params.folds != "auto":
        raise ThawError(
            f"{name} and photographs that are marked to train exclude one another, since each fold is tested: set "
            "split.folds: null, or split.keep_subsets: false to divide all photographs anew"
        )
    if params.folds == "auto":
        if are_marked or images["subset"].is_in(HELD_OUT).any():
            return Choice(None, f"{name} keeps the split that was given with the photographs")
        if len(images) >= FOLDS_BELOW:
            return Choice(None, f"{name} takes one split from {FOLDS_BELOW:,} photographs on")
        if too_large:
            return Choice(None, f"{name} takes one split, since {of_one_group}")
    if too_large:
        raise ThawError(
            f"{name}: {of_one_group}, {stays_whole(group)}: where it tests, too few would train; set split.folds: "
            "null, or divide the group"
        )
    if params.folds == "groups":
        count = _count_own_groups(images)
        return Choice(count, f"{name}: each group is tested by a model of the others{_united(images)}")
    count = max(MIN_FOLDS, min(AUTO_FOLDS, fewest)) if params.folds == "auto" else params.folds
    if fewest < count:
        members = images.filter(pl.col("label") == label)
        size = len(members)
        in_groups = f" in {plural(fewest, 'group')} that cannot be divided" if fewest < size else ""
        if members.filter(own_group="")["group"].is_duplicated().any():
            in_groups += " (near-duplicates are one, unless split.group_duplicates is false)"
        remedy = f"{MIN_FOLDS} or more are needed, {AUTO_FOLDS} are better"
        if fewest >= MIN_FOLDS:
            remedy = f"set split.folds: {fewest}, or add photographs of it"
        raise ThawError(
            f"the class {label!r} has {plural(size, 'photograph')}{in_groups}: too few for {count} folds; {remedy}"
        )
    if params.folds != "auto":
        return Choice(count, name)
    why = f"{name}, for fewer than {FOLDS_BELOW:,} photographs"
    if count < AUTO_FOLDS:
        why += f"; {count} instead of {AUTO_FOLDS}, since the class {label!r} has {plural(fewest, 'group')}"
    return Choice(count, why)


def _count_own_groups(images: pl.DataFrame) -> int:
    """Return the number of own groups that share no near-duplicates; raises ThawError if it makes no folds."""
    check_each_is_in_a_group(images["own_group"].to_list())
    count = images["group"].n_unique()
    if count > MAX_OWN_GROUPS:
        raise ThawError(
            f"split.folds: groups would train {count:,} times, once for each group; up to {MAX_OWN_GROUPS} are "
            f"possible: set split.folds: {AUTO_FOLDS}, which keeps each group whole too"
        )
    if count < MIN_FOLDS:
        raise ThawError(
            f"split.folds: groups needs {MIN_FOLDS} groups or more, to train, validate and test; there are {count} "
            "that share no near-duplicates"
        )
    return count


def _united(images: pl.DataFrame) -> str:
    """Name the own groups that are one fold, as the end of a sentence; empty if each has its own."""
    names = images.group_by("group").agg(pl.col("own_group").unique().sort()).filter(pl.col("own_group").list.len() > 1)
    named = [" and ".join(map(repr, group)) for group in names["own_group"].sort().to_list()]
    if not named:
        return ""
    which = listed(named, MAX_NAMED)
    return f"; one fold, since they share near-duplicates, or a group of another column: {which}"


def draw(images: pl.DataFrame, count: int, params: "Split") -> pl.DataFrame:
    """Return the folds of each image, in the order of the rows: the columns `fold` and, for repeats, `fold_2`, ….

    With `groups`, each own group is a fold, in the order of their names. Otherwise they are drawn, see `_drawn`.

    Args:
        images: The columns `image_id`, `label`, `weight`, `group`, `stratum` and, with `groups`, `own_group`.
        count: Of the folds, as `choose` returns it.
        params: The section `split`.

    Raises:
        ThawError: A class, or all of its weights, do not train in some round, or all weights of a fold are 0.
    """
    if params.folds == "groups":
        in_order = images.group_by("group").agg(pl.min("own_group")).sort("own_group")["group"]
        numbers = {group: fold for fold, group in enumerate(in_order)}
        columns = [images["group"].replace_strict(numbers, return_dtype=pl.Int64)]
    else:
        seeds = [str(params.seed), *(f"{params.seed}/{repeat}" for repeat in range(2, params.repeats + 1))]
        columns = [_drawn(images, count, seed) for seed in seeds]
    for column in columns:
        _check_every_round(images, column, count)
    return pl.DataFrame({f"fold_{i}" if i > 1 else "fold": column for i, column in enumerate(columns, start=1)})


def _drawn(images: pl.DataFrame, count: int, seed: str) -> pl.Series:
    """Return the fold of each image, from 0.

    Every image has a hash of its id and the seed; a group takes the smallest hash of its images. The groups of a
    stratum, sorted by their hashes, lie on a line. It is cut into parts of equal length, one for each fold; the middle
    of a group determines its fold. So adding or removing a few images moves only those at the cuts. The hash of the
    stratum says which fold is the first, so that many small strata together have folds of nearly the same size.

    A group longer than a part has a fold of its own, as far as its stratum goes, and the others share the other folds.
    So a stratum of as many groups as folds is in each of them. Smaller strata are united, see `_groups`.
    """
    groups = _groups(images, count, seed)
    folds = {}
    for stratum, members in groupby(groups.select("stratum", "group", "size").iter_rows(), key=itemgetter(0)):
        first = int(hashes.order(seed, stratum), 16) % count
        order = [(first + i) % count for i in range(count)]
        folds |= _along_a_line([(group, size) for _, group, size in members], order)
    return images["group"].replace_strict(folds, return_dtype=pl.Int64)


def _groups(images: pl.DataFrame, count: int, seed: str) -> pl.DataFrame:
    """Return `group`, `stratum` and `size` of each group, each stratum in the order of the hashes.

    Groups of several labels are a stratum for each combination. Strata of fewer groups than folds are united with
    those of the same label, of several the rarest; labels that then have fewer are one stratum.
    """
    # Labels count as equally rare up to a factor of two: then a few images more seldom change which is the rarest.
    rarity = pl.col("group").n_unique().over("label").log(2).floor()
    order = images["image_id"].map_elements(lambda image_id: hashes.order(seed, image_id), pl.String)
    groups = images.with_columns(rarity=rarity, order=order).sort("rarity", "label", "order").group_by("group")
    labels = pl.col("label").unique().sort()
    groups = groups.agg(pl.first("label", "stratum"), labels=labels, order=pl.min("order"), size=pl.len())
    is_mixed = pl.col("labels").list.len() > 1
    groups = groups.with_columns(stratum=pl.when(is_mixed).then(pl.col("labels").list.join("+")).otherwise("stratum"))
    for larger in (pl.col("label"), pl.lit("")):
        is_small = pl.len().over("stratum") < count
        groups = groups.with_columns(stratum=pl.when(is_small).then(larger).otherwise("stratum"))
    return groups.sort("stratum", "order")


def _along_a_line(groups: list[tuple[str, int]], free: list[int]) -> dict[str, int]:
    """Return the fold of each of the groups (name, size), which lie on the line in this order, as the folds `free`."""
    folds, free = {}, list(free)
    total = sum(size for _, size in groups)
    for size, group in sorted(((size, group) for group, size in groups), reverse=True):
        if len(free) == 1 or size * len(free) <= total:
            break
        folds[group] = free.pop()
        total -= size
    start = 0
    for group, size in groups:
        if group not in folds:
            folds[group] = free[(2 * start + size) * len(free) // (2 * total)]
            start += size
    return folds


def _check_every_round(images: pl.DataFrame, fold: pl.Series, count: int) -> None:
    """Raise ThawError if a class cannot be learnt in some round, or a fold cannot validate."""
    labels = images["label"].unique().sort()
    each = np.zeros((2, len(labels), count))  # images, and the sum of their weights
    position = labels.search_sorted(images["label"])
    np.add.at(each, (slice(None), position, fold), np.stack([np.ones(len(images)), images["weight"]]))
    for weightless in np.flatnonzero(each[1].sum(axis=0) == 0):
        raise ThawError(f"all photographs of fold {weightless} have the weight 0: nothing can be chosen on it")
    for tested in range(count):
        validates = (tested + 1) % count
        training = np.delete(each, [tested, validates], axis=2).sum(axis=2)
        for label, number, weight in zip(labels, *training, strict=True):
            if not weight:
                what = "no photograph" if not number else "only photographs of the weight 0"
                raise ThawError(
                    f"the class {label!r} has {what} to train on while the folds {tested} and {validates} test and "
                    "validate: its groups are too few or too large; change split.folds or split.seed"
                )


def notes(images: pl.DataFrame, fold: pl.Series) -> list[str]:
    """Return what a person should know of the folds: large groups, and classes that are rare or missing in some.

    images: the columns `label` and `group`.
    """
    count = fold.max() + 1
    sizes = images["group"].value_counts().sort("count", "group", descending=[True, False])
    larger = sizes.filter(pl.col("count") > max(1, len(images) / count))
    by_class = images.select("label", "group", fold=fold).group_by("label").agg(pl.col("group", "fold").n_unique())
    by_class = by_class.sort("group", "label")
    few, absent = by_class.filter(pl.col("group") < FEW_GROUPS), by_class.filter(pl.col("fold") < count)
    found = []
    if len(larger):
        found.append(
            f"{plural(len(larger), 'group')} of more photographs than a fold should have, the largest of "
            f"{larger['count'][0]:,}: each stays whole, so folds differ in size"
        )
    if len(few):
        listed = _listed(few["label"], few["group"])
        found.append(
            f"{plural(len(few), 'class')} of fewer than {FEW_GROUPS} photographs ({listed}; those that share a group "
            "count as one): what is measured of such a class is uncertain"
        )
    if len(absent):
        listed = _listed(absent["label"], absent["fold"])
        found.append(f"{plural(len(absent), 'class')} not in each of the {count} folds ({listed})")
    return found


def sizes_text(fold: pl.Series) -> str:
    """Return the number of the folds and their sizes as text."""
    sizes = fold.value_counts()["count"]
    low, high = sizes.min(), sizes.max()
    return f"{len(sizes)} folds of {low:,}{f' to {high:,}' if high > low else ''} photographs"


def _listed(labels: pl.Series, numbers: pl.Series) -> str:
    named = [f"{label}: {number}" for label, number in zip(labels, numbers, strict=True)]
    return ", ".join(named[:MAX_NAMED]) + (", …" if named[MAX_NAMED:] else "")
