"""How good a model is on parts of a split: by what the source says of the images, and by their size."""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from thaw import metrics
from thaw.metrics import Row

VALUES = 8  # slices of a column at most
LEAST = 10  # images of a slice of its own, where a column has more values


def slices(
    images: pl.DataFrame,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    groups: NDArray[np.str_] | NDArray[np.integer],
    *,
    bins: int,
    bootstrap: int,
    seed: int,
) -> list[Row]:
    """Return a row for each slice of the columns `meta_…` of `images` and of `megapixels`, the worst slice first.

    `images` (n rows, in the order of `probabilities`) has the columns of images.csv. A row has `column` (without
    `meta_`), `value`, `count`, `share` (of the images), all that `metrics.classification_metrics` measures, and
    `p_value`. The worst is the one with the lowest `accuracy_high`: of a small slice little is known.

    A column of more than VALUES values is cut into quarters of equally many images where they are numbers, and has
    its most frequent values and `other` where they are text; a missing value is `missing`; a column of one value has
    no slices. `p_value`: of the slice's accuracy differing that much from the rest's by chance, by Fisher's exact
    test on one image a group, corrected for the number of slices (Holm 1979): of reports in which all slices are
    alike, at most 5 in 100 have a slice below 0.05. None where no group is left to compare with.
    """
    hits = probabilities.argmax(axis=1) == labels
    alone = np.zeros(len(labels), bool)
    alone[np.unique(groups, return_index=True)[1]] = True
    rows: list[Row] = []
    tests: dict[tuple[str, str], float] = {}
    test_of: list[tuple[str, str]] = []
    for column, values in _columns(images).items():
        names = sorted(set(values))
        for name in names if len(names) > 1 else []:
            inside = values == name
            measured = metrics.classification_metrics(
                probabilities[inside], labels[inside], weights[inside], groups[inside],
                bins=bins, bootstrap=bootstrap, seed=seed,
            )  # fmt: skip
            count = int(inside.sum())
            rows.append({"column": column, "value": name, "count": count, "share": count / len(labels), **measured})
            test_of.append((column, names[0] if len(names) == 2 else name))  # two slices are one test
            parts = hits[alone & inside], hits[alone & ~inside]
            if len(parts[0]) and len(parts[1]):
                tests[test_of[-1]] = float(fisher_exact([[part.sum(), (~part).sum()] for part in parts]).pvalue)
    corrected = _holm(tests)
    for row, test in zip(rows, test_of, strict=True):
        row["p_value"] = corrected.get(test)
    return sorted(rows, key=lambda row: (row["accuracy_high"], row["column"], row["value"]))


def _columns(images: pl.DataFrame) -> dict[str, NDArray[np.str_]]:
    """Return the slice (n,) of each image, for each column."""
    columns = {name.removeprefix("meta_"): images[name] for name in images.columns if name.startswith("meta_")}
    columns["megapixels"] = (images["width"] * images["height"] / 1e6).round_sig_figs(3)
    return {name: _cut(column) for name, column in columns.items()}


def _cut(column: pl.Series) -> NDArray[np.str_]:
    """Return the values of a column as text, those of a long one in parts."""
    text = column.cast(pl.String).replace("", None).fill_null("missing").to_numpy().astype(str)
    values, counts = np.unique(text, return_counts=True)
    if len(values) <= VALUES:
        return text
    number = column.cast(pl.Float64, strict=False).to_numpy()
    known = np.isfinite(number)
    if known[text != "missing"].all():
        quarter = np.searchsorted(np.quantile(number[known], [0.25, 0.5, 0.75]), number)
        for i in range(4):
            inside = known & (quarter == i)
            if inside.any():
                text = np.where(inside, f"{number[inside].min():.12g} to {number[inside].max():.12g}", text)
        return text
    frequent = np.argsort(-counts, kind="stable")[: VALUES - 1]
    kept = values[frequent[counts[frequent] >= LEAST]]
    return np.where(np.isin(text, kept), text, "other")


def _holm(p_values: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Return p values that hold for all tests together, after Holm 1979."""
    corrected, least = {}, 0.0
    for i, key in enumerate(sorted(p_values, key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - i) * p_values[key]))
        corrected[key] = least
    return corrected
