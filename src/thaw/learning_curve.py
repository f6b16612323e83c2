"""What more labels would bring: the head, trained on parts of the training split."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from thaw import examples
from thaw.examples import Examples
from thaw.heads import LinearHead, fit_path, until_worse
from thaw.metrics import Row

TRAINED = 40_000  # images times classes that the largest part may have: more would take minutes
MEASURED = 20_000  # images of validation and of test, drawn where there are more


def learning_curve(
    features: NDArray[np.floating],
    splits: Mapping[str, Examples],
    classes: tuple[str, ...],
    *,
    class_weight: str | None,
    strengths: Sequence[float],
    sizes: int = 5,
    draws: int = 5,
    seed: int,
) -> list[Row]:
    """Return a row for each size of the training split, the smallest first: how good a head on the plain features is.

    features (rows, channels) as the extraction wrote them; splits as `examples.read` returns them (`train`,
    `validation`, `test`). Each size is twice the one before, the last is all images, or the TRAINED ones that are
    quickly fitted. At each, `draws` parts are drawn, whole groups, with the same share of each class and at least an
    image of it; the strength is chosen on validation. Images of weight 0 teach nothing and are left out.

    Columns: `images` (trained on, mean over the draws), `draws`, and for the test split `accuracy` and
    `accuracy_weighted`, means over the draws, each with `_low` and `_high`, the lowest and the highest draw; weighted
    ones are None where nothing weighs anything. All images are one draw. No rows where the test split is empty, or
    where the images of TRAINED are fewer than the classes.
    """
    train = _take(splits["train"], np.flatnonzero(splits["train"].weights > 0))
    validation, test = (_sample(splits[name], seed) for name in ("validation", "test"))
    largest = min(1.0, TRAINED / len(classes) / len(train.labels))
    if not len(test.labels) or largest * len(train.labels) < len(classes):
        return []
    rows: list[Row] = []
    shown = features[validation.views[:, 0]], features[test.views[:, 0]]
    for size in range(sizes):
        share = largest / 2 ** (sizes - 1 - size)
        counts, results = [], []
        for draw in range(draws if share < 1 else 1):
            part = _take(train, _draw(train, share, np.random.default_rng([seed, size, draw])))
            weights = examples.training_weights(part, class_weight)
            x = features[part.views[:, 0]].astype(np.float32)
            fits = fit_path(x, part.labels, weights, classes, list(strengths))
            best, *_ = min(until_worse(fits, shown[0], validation), key=lambda fitted: fitted[1])
            counts.append(len(x))
            results.append(_accuracies(best, shown[1], test))
        row: Row = {"images": round(float(np.mean(counts))), "draws": len(counts)}
        for name in results[0]:
            values = [result[name] for result in results]
            known = values[0] is not None
            ends = (float(np.mean(values)), min(values), max(values)) if known else (None, None, None)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        rows.append(row)
    return rows


def _draw(train: Examples, share: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the rows of the groups that hold the first images, in a random order of the groups, of each class."""
    _, group = np.unique(train.groups, return_inverse=True)
    rank = generator.permutation(group.max() + 1)[group]
    order = np.lexsort((rank, train.labels))
    sizes = np.bincount(train.labels)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    wanted = place < np.ceil(share * sizes)[train.labels]
    return np.flatnonzero(np.isin(group, group[wanted]))


def _sample(part: Examples, seed: int) -> Examples:
    if len(part.labels) <= MEASURED:
        return part
    return _take(part, np.sort(np.random.default_rng(seed).choice(len(part.labels), MEASURED, replace=False)))


def _take(part: Examples, rows: NDArray[np.int64]) -> Examples:
    return replace(part, **{name: getattr(part, name)[rows] for name in part.__dataclass_fields__})


def _accuracies(head: LinearHead, features: NDArray[np.floating], part: Examples) -> dict[str, float | None]:
    hits = head.probabilities(features).argmax(axis=1) == part.labels
    weighted = float(np.average(hits, weights=part.weights)) if part.weights.any() else None
    return {"accuracy": float(hits.mean()), "accuracy_weighted": weighted}
