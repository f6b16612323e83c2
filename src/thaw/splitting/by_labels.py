"""Assign images with several labels to train, validation and test: stratified by all labels, groups kept whole.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): the rarest label is divided first.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from thaw.core import hashes
from thaw.core.errors import ThawError
from thaw.core.label_values import ABSENT, PRESENT, LabelValues, lacking
from thaw.core.tables import SPLITS
from thaw.parameters.split import HELD_OUT
from thaw.splitting.subsets import must_train

if TYPE_CHECKING:
    from thaw.parameters.split import Split

MAX_DRAWS = 20  # with other orders, until each class is known to be present, and absent, in every split


def draw(images: pl.DataFrame, labels: LabelValues, classes: Sequence[str], params: "Split") -> pl.Series:
    """Return the split of each image, in the order of the rows.

    Of each class, the images that show it and those that do not are divided by the fractions of the splits, and each
    split gets one of them where there are three groups or more. Groups come in the order of their sizes, and of a hash
    of their images' ids and the seed: the order of the rows has no effect. If a class is then missing in a split, they
    are drawn once more with another order, up to MAX_DRAWS times.

    An image whose `subset` is `validation` or `test` stays in that split, and none joins it there. The other images of
    its group are left out, or train (`split.duplicates_across`). If some images have no subset, those of `train` train.

    Args:
        images: The columns `image_id`, `group` and `subset`.
        labels: Of these images.
        classes: Names.
        params: The section `split`.

    Returns:
        A series of strings from `tables.SPLITS`; null: the image is left out.

    Raises:
        ThawError: A class has no image in a split that is known to show it, or none that is known not to.
    """
    subset = images["subset"].to_numpy()
    is_kept = np.isin(subset, HELD_OUT)
    kept = sorted(set(subset[is_kept]))
    ids = images["image_id"].to_list()
    names, group = np.unique(images["group"].to_numpy().astype(str), return_inverse=True)
    is_with_kept = np.bincount(group, is_kept, len(names)) > 0
    must = np.bincount(group, must_train(images["subset"]).to_numpy(), len(names)) > 0
    is_drawn = ~is_with_kept & ~must
    counts = _counts(labels, group, len(names))
    found: list[tuple[str, str, str]] = []  # what is missing in each draw
    for number in range(MAX_DRAWS):
        seed = f"{params.seed}/{number}" if number else str(params.seed)
        assigned = np.full(len(names), None, object)
        assigned[must & ~is_with_kept] = "train"
        assigned[is_drawn] = _stratified(counts[is_drawn], _order(ids, group, seed)[is_drawn],
                                         np.bincount(group)[is_drawn], kept, params)  # fmt: skip
        splits = np.where(is_kept, subset, assigned[group])
        if params.duplicates_across == "keep":
            splits[splits == None] = "train"  # noqa: E711 - an array is compared
        if not (missing := _missing(splits, labels, classes)):
            return pl.Series(splits.tolist(), dtype=pl.String)
        found.append(missing)
    raise ThawError(_explanation(*found[0], kept, labels, classes, params))


def _counts(labels: LabelValues, group: np.ndarray, groups: int) -> np.ndarray:
    """Return how many images of each group are known to show each class, then how many not to, (groups, 2 k) int."""
    counted = labels.weights > 0
    each = np.concatenate([(labels.values == value) & counted for value in (PRESENT, ABSENT)], axis=1)
    counts = np.zeros((groups, each.shape[1]), int)
    np.add.at(counts, group, each)
    return counts


def _order(ids: Sequence[str], group: np.ndarray, seed: str) -> np.ndarray:
    """Return what sorts the groups: the smallest hash of an image of each, (groups,) str."""
    order = [""] * (int(group.max()) + 1)
    for image_id, number in zip(ids, group, strict=True):
        hashed = hashes.order(seed, image_id)
        order[number] = min(order[number] or hashed, hashed)
    return np.array(order)


def _stratified(
    counts: np.ndarray, order: np.ndarray, sizes: np.ndarray, kept: Sequence[str], params: "Split"
) -> list[str]:
    """Return the split of each group.

    Args:
        counts: (groups, 2 k), see `_counts`.
        order: (groups,) what sorts groups of one size.
        sizes: (groups,) numbers of images.
        kept: Splits that are not drawn.
        params: The section `split`.
    """
    fractions = {split: 0.0 if split in kept else getattr(params, split) for split in HELD_OUT}
    fractions["train"] = 1 - sum(fractions.values())
    drawn = [split for split in SPLITS if fractions[split]]
    wanted = np.array([fractions[split] for split in drawn])[:, None] * counts.sum(axis=0)  # (splits, 2 k)
    in_groups = (counts > 0).sum(axis=0)
    held_out = [number for number, split in enumerate(drawn) if split != "train"]
    wanted[held_out] = np.where(in_groups >= len(drawn), wanted[held_out].clip(min=1), wanted[held_out])
    wanted[drawn.index("train")] = counts.sum(axis=0) - wanted[held_out].sum(axis=0)
    wanted_images = np.array([fractions[split] for split in drawn]) * sizes.sum()
    in_order = np.lexsort([order, -sizes])
    splits, is_free = [""] * len(sizes), np.ones(len(sizes), bool)
    while is_free.any():
        left = counts[is_free].sum(axis=0)
        of_label = is_free
        if left.any():
            rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
            of_label = is_free & (counts[:, rarest] > 0)
        for number in in_order[of_label[in_order]]:
            wish = wanted[:, rarest] if left.any() else wanted_images
            best = max(range(len(drawn)), key=lambda split: (wish[split], wanted_images[split]))
            splits[number] = drawn[best]
            wanted[best] -= counts[number]
            wanted_images[best] -= sizes[number]
        is_free &= ~of_label
    return splits


def _missing(splits: np.ndarray, labels: LabelValues, classes: Sequence[str]) -> tuple[str, str, str] | None:
    """Return a class, what no image of a split is known to have it, `present` or `absent`, and the split; or None."""
    for split in SPLITS:
        of_split = splits == split
        for name, word in lacking(labels.values[of_split], labels.weights[of_split], classes):
            return name, word, split
    return None


def _explanation(
    name: str, word: str, split: str, kept: Sequence[str], labels: LabelValues, classes: Sequence[str], params: "Split"
) -> str:
    """Return the error for what `_missing` returns: what is missing, and what a person may do."""
    number = list(classes).index(name)
    is_counted = (labels.weights[:, number] > 0) & (
        labels.values[:, number] == (PRESENT if word == "present" else ABSENT)
    )
    known = "to show" if word == "present" else "not to show"
    text = f"no photograph of {split} is known {known} the class {name!r} ({int(is_counted.sum()):,} of all are)"
    if params.after is not None:
        return f"{text}: test is what is newer than split.after {params.after}"
    if split in kept:
        return f"{text}: it is the source's own split; with split.keep_subsets: false the splits are drawn anew"
    return (
        f"{text}: photographs of one group, or near-duplicates, are never divided; add photographs, or change "
        f"split.seed, split.validation ({params.validation}) or split.test ({params.test})"
    )
