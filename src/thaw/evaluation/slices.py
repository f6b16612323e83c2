"""How good a model is on parts of a split: by the source's columns, and by the size of the images."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from thaw.core.columns import EMPTY_WORDS
from thaw.evaluation.metrics import classification_metrics
from thaw.evaluation.resampling import Resampling, count_resamples
from thaw.evaluation.scored import Row, Scored

MAX_SLICES = 8  # of a column
MIN_IMAGES = 10  # of a slice, and outside of it: of fewer, nothing can be said


def measure_slices(images: pl.DataFrame, scored: Scored, bins: int, resampling: Resampling) -> list[Row]:
    """Measure a model on each slice of the columns `meta_…` and of the megapixels.

    A column of more than MAX_SLICES values is cut into quarters of equally many images where they are numbers. Where
    they are text, it has its most frequent values and `other`. A missing value is `missing`. A column of one value has
    no slices. A slice of fewer than MIN_IMAGES images is left out, as is one of all images but fewer than these:
    `count_small` counts the former.

    Args:
        images: columns of images.csv, n rows in the order of `scored`.
        scored: the n images.
        bins: those of the calibration error.
        resampling: how the groups are resampled; a slice has no more resamples than all images have.

    Returns:
        A row for each slice: `column` (without `meta_`), `value`, `count`, `share` (of the images), the keys of
        `metrics.classification_metrics`, and `p_value`. The worst slice stands first: the one with the lowest
        `accuracy_high`, since little is certain of a small slice.

        `p_value` is the chance of a difference as large as that between the slice's accuracy and the rest's. It is of
        Fisher's exact test on one image a group, corrected for the number of slices (Holm 1979): of reports in which
        all slices are alike, at most 5 in 100 have a slice below 0.05. It is None where no group is left to compare
        with.
    """
    hits = scored.hits
    first_of_group = np.zeros(len(scored), bool)
    first_of_group[np.unique(scored.groups, return_index=True)[1]] = True
    affordable = count_resamples(int(first_of_group.sum()), resampling.resamples)
    resampling = replace(resampling, resamples=affordable)
    rows, comparisons = [], []
    for part in large_slices(images):
        count = int(part.inside.sum())
        row = {"column": part.column, "value": part.value, "count": count, "share": count / len(scored)}
        rows.append(row | classification_metrics(scored.take(part.inside), bins, resampling))
        hits_of = hits[first_of_group & part.inside], hits[first_of_group & ~part.inside]
        comparisons.append(Comparison(part.test, *hits_of))
    return sort_with_p_values(rows, comparisons)


class Slice(NamedTuple):
    """The images that have one value in a column."""

    column: str
    value: str
    inside: NDArray[np.bool_]  # (n,)
    test: tuple[str, str]  # two slices that are one column are compared once


class Comparison(NamedTuple):
    """What is right of the images of a slice, and of the rest: one of each group."""

    test: tuple[str, str]
    inside: NDArray[np.bool_]
    outside: NDArray[np.bool_]


def large_slices(images: pl.DataFrame) -> Iterator[Slice]:
    """Yield the slices of images (n rows) that have at least MIN_IMAGES inside, and as many outside."""
    for column, values in columns_of(images).items():
        names = sorted(set(values))
        for name in names if len(names) > 1 else []:
            inside = values == name
            if min(inside.sum(), (~inside).sum()) >= MIN_IMAGES:
                yield Slice(column, name, inside, (column, names[0] if len(names) == 2 else name))


def sort_with_p_values(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> list[Row]:
    """Return the rows of slices with their corrected `p_value`, the worst first: see `measure_slices`."""
    p_values: dict[tuple[str, str], float] = {}
    for test, *parts in comparisons:
        if all(map(len, parts)):
            p_values[test] = float(fisher_exact([[part.sum(), (~part).sum()] for part in parts]).pvalue)
    corrected = holm(p_values)
    rows = [row | {"p_value": corrected.get(each.test)} for row, each in zip(rows, comparisons, strict=True)]
    return sorted(rows, key=lambda row: (row["accuracy_high"], row["column"], row["value"]))


def count_small(images: pl.DataFrame) -> int:
    """Return how many slices `measure_slices` leaves out since they have fewer than MIN_IMAGES images."""
    sizes = (np.unique(values, return_counts=True)[1] for values in columns_of(images).values())
    return sum(int((counts < MIN_IMAGES).sum()) for counts in sizes if len(counts) > 1)


def columns_of(images: pl.DataFrame) -> dict[str, NDArray[np.str_]]:
    """Return the slice (n,) of each image, for each column."""
    columns = {name.removeprefix("meta_"): images[name] for name in images.columns if name.startswith("meta_")}
    columns.setdefault("megapixels", (images["width"] * images["height"] / 1e6).round_sig_figs(3))  # a person's counts
    return {name: _cut(column) for name, column in columns.items()}


def _cut(column: pl.Series) -> NDArray[np.str_]:
    """Return the values of a column as text, at most MAX_SLICES different ones."""
    text = column.cast(pl.String).replace("", None).fill_null("missing").to_numpy().astype(str)
    values, counts = np.unique(text, return_counts=True)
    if len(values) <= MAX_SLICES:
        return text
    number = column.cast(pl.Float64, strict=False).to_numpy()
    is_number = np.isfinite(number)
    is_missing = np.isin(np.char.lower(text), ["missing", *EMPTY_WORDS])
    if is_number.any() and is_number[~is_missing].all():
        text = np.where(is_missing, "missing", text)
        quarter = np.searchsorted(np.quantile(number[is_number], [0.25, 0.5, 0.75]), number)
        for i in range(4):
            inside = is_number & (quarter == i)
            if inside.any():
                text = np.where(inside, f"{number[inside].min():.12g} to {number[inside].max():.12g}", text)
        return text
    frequent = np.argsort(-counts, kind="stable")[: MAX_SLICES - 1]
    kept = values[frequent[counts[frequent] >= MIN_IMAGES]]
    return np.where(np.isin(text, kept), text, "other")


def holm(p_values: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Return p values that hold for all tests together, after Holm 1979."""
    corrected, lowest = {}, 0.0
    for i, key in enumerate(sorted(p_values, key=p_values.__getitem__)):
        lowest = max(lowest, min(1.0, (len(p_values) - i) * p_values[key]))
        corrected[key] = lowest
    return corrected
