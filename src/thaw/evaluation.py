"""What is measured of both models, from their probabilities of every photograph: the content of `metrics.json`.

Throughout, `probabilities` maps a model's name to its (n, c) float64 probabilities of the photographs.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from thaw import calibration, comparison, metrics, slices
from thaw.calibration import Threshold
from thaw.errors import ThawError
from thaw.metrics import Row
from thaw.params import Evaluate
from thaw.predictions import Photographs

MEASURED = ("validation", "test")
Scalars = dict[str, float | int | None]
Probabilities = Mapping[str, np.ndarray]

COMPARED = (  # which model with which, the one that should win first
    ("fine_tuned", "head"),
    ("fine_tuned", "neighbours"),
    ("fine_tuned", "majority"),
    ("head", "neighbours"),
    ("head", "majority"),
)
CALIBRATED = ("log_loss", "log_loss_weighted", "ece", "ece_weighted")  # what a temperature is to improve


def quality(photographs: Photographs, probabilities: Probabilities, settings: Evaluate) -> dict[str, dict]:
    """Return model → split → metric, for validation and test."""
    return {
        model: {split: _measure(photographs.take(rows), p[rows], settings) for split, rows in _parts(photographs)}
        for model, p in probabilities.items()
    }


def baselines(features: np.ndarray, photographs: Photographs, classes: int) -> tuple[dict[str, np.ndarray], int]:
    """Return what needs no training: the probabilities (n, classes) of the majority class and of the nearest
    neighbours on the frozen features, and how many neighbours were best on validation.

    features: (rows, channels), as the extraction wrote them. Photographs of training have the majority's probabilities
    in both: a neighbour of itself says nothing.
    """
    train, validation = (photographs.take(photographs.of(split)) for split in ("train", "validation"))
    of_train = (features[train.rows], train.labels, train.weights)
    k = comparison.choose_neighbours(
        *of_train, features[validation.rows], validation.labels, validation.weights, classes
    )
    majority = comparison.majority(train.labels, train.weights, classes, len(photographs.labels))
    neighbours = majority.copy()
    for _, rows in _parts(photographs):
        if len(rows):
            neighbours[rows] = comparison.neighbours(*of_train, features[photographs.rows[rows]], classes, k)
    return {"majority": majority, "neighbours": neighbours}, k


def comparisons(photographs: Photographs, probabilities: Probabilities, settings: Evaluate) -> dict[str, Scalars]:
    """Return for each pair of COMPARED, as `fine_tuned_against_head`, the differences on test and McNemar's test."""
    rows = photographs.of("test")
    test = photographs.take(rows)
    compared = {}
    for first, second in COMPARED:
        a, b = probabilities[first][rows], probabilities[second][rows]
        differences = comparison.paired_difference(
            a, b, test.labels, test.weights, test.groups,
            bins=settings.bins, bootstrap=settings.bootstrap, seed=settings.seed,
        )  # fmt: skip
        values: Scalars = {}
        for measure, of_measure in differences.items():
            values[measure] = of_measure["difference"]
            values |= {f"{measure}_{end}": of_measure[end] for end in ("low", "high")}
        exact = comparison.mcnemar(a.argmax(axis=1) == test.labels, b.argmax(axis=1) == test.labels)
        values |= {"both_right": exact["both"], f"only_{first}_right": exact["only_a"]}
        values |= {f"only_{second}_right": exact["only_b"], "both_wrong": exact["neither"], "mcnemar_p": exact["p"]}
        compared[f"{first}_against_{second}"] = values
    return compared


def temperatures(photographs: Photographs, probabilities: Probabilities) -> dict[str, float]:
    """Return each model's temperature, fitted on validation alone."""
    rows = photographs.of("validation")
    part = photographs.take(rows)
    return {
        model: calibration.fit_temperature(p[rows], part.labels, part.weights) for model, p in probabilities.items()
    }


def calibrated(probabilities: Probabilities, of_model: Mapping[str, float]) -> dict[str, np.ndarray]:
    return {model: calibration.apply_temperature(p, of_model[model]) for model, p in probabilities.items()}


