"""What a model of several labels is compared with: another model on the same images, class frequencies, neighbours.

Each class is a question of its own, asked of the training images of which the class is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.core.label_values import UNKNOWN
from thaw.evaluation.comparison import (
    LabelledFeatures,
    choose_neighbours,
    majority_probabilities,
    neighbour_probabilities,
)
from thaw.evaluation.multi_label.metrics import AVERAGED, KINDS, mean_name
from thaw.evaluation.multi_label.resampling import MEASURES, Resampled, precision_interval, wide_interval

Differences = dict[str, dict[str, float | None]]  # measure → difference, low and high


@dataclass(frozen=True)
class Images:
    """Images by their features, with what is known of k classes."""

    features: NDArray[np.floating]  # (n, channels)
    values: NDArray[np.int8]  # (n, k), as in `core.label_values`
    weights: NDArray[np.floating]  # (n, k) >= 0

    def of_class(self, number: int) -> LabelledFeatures:
        """Return the images whose pair with a class is known, labelled 1 if it is present and 0 if it is absent."""
        rows = np.flatnonzero(self.values[:, number] != UNKNOWN)
        return LabelledFeatures(self.features[rows], self.values[rows, number].astype(int), self.weights[rows, number])


def frequencies(train: Images, count: int) -> NDArray[np.float64]:
    """Return (count, k) probabilities: of each class the weighted share of its known training pairs that are present.

    They are the same for each image. So the average precision of a class is the share that is present in the split. A
    class without a known pair of a weight has 0.5.
    """
    columns = [majority_probabilities(train.of_class(k), 2, count)[:, 1] for k in range(train.values.shape[1])]
    return np.stack(columns, axis=1)


def neighbours(
    train: Images, validation: Images, features: NDArray[np.floating]
) -> tuple[NDArray[np.float64], list[int]]:
    """Return probabilities by the vote of the nearest training images whose pair with the class is known.

    Args:
        train: the training images.
        validation: decides, for each class, how many neighbours vote.
        features: (n, channels) of the images to be predicted.

    Returns:
        (n, k) probabilities, and the number of neighbours of each class. A class without a known training pair has
        0.5.
    """
    columns, chosen = [], []
    for number in range(train.values.shape[1]):
        known = train.of_class(number)
        if not len(known.labels):
            columns.append(np.full(len(features), 0.5))
            chosen.append(0)
            continue
        k = choose_neighbours(known, validation.of_class(number), 2)
        columns.append(neighbour_probabilities(known, features, 2, k)[:, 1])
        chosen.append(k)
    return np.stack(columns, axis=1), chosen


def subtract(first: Mapping[str, Resampled], second: Mapping[str, Resampled]) -> Differences:
    """Return first - second for every measure, from the values of two models on the same resamples.

    The keys are those of `metrics.metric_names` without the ends; each has `difference`, `low` and `high`. Undefined is
    None. `ece` has no interval: what chance adds to it differs by model and resample.
    """
    differences = {}
    for kind in KINDS:
        means = first[kind].means(), second[kind].means()
        for measure in AVERAGED:
            differences[f"{mean_name(measure)}{kind}"] = _difference(measure, *means, of_mean=True)
        for measure in MEASURES:
            differences[f"micro_{measure}{kind}"] = _difference(measure, first[kind].pooled, second[kind].pooled)
    return differences


def subtract_classes(
    first: Mapping[str, Resampled], second: Mapping[str, Resampled], classes: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Return class → the difference of the average precisions of two models, each known pair counted once."""
    name = "average_precision"
    values = first[""].by_class[name] - second[""].by_class[name]
    return {name: _named(wide_interval(row)) for name, row in zip(classes, values, strict=True)}


def _difference(
    measure: str,
    first: Mapping[str, NDArray[np.float64]],
    second: Mapping[str, NDArray[np.float64]],
    *,
    of_mean: bool = False,
) -> dict[str, float | None]:
    if measure == "ece":
        errors = [np.abs(values[measure][..., 0]).sum() for values in (first, second)]
        return _named((None if np.isnan(errors).any() else float(errors[0] - errors[1]), None, None))
    difference = first[measure] - second[measure]
    if of_mean and measure == "average_precision":
        return _named(precision_interval(difference, (-1, 1)))
    return _named(wide_interval(difference))


def _named(bounds: tuple[float | None, float | None, float | None]) -> dict[str, float | None]:
    return dict(zip(("difference", "low", "high"), bounds, strict=True))
