"""What more labels would bring: the head, trained on parts of the training split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from thaw.core import progress
from thaw.core.tables import EVALUATED
from thaw.evaluation import forecast
from thaw.evaluation.comparison import read_features
from thaw.evaluation.forecast import Forecast, Part
from thaw.evaluation.scored import Row
from thaw.features.examples import Examples, training_weights
from thaw.features.linear_probe import Samples, fit_path, until_worse

SIZES = 5  # of the training split, each twice the one before
DRAWS = 5  # parts of each size
MAX_FITTED = 40_000  # images times classes of the largest part: more would take minutes
MAX_MEASURED = 20_000  # images of validation and of test, drawn where there are more


@dataclass(frozen=True)
class HeadFit:
    """How the head is fitted: parameters of the section `head`."""

    class_weight: str | None
    Cs: Sequence[float]


@dataclass(frozen=True)
class LearningCurve:
    rows: Sequence[Row]  # one for each size: see `measure_learning_curve`
    forecast: Forecast  # of the accuracy with more images


def measure_learning_curve(
    features: NDArray[np.floating], examples: Examples, classes: tuple[str, ...], head: HeadFit, seed: int
) -> LearningCurve:
    """Train the head on the plain features of larger and larger parts of the training split.

    Each size is twice the one before. The last is all images, or as many as MAX_FITTED allows. At each size, DRAWS
    parts are drawn, of whole groups: each has the same share of every class, and at least an image of it. So of many
    classes with few images, small sizes may be the same, and are left out but for one. C is chosen on validation.
    Images of weight 0 teach nothing and are left out. With folds, the draws are of DRAWS rounds in turn, each as often,
    and measured on the test split of their round.

    Args:
        features: (rows, channels), as the extraction wrote them.
        examples: the images of all splits.
        classes: their names.
        head: how each head is fitted.
        seed: of the draws.

    Returns:
        The forecast, and a row for each size, the smallest first. Columns: `images` (trained on, mean over the draws),
        `draws`, and for the test split `accuracy` and `accuracy_weighted`, means over the draws, each with `_low` and
        `_high`, the lowest and the highest draw. Weighted ones are None where nothing weighs anything. All images are
        one draw, with folds one of each round. There are no rows where the test split is empty, or where MAX_FITTED
        allows fewer images than classes.
    """
    parts_of_rounds = examples.rounds()
    taken = np.random.default_rng(seed).permutation(len(parts_of_rounds))[:DRAWS]
    rounds = [_Round.of(parts_of_rounds[number], seed) for number in sorted(taken)]
    draws = len(rounds) * math.ceil(DRAWS / len(rounds))
    available = float(np.mean([len(part.train) for part in rounds]))
    largest = min(1.0, MAX_FITTED / len(classes) / available)
    if not all(len(part.test) for part in rounds):
        return LearningCurve([], Forecast("few"))
    if largest * available < len(classes):
        return LearningCurve([], Forecast("many"))
    drawn: dict[int, list[NDArray[np.int64]]] = {}
    for size in reversed(range(SIZES)):
        share = largest / 2 ** (SIZES - 1 - size)
        positions = [
            _draw(rounds[draw % len(rounds)].train, share, np.random.default_rng([seed, size, draw]))
            for draw in range(draws if share < 1 else len(rounds))
        ]
        if _mean_size(positions) < min(map(_mean_size, drawn.values()), default=math.inf):
            drawn[size] = positions
    rows: list[Row] = []
    parts: list[list[Part]] = []
    for size in progress.track(sorted(drawn), "learning curve", "size", len(drawn)):
        parts.append([])
        for draw, positions in enumerate(drawn[size]):
            drawn_from = rounds[draw % len(rounds)]
            train, validation, test = drawn_from.train, drawn_from.validation, drawn_from.test
            part = train.take(positions)
            weights = training_weights(part, head.class_weight)
            samples = Samples(read_features(features, part.rows).astype(np.float32), part.labels, weights)
            fits = until_worse(fit_path(samples, head.Cs), read_features(features, validation.rows), validation)
            best, *_ = min(fits, key=lambda fitted: fitted[1])
            hits = best.probabilities(read_features(features, test.rows)).argmax(axis=1) == test.labels
            parts[-1].append(Part(len(part), draw % len(rounds), hits, test.groups, test.weights))
        rows.append(_row(parts[-1], 1 if size == SIZES - 1 and largest == 1 else draws))
    ahead = forecast.extrapolate(parts, available)
    if ahead.reason == "few" and largest < 1:
        ahead = replace(ahead, reason="many")
    return LearningCurve(rows, ahead)


@dataclass(frozen=True)
class _Round:
    """The images of one training, those left out that it does not use."""

    train: Examples
    validation: Examples
    test: Examples

    @classmethod
    def of(cls, examples: Examples, seed: int) -> "_Round":
        train = examples.split("train")
        return cls(
            train.take(np.flatnonzero(train.weights > 0)), *(_sample(examples.split(name), seed) for name in EVALUATED)
        )


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


def _mean_size(parts: Sequence[NDArray[np.int64]]) -> int:
    """Return how many images the parts of one size have, whose positions these are."""
    return round(float(np.mean([len(positions) for positions in parts])))


def _sample(examples: Examples, seed: int) -> Examples:
    if len(examples) <= MAX_MEASURED:
        return examples
    return examples.take(np.sort(np.random.default_rng(seed).choice(len(examples), MAX_MEASURED, replace=False)))


def _row(parts: Sequence[Part], draws: int) -> Row:
    """Return the row of one size."""
    row: Row = {"images": round(float(np.mean([part.images for part in parts]))), "draws": draws}
    weighted = [float(np.average(p.hits, weights=p.weights)) if p.weights.any() else None for p in parts]
    for name, values in (("accuracy", [float(p.hits.mean()) for p in parts]), ("accuracy_weighted", weighted)):
        defined = None not in values
        ends = (float(np.mean(values)), min(values), max(values)) if defined else (None, None, None)
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return row