def calibration_scores(
    of_model: Mapping[str, float], before: Mapping[str, dict], after: Mapping[str, dict]
) -> dict[str, dict]:
    """Return for each model its temperature and, of two results of `quality`, each of CALIBRATED on validation and
    test, plain and as `…_calibrated`."""
    return {
        model: {"temperature": temperature}
        | {
            split: {key: before[model][split][key] for key in CALIBRATED}
            | {f"{key}_calibrated": after[model][split][key] for key in CALIBRATED}
            for split in MEASURED
        }
        for model, temperature in of_model.items()
    }


def thresholds(
    photographs: Photographs, probabilities: Probabilities, aim: float | str
) -> dict[str, dict[str, Threshold]]:
    """Return model → split → the threshold on calibrated probabilities of class 1 of two, chosen on validation, and
    what precision and recall it has on each split.

    Raises ThawError where there are more classes and the aim is not 0.5.
    """
    if next(iter(probabilities.values())).shape[1] != 2:
        if aim != 0.5:
            raise ThawError(
                f"evaluate.threshold {aim!r} wants two classes: of more, the likeliest is the answer (0.5 says so)"
            )
        return {}
    validation, test = (photographs.take(photographs.of(split)) for split in MEASURED)
    chosen = {}
    for model, p in probabilities.items():
        positive = {split: p[photographs.of(split), 1] for split in MEASURED}
        best = calibration.choose_threshold(positive["validation"], validation.labels, validation.weights, aim)
        kept = calibration.choose_threshold(positive["test"], test.labels, test.weights, best.value)
        chosen[model] = {"validation": best, "test": kept}
    return chosen


def threshold_scores(chosen: Mapping[str, Mapping[str, Threshold]]) -> dict[str, dict]:
    return {
        model: {"threshold": of_model["validation"].value}
        | {split: {key: getattr(t, key) for key in ("precision", "recall", "f1")} for split, t in of_model.items()}
        for model, of_model in chosen.items()
    }


def decision(
    classes: tuple[str, ...],
    of_model: Mapping[str, float],
    chosen: Mapping[str, Mapping[str, Threshold]],
    aim: float | str,
) -> dict[str, object]:
    """Return what those who use a model must know beside it: `models/decision.json`.

    A model's probabilities p become calibrated as p^(1 / temperature), scaled to sum to 1. With two classes,
    `positive_class` is the answer where its calibrated probability lies above the threshold; with more, both are null
    and the likeliest class is the answer.
    """
    thresholds = {model: of_model["validation"] for model, of_model in chosen.items()}
    return {
        "class_names": classes,
        "positive_class": classes[1] if chosen else None,
        "aim": aim if chosen else None,
        "models": {
            model: {
                "temperature": temperature,
                "threshold": thresholds[model].value if chosen else None,
                "aim_reached": thresholds[model].reached if chosen else None,
            }
            for model, temperature in of_model.items()
        },
    }


def by_class(
    photographs: Photographs, probabilities: Probabilities, classes: tuple[str, ...], settings: Evaluate
) -> dict[str, list[Row]]:
    """Return model → a row for each class, on test."""
    rows = photographs.of("test")
    test = photographs.take(rows)
    return {
        model: metrics.per_class(
            p[rows], test.labels, test.groups, classes, bootstrap=settings.bootstrap, seed=settings.seed
        )
        for model, p in probabilities.items()
    }


def by_slice(
    photographs: Photographs, images: pl.DataFrame, probabilities: Probabilities, settings: Evaluate
) -> dict[str, list[Row]]:
    """Return model → a row for each slice of the test split, the worst first. `images` is the table of all images."""
    rows = photographs.of("test")
    test = photographs.take(rows)
    order = pl.DataFrame({"image_id": test.image_ids})
    of_test = order.join(images, on="image_id", how="left", maintain_order="left")
    return {
        model: slices.slices(
            of_test, p[rows], test.labels, test.weights, test.groups,
            bins=settings.bins, bootstrap=settings.bootstrap, seed=settings.seed,
        )
        for model, p in probabilities.items()
    }  # fmt: skip


def _parts(photographs: Photographs) -> list[tuple[str, np.ndarray]]:
    return [(split, photographs.of(split)) for split in MEASURED]


def _measure(part: Photographs, probabilities: np.ndarray, settings: Evaluate) -> Scalars:
    return metrics.classification_metrics(
        probabilities, part.labels, part.weights, part.groups,
        bins=settings.bins, bootstrap=settings.bootstrap, seed=settings.seed,
    )  # fmt: skip
