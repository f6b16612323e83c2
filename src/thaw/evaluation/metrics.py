"""How good a classifier is: measures with their intervals. Pure functions.

A measure X counts each image once, X_weighted as much as its label weighs. Every interval is of 95 %, and
near-duplicates count as one in it. That of a share of images is Wilson's, of unequal weights where few images tell it.
The others are a bootstrap over groups: see `thaw.evaluation.resampling`.

What a split leaves undefined (it has no image, or lacks a class) is None, never NaN and never a warning.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from thaw.evaluation.resampling import (
    Resampled,
    Resampling,
    calibration_interval,
    interval,
    measure_names,
    resample,
    resample_classes,
    shifted_interval,
)
from thaw.evaluation.scored import Row, Scored

Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution: 95 % lie between -Z and Z
# Effective images that are right, and that are wrong: of fewer, a bootstrap of unequal weights is too narrow. With few
# heavy images, it may not know a single one of them that is wrong.
MIN_EFFECTIVE = 20
SHIFTED = ("macro_f1", "pr_auc")  # biased in resamples of classes with few images


def metric_names(classes: int) -> tuple[str, ...]:
    """Return the keys of `classification_metrics` for a number of classes, in their order.

    For each measure X: `X`, `X_low`, `X_high`, `X_weighted`, `X_weighted_low`, `X_weighted_high`.
    """
    kinds = [name + kind for name in measure_names(classes) for kind in ("", "_weighted")]
    return tuple(kind + end for kind in kinds for end in ("", "_low", "_high"))


def classification_metrics(scored: Scored, bins: int, resampling: Resampling) -> dict[str, float | None]:
    """Return the metrics of one model on one split, with the keys `metric_names(c)`.

    - `accuracy`: its interval is Wilson's. Wilson's takes the images as independent, and near-duplicates are not: the
      number of images is that of the groups of equal size which tell as much (Kish 1965). It is the number itself
      where no image has a near-duplicate. `accuracy_weighted` has the same interval where all labels weigh the same.
      Where they do not, it has Wilson's of `effective_images`, if fewer than MIN_EFFECTIVE of these are right, or
      wrong; of more, the bootstrap is narrower. With folds, the predictions of all models are taken together, and
      the interval is for the mean accuracy of these models: Bayle et al. 2020 (arXiv 2007.12671) prove that the
      predictions may be counted as if one model had given them. `benchmarks/coverage.py` measures how often it holds.
    - `top_5_accuracy`, with more than five classes: the label is among the five most probable ones. Of equally
      probable ones, those of lower number count first.
    - `balanced_accuracy`, `macro_f1`: means of recall and of F1 over the classes that have an image.
    - `roc_auc`, `pr_auc` (average precision): of class 1 with two classes. With more, the mean over the classes that
      have an image, each against the rest.
    - `log_loss`: natural logarithm. Probabilities are clipped at the machine's epsilon, as scikit-learn does.
    - `brier`: the squared error summed over the classes and halved. It lies in 0 … 1 for any number of classes and is
      the usual Brier score for two (scikit-learn's `brier_score_loss(…, scale_by_half=True)`).
    - `ece`: expected calibration error of the top class over `bins` bins of equal width (Guo et al. 2017,
      arXiv 1706.04599).

    The interval of `ece` is `calibration_interval`. With more than two classes, that of `macro_f1` and of `pr_auc` is
    `shifted_interval`. The others are the middle 95 % of the resamples. An interval is None where the resamples tell
    nothing: there is one group, or every resample gives the same. So it is for a model that makes no mistake.
    """
    return summarise(scored, resample(scored, bins, resampling))


def summarise(scored: Scored, resampled: Resampled) -> dict[str, float | None]:
    """Return the `classification_metrics` of images from their resamples; those alone that were resampled."""
    result: dict[str, float | None] = {}
    for name, values in resampled.items():
        measure = name.removesuffix("_weighted")
        if measure == "ece":
            bounds = calibration_interval(values)
            if np.ptp(resampled[name.replace("ece", "accuracy")]) < 1e-12:
                bounds = bounds[0], None, None
        elif measure in SHIFTED and scored.class_count > 2:
            bounds = shifted_interval(values)
        else:
            bounds = interval(values)
        result |= dict(zip((name, f"{name}_low", f"{name}_high"), bounds, strict=True))
    once, counted = replace(scored, weights=np.ones(len(scored))), scored.take(scored.weights > 0)
    for name, images in (("accuracy", once), ("accuracy_weighted", counted)):
        effective = effective_images(images)
        if not effective:
            continue
        right, is_alike = result[name] * effective, np.ptp(images.weights) == 0
        if is_alike or min(right, effective - right) < MIN_EFFECTIVE or result[f"{name}_low"] is None:
            result[f"{name}_low"], result[f"{name}_high"] = wilson(right, effective)
    return {name: result[name] for name in metric_names(scored.class_count) if name in result}


def class_metrics(scored: Scored, classes: Sequence[str], resampling: Resampling) -> list[Row]:
    """Return a row for each of the `classes`, in their order, each image counted once.

    Columns: `class`, `support` (images of it), `predicted` (images taken for it), and `precision`, `recall`, `f1`,
    `roc_auc`, `pr_auc` of the class against the rest, each with `X_low` and `X_high`. Undefined is None: the precision
    of a class that is never predicted, all but that of a class without an image, and an interval where the resamples
    tell nothing. The intervals of precision and recall are Wilson's, as that of `accuracy` is.
    """
    support, predicted = (
        np.bincount(array, minlength=len(classes)).tolist() for array in (scored.labels, scored.predictions)
    )
    rows: list[Row] = [
        {"class": name, "support": images, "predicted": predictions}
        for name, images, predictions in zip(classes, support, predicted, strict=True)
    ]
    for name, by_class in resample_classes(scored, resampling).items():
        for row, values in zip(rows, by_class, strict=True):
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), interval(values), strict=True))
    once = replace(scored, weights=np.ones(len(scored)))
    for name, keys in (("recall", scored.labels), ("precision", scored.predictions)):
        for row, effective in zip(rows, effective_groups(keys, once, len(classes)), strict=True):
            if row[name] is not None:
                row[f"{name}_low"], row[f"{name}_high"] = wilson(row[name] * effective, effective)
    return rows


def wilson(hits: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a proportion `hits / count` (count > 0), after Wilson 1927.

    Unlike the normal approximation it stays within 0 … 1 and is right near both ends. It takes the images as
    independent: of near-duplicates, `count` is to be the number of groups that tell as much.
    """
    centre = (hits + Z**2 / 2) / (count + Z**2)
    half = Z / (count + Z**2) * math.sqrt(max(0.0, hits * (count - hits) / count) + Z**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def effective_groups(keys: NDArray[np.integer], scored: Scored, count: int) -> list[float]:
    """Return, for each key of 0 … count - 1, how many groups of equal weight tell as much as the images of that key.

    keys is (n,). The images of a group count as one, however many they are: Kish's effective number. It is 0 where
    nothing weighs anything.
    """
    names, group = np.unique(scored.groups, return_inverse=True)
    pairs, pair = np.unique(keys * len(names) + group, return_inverse=True)
    weights, key = np.bincount(pair, scored.weights, minlength=len(pairs)), pairs // max(1, len(names))
    sums, squares = (np.bincount(key, values, minlength=count) for values in (weights, weights**2))
    return np.divide(sums**2, squares, out=np.zeros(count), where=squares > 0).tolist()


def effective_images(scored: Scored) -> float:
    """Return how many images of equal weight tell as much of the weighted accuracy as these.

    It is Kish's effective number of groups. Of unequal weights it is less where the heavy images are wrong more often
    than the light ones: the number at which a share has the variance that the weighted accuracy has. It is 0 where
    nothing weighs anything.
    """
    (effective,) = effective_groups(np.zeros(len(scored), int), scored, 1)
    if not effective or np.ptp(scored.weights) == 0:
        return effective
    weights = scored.weights / scored.weights.sum()
    right, wrong = weights[scored.hits].sum(), weights[~scored.hits].sum()
    _, group = np.unique(scored.groups, return_inverse=True)
    variance = (np.bincount(group, weights * np.where(scored.hits, wrong, -right)) ** 2).sum()
    return min(effective, float(right * wrong / variance)) if variance else effective
