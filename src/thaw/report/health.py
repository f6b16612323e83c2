"""Statistics of the data before any model: numbers and sizes of images, near-duplicates, weights of the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from thaw.core.tables import SPLITS

MAX_SIZES = 6  # a source of one camera has one or two; of many sizes, more of the commonest say little
MAX_WEIGHTS = 8  # more distinct weights are counted in tenths


@dataclass(frozen=True)
class Health:
    counts: Mapping[str, Sequence[int]]  # split or fold → images of each class, in the order of the classes
    sizes: Sequence[tuple[str, int]]  # the commonest sizes as text, and how many images have each
    distinct_sizes: int
    shorter_side: tuple[int, int, int]  # minimum, median and maximum, in pixels
    groups: int  # of near-duplicates, or that the source names: those of two images or more
    grouped: int  # images in them
    largest_group: int
    across_splits: int  # images of groups in several splits or folds: of a split of one's own, or by time
    disputed: Sequence[tuple[str, ...]]  # the image ids of near-duplicates with different labels
    weights: Sequence[tuple[str, Sequence[int]]]  # weight of the label → images of each class
    missing: Sequence[tuple[str, int]]  # reason why images were left out → how many

    @property
    def photographs(self) -> int:
        """The number of all images that are used."""
        return sum(map(sum, self.counts.values()))

    @property
    def tested(self) -> int:
        """The number of images that models are tested on: with folds, all of them."""
        return sum(self.counts["test"]) if "test" in self.counts else sum(map(sum, self.counts.values()))

    @property
    def trained(self) -> int:
        """The number of images that the model which is saved was trained on: with folds, all of them."""
        return sum(self.counts["train"]) if "train" in self.counts else sum(map(sum, self.counts.values()))


def describe(
    images: pl.DataFrame, split: pl.DataFrame, duplicates: pl.DataFrame, missing: pl.DataFrame, classes: Sequence[str]
) -> Health:
    """Compute the statistics of a data set.

    Args:
        images: the table images.csv, with the `label`, `width` and `height` of each image.
        split: the table split.csv.
        duplicates: the table duplicates.csv, with the images that are left out and so in no split.
        missing: the table missing.csv.
        classes: in the order of the model's outputs.

    Returns:
        The statistics. Lists are sorted by count, the largest first; weights by weight, the heaviest first.
    """
    every, images = images, images.join(split, on="image_id", how="semi")
    sizes = images.select(size=pl.format("{} × {}", "width", "height"))["size"].value_counts()
    sizes = sizes.sort("count", "size", descending=[True, False])
    shorter_side = images.select(side=pl.min_horizontal("width", "height"))["side"]
    part = "fold" if "fold" in split.columns else "split"
    groups = split.sort("image_id").group_by("group", maintain_order=True)
    groups = groups.agg("image_id", splits=pl.col(part).n_unique())
    groups = groups.filter(pl.col("image_id").list.len() > 1)
    group_sizes = groups["image_id"].list.len()
    reasons = missing["reason"].value_counts().sort("count", "reason", descending=[True, False])
    return Health(
        counts={name: _class_counts(rows, classes) for name, rows in _parts(split).items()},
        sizes=list(sizes.head(MAX_SIZES).iter_rows()),
        distinct_sizes=len(sizes),
        shorter_side=(int(shorter_side.min()), int(shorter_side.median()), int(shorter_side.max())),
        groups=len(groups),
        grouped=int(group_sizes.sum()),
        largest_group=int(group_sizes.max() or 0),
        across_splits=int(group_sizes.filter(groups["splits"] > 1).sum()),
        disputed=_disputed(every, duplicates),
        weights=_weight_counts(split, classes),
        missing=list(reasons.iter_rows()),
    )


def _disputed(images: pl.DataFrame, duplicates: pl.DataFrame) -> list[tuple[str, ...]]:
    """Return the image ids of near-duplicates with different labels, those of images that are left out too.

    A group that the source names, such as a patient, may well have different labels: it does not count.
    """
    labels = duplicates.join(images, on="image_id").sort("image_id")
    alike = labels.group_by("alike").agg("image_id", labels=pl.col("label").n_unique())
    return [tuple(ids) for ids in alike.filter(pl.col("labels") > 1).sort("alike")["image_id"].to_list()]


def _parts(split: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the images of each split, or of each fold."""
    if "fold" in split.columns:
        return {f"fold {fold}": split.filter(fold=fold) for fold in range(split["fold"].max() + 1)}
    return {name: split.filter(split=name) for name in SPLITS}


def _class_counts(frame: pl.DataFrame, classes: Sequence[str]) -> list[int]:
    counts = dict(frame["label"].value_counts().iter_rows())
    return [counts.get(name, 0) for name in classes]


def _weight_counts(split: pl.DataFrame, classes: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Count the images of each weight by class, the heaviest first; if there are many weights, those of each tenth.

    A tenth includes its upper end.
    """
    weight = pl.col("weight")  # rounded, since 1/3 of one source is not always that of another
    split = split.with_columns(pl.when(weight < 0.1).then(weight.round_sig_figs(3)).otherwise(weight.round(3)))
    if split["weight"].n_unique() <= MAX_WEIGHTS:
        weights = split["weight"].unique().sort(descending=True)
        return [(f"{weight:,.15g}", _class_counts(split.filter(weight=weight), classes)) for weight in weights]
    maximum = split["weight"].max()
    edges = [maximum, *(maximum * i / 10 for i in range(9, -1, -1))]
    rows = []
    for high, low in pairwise(edges):
        above = pl.col("weight") >= low if low == 0 else pl.col("weight") > low
        tenth = split.filter((pl.col("weight") <= high) & above)
        rows.append((f"{_end(low)}–{_end(high)}", _class_counts(tenth, classes)))
    return rows


def _end(weight: float) -> str:
    return f"{weight:.3g}" if weight < 100 else f"{weight:,.0f}"
