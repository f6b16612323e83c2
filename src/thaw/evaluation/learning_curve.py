"""What more labels would bring: the head, trained on parts of the training split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.core import progress
from thaw.core.tables import EVALUATED
from thaw.evaluation.scored import Row
from thaw.features.examples import Examples, training_weights
from thaw.features.linear_probe import Probe, Samples, fit_path, until_worse

SIZES = 5  # of the training split, each twice the one before
DRAWS = 5  # parts of each size
MAX_FITTED = 40_000  # images times classes of the largest part: more would take minutes
MAX_MEASURED = 20_000  # images of validation and of test, drawn where there are more


@dataclass(frozen=True)
class HeadFit:
    """How the head is fitted: parameters of the section `head`."""

    class_weight: str | None
    Cs: Sequence[float]


def measure_learning_curve(
    features: NDArray[np.floating], examples: Examples, classes: tuple[str, ...], head: HeadFit, seed: int
) -> list[Row]:
    """Train the head on the plain features of larger and larger parts of the training split.

    Each size is twice the one before. The last is all images, or as many as MAX_FITTED allows. At each size, DRAWS
    parts are drawn, of whole groups: each has the same share of every class, and at least an image of it. C is chosen
    on validation. Images of weight 0 teach nothing and are left out.

    Args:
        features: (rows, channels), as the extraction wrote them.
        examples: the images of all splits.
        classes: their names.
        head: how each head is fitted.
        seed: of the draws.

    Returns:
        A row for each size, the smallest first. Columns: `images` (trained on, mean over the draws), `draws`, and for
        the test split `accuracy` and `accuracy_weighted`, means over the draws, each with `_low` and `_high`, the
        lowest and the highest draw. Weighted ones are None where nothing weighs anything. All images are one draw.
        There are no rows where the test split is empty, or where MAX_FITTED allows fewer images than classes.
    """
    train = examples.split("train")
    train = train.take(np.flatnonzero(train.weights > 0))
    validation, test = (_sample(examples.split(name), seed) for name in EVALUATED)
    largest = min(1.0, MAX_FITTED / len(classes) / len(train))
    if not len(test) or largest * len(train) < len(classes):
        return []
    rows: list[Row] = []
    validation_features, test_features = features[validation.rows], features[test.rows]
    for size in progress.track(range(SIZES), "learning curve", "size", SIZES):
        share = largest / 2 ** (SIZES - 1 - size)
        counts, results = [], []
        for draw in range(DRAWS if share < 1 else 1):
            part = train.take(_draw(train, share, np.random.default_rng([seed, size, draw])))
            weights = training_weights(part, head.class_weight)
            path = fit_path(Samples(features[part.rows].astype(np.float32), part.labels, weights), head.Cs)
            best, *_ = min(until_worse(path, validation_features, validation), key=lambda fitted: fitted[1])
            counts.append(len(part))
            results.append(_accuracies(best, test_features, test))
        row: Row = {"images": round(float(np.mean(counts))), "draws": len(counts)}
        for name in results[0]:
            values = [result[name] for result in results]
            defined = values[0] is not None
            ends = (float(np.mean(values)), min(values), max(values)) if defined else (None, None, None)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        rows.append(row)
    return rows


def _draw(train: Examples, share: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return positions of whole groups that hold at least `share` of each class.

    The groups stand in a random order. Those are taken that hold the first images of a class.
    """
    _, group = np.unique(train.groups, return_inverse=True)
    rank = generator.permutation(group.max() + 1)[group]
    order = np.lexsort((rank, train.labels))
    sizes = np.bincount(train.labels)
    place_in_class = np.empty(len(order), np.int64)
    place_in_class[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    wanted = place_in_class < np.ceil(share * sizes)[train.labels]
    return np.flatnonzero(np.isin(group, group[wanted]))


def _sample(examples: Examples, seed: int) -> Examples:
    if len(examples) <= MAX_MEASURED:
        return examples
    return examples.take(np.sort(np.random.default_rng(seed).choice(len(examples), MAX_MEASURED, replace=False)))


def _accuracies(head: Probe, features: NDArray[np.floating], test: Examples) -> dict[str, float | None]:
    hits = head.probabilities(features).argmax(axis=1) == test.labels
    weighted = float(np.average(hits, weights=test.weights)) if test.weights.any() else None
    return {"accuracy": float(hits.mean()), "accuracy_weighted": weighted}
