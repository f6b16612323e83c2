"""Sets instead of guesses: for each image, the classes that hold the truth with a promised probability.

A set has the classes whose calibrated probability is at least their limit, and always the predicted class (Sadinle, Lei
and Wasserman 2019, arXiv 1609.00451). The limits are read from images that did not train the model: as the level says,
so many of them have their label in their set. This is split conformal prediction (Vovk, Gammerman and Shafer 2005). For
new images of the same kind the promise holds for a poor model too: its sets are larger.

- A group of near-duplicates counts as one image, as much as its labels weigh on average. A new image counts as much as
  the heaviest group (Lee, Barber and Willett 2023, arXiv 2306.06342; Tibshirani et al. 2019, arXiv 1904.06019).
- A class that has enough images has its own limit, from these alone: the promise then holds for this class too. All
  other classes share one limit (Mondrian conformal prediction, Vovk et al. 2005).
- A level that so few images cannot give (0.95 takes at least 19) has limits of 0: each set has all classes.
- With folds, the limits are read from the out-of-fold predictions, as in cross-conformal prediction (Vovk 2015). They
  are those of other models than the final one, which is of all images: the promise is that of the measured coverage.

Scores that add up the probabilities of the likelier classes (APS, Romano et al. 2020; RAPS, Angelopoulos et al. 2021)
gave larger sets at the same level: on alpacas, solar cells, hand signs, clothes and rubbish.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from thaw.evaluation.metrics import effective_groups, wilson
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.scored import Row, Scored
from thaw.evaluation.thresholds import choose_threshold
from thaw.training.temperature import apply_temperature, fit_temperature

LEVELS = (*(percent / 100 for percent in range(50, 100)), 0.995, 0.999)  # decision.json has the limits for these
MEASURED_LEVELS = (0.9, 0.95, 0.99)
LISTED_LEVEL = 0.95  # at which each class is measured
MIN_OUTSIDE = 2  # of the images of a class, so many are to lie outside its own limit: fewer give far larger sets
TOLERANCE = 1e-9  # of sums of masses: they differ by the order in which they are added


@dataclass(frozen=True)
class Limits:
    """The calibrated probability from which a class is in the set, at one level."""

    values: tuple[float, ...]  # (c,), 0 where the class is in each set
    own: tuple[bool, ...]  # (c,), whether the limit comes from the images of this class alone

    @property
    def are_none(self) -> bool:
        """Whether all classes are in each set, since the images are too few for the level."""
        return not any(self.values)


@dataclass(frozen=True)
class Sets:
    """The sets of one model: how they are made, and what they hold on test."""

    limits: Mapping[float, Limits]  # by LEVELS, for those who use the model
    scores: Mapping[float, Mapping[str, float | int | None]]  # by MEASURED_LEVELS, see `measure`
    per_class: Sequence[Row]  # at LISTED_LEVEL, see `measure_classes`


@dataclass(frozen=True)
class Part:
    """Images of test, with what their sets are made from."""

    limits: Mapping[float, Limits]  # by MEASURED_LEVELS, from images that are not among these
    test: Scored  # calibrated
    predicted: NDArray[np.integer]  # (n,) the class that is predicted

    def members(self, level: float) -> NDArray[np.bool_]:
        """Return (n, c): which classes are in the set of each image."""
        members = self.test.probabilities >= self.limits[level].values
        members[np.arange(len(self.test)), self.predicted] = True
        return members


def make_sets(held_out: Predictions, final: Predictions, aim: float | str) -> dict[str, Sets]:
    """Return the sets of each model.

    Args:
        held_out: images of validation and test, or each image as both, as the models predict them.
        final: those that temperature and threshold are chosen on, calibrated as for those who use the model.
        aim: as in `evaluate.threshold`.
    """
    sets = {}
    for model, scored in final.scored().items():
        parts = [_calibrated(*images, aim) for images in _images_of_parts(held_out, model)]
        sets[model] = Sets(
            limits=choose_limits(scored, LEVELS),
            scores={level: measure(parts, level) for level in MEASURED_LEVELS},
            per_class=measure_classes(parts, LISTED_LEVEL, held_out.classes),
        )
    return sets


def scores(sets: Mapping[str, Sets]) -> dict[str, dict]:
    """Return for metrics.json, by model and level: what `measure` returns, and how many classes have their own limit.

    `own_limits` is about the sets of those who use the model.
    """
    return {
        model: {
            f"{level:g}": {**values, "own_limits": sum(made.limits[level].own)} for level, values in made.scores.items()
        }
        for model, made in sets.items()
    }


def choose_limits(scored: Scored, levels: Sequence[float]) -> dict[float, Limits]:
    """Choose the limits of all classes at each level.

    Args:
        scored: calibrated probabilities of images that did not train the model.
        levels: of new images, the share whose set is to have their label; between 0 and 1.

    Returns:
        Level → limits. The same images in another order have the same limits.
    """
    likelihoods = scored.probabilities[np.arange(len(scored)), scored.labels]
    masses, new = group_masses(scored)
    counts = np.array(effective_groups(scored.labels, replace(scored, weights=masses), scored.class_count))
    rising = np.argsort(counts, kind="stable")  # classes, the smallest first
    images = [np.flatnonzero(scored.labels == number) for number in rising]
    chosen = {}
    for level in levels:
        needed = MIN_OUTSIDE / (1 - level) * (1 - TOLERANCE)
        sharing = int((counts < needed).sum())
        while 0 < sharing < len(rising) and counts[rising[:sharing]].sum() < needed:
            sharing += 1  # too few share a limit: the smallest of the other classes joins them
        values = np.zeros(len(rising))
        if sharing:
            shared = np.concatenate(images[:sharing])
            values[rising[:sharing]] = _limit(likelihoods[shared], masses[shared], new, level)
        for number, own in zip(rising[sharing:], images[sharing:], strict=True):
            values[number] = _limit(likelihoods[own], masses[own], new, level)
        chosen[level] = Limits(tuple(values.tolist()), tuple((np.argsort(rising) >= sharing).tolist()))
    return chosen


def group_masses(scored: Scored) -> tuple[NDArray[np.float64], float]:
    """Return how much each image counts (n,), and how much a new one does.

    A group counts as much as its labels weigh on average, each of its images in proportion to its weight.
    """
    _, group, sizes = np.unique(scored.groups, return_inverse=True, return_counts=True)
    masses = scored.weights / sizes[group]
    return masses, float(np.bincount(group, masses).max(initial=0.0))


def _limit(likelihoods: NDArray[np.float64], masses: NDArray[np.float64], new: float, level: float) -> float:
    """Return the highest limit that enough images reach, a new one counted as if it did not; 0 if there is none.

    likelihoods (n,): the calibrated probability that each image gives its label.
    """
    falling = np.argsort(-likelihoods, kind="stable")
    reached, wanted = np.cumsum(masses[falling]), level * (masses.sum() + new)
    first = int(np.searchsorted(reached, wanted * (1 - TOLERANCE)))
    if first == len(falling):
        return 0.0
    return float(f"{likelihoods[falling[first]] * (1 - 1e-6):.7g}")  # below the image's own, in few digits


def measure(parts: Sequence[Part], level: float) -> dict[str, float | int | None]:
    """Measure the sets of the test images of all parts at a level.

    Returns:
        `coverage`, the share of sets that have the label, and `coverage_weighted`, each with its interval (Wilson's,
        near-duplicates count as one); `mean_size`, classes in a set; `single`, the share of sets of one class. None
        without images.
    """
    members, test = _all_sets(parts, level)
    hits = members[np.arange(len(test)), test.labels]
    scores: dict[str, float | None] = {}
    for name, weights in (("coverage", np.ones(len(test))), ("coverage_weighted", test.weights)):
        scores |= _share(name, hits, replace(test, weights=weights))
    sizes = members.sum(axis=1)
    if not len(test):
        return scores | {"mean_size": None, "single": None}
    return scores | {"mean_size": float(sizes.mean()), "single": float((sizes == 1).mean())}


def measure_classes(parts: Sequence[Part], level: float, classes: Sequence[str]) -> list[Row]:
    """Return a row for each class, each image counted once: `class`, `support`, `coverage` with its interval."""
    members, test = _all_sets(parts, level)
    once = replace(test, weights=np.ones(len(test)))
    rows: list[Row] = []
    for number, name in enumerate(classes):
        images = np.flatnonzero(test.labels == number)
        share = _share("coverage", members[images, number], once.take(images))
        rows.append({"class": name, "support": len(images)} | share)
    return rows


def _share(name: str, hits: NDArray[np.bool_], scored: Scored) -> dict[str, float | None]:
    """Return the weighted share of images that are hits, with its interval; None where no image weighs anything."""
    (effective,) = effective_groups(np.zeros(len(scored), int), scored, 1)
    if not effective:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    value = float(np.average(hits, weights=scored.weights))
    low, high = wilson(value * effective, effective)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _all_sets(parts: Sequence[Part], level: float) -> tuple[NDArray[np.bool_], Scored]:
    """Return the sets (n, c) of the test images of all parts, and these images."""
    tests = [part.test for part in parts]
    columns = ([getattr(test, name) for test in tests] for name in ("probabilities", "labels", "weights", "groups"))
    return np.concatenate([part.members(level) for part in parts]), Scored(*map(np.concatenate, columns))


def _images_of_parts(held_out: Predictions, model: str) -> Iterator[tuple[Scored, Scored]]:
    """Yield the images that sets are made from, and those that they are measured on.

    Without folds they are those of validation and of test. With folds, the predictions of each round are measured with
    the sets that those of all other rounds give, as the final model has those that all rounds give. All are of models
    that have not seen the image.
    """
    if held_out.examples.folds is None:
        yield held_out.split("validation").scored()[model], held_out.split("test").scored()[model]
        return
    predictions = held_out.once()
    for number in np.unique(predictions.rounds):
        own = predictions.rounds == number
        of_others, of_own = (predictions.take(np.flatnonzero(which)) for which in (~own, own))
        yield of_others.scored()[model], of_own.scored()[model]


def _calibrated(calibration: Scored, test: Scored, aim: float | str) -> Part:
    """Choose temperature, limits and, with two classes, the threshold, as those who use the model have them."""
    temperature = fit_temperature(calibration.probabilities, calibration.labels, calibration.weights)
    calibration, test = (
        replace(scored, probabilities=apply_temperature(scored.probabilities, temperature))
        for scored in (calibration, test)
    )
    predicted = test.predictions
    if test.class_count == 2:
        threshold = choose_threshold(calibration.probabilities[:, 1], calibration.labels, calibration.weights, aim)
        predicted = (test.probabilities[:, 1] > threshold.value).astype(int)
    return Part(choose_limits(calibration, MEASURED_LEVELS), test, predicted)
