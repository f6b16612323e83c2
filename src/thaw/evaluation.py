"""What is measured of both models, from their probabilities of every photograph: the content of `metrics.json`.

Throughout, `probabilities` maps a model's name to its (n, c) float64 probabilities of the photographs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from thaw import calibration, comparison, learning_curve, metrics, plots, predictions, slices
from thaw.calibration import Threshold
from thaw.errors import ThawError
from thaw.examples import Examples
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
BRIEF = ("accuracy", "accuracy_weighted", "log_loss")  # what metrics.json has of baselines and of differences
CALIBRATED = ("log_loss", "log_loss_weighted", "ece", "ece_weighted")  # what a temperature is to improve


@dataclass(frozen=True)
class Measured:
    """All that is measured; of the test split where a split is not named."""

    metrics: dict[str, Mapping]  # the content of metrics.json
    temperatures: Mapping[str, float]  # by model
    thresholds: Mapping[str, Mapping[str, Threshold]]  # model → split; empty with more than two classes
    comparisons: Mapping[str, Mapping]  # pair → differences, counts and mcnemar_p
    neighbours: int  # how many the baseline of that name asks
    per_class: Mapping[str, Sequence[Row]]  # model → a row for each class
    slices: Mapping[str, Sequence[Row]]  # model → the worst first
    curves: Mapping[str, Mapping[str, Sequence[Row]]]  # kind → model → rows
    learning_curve: Sequence[Row]


def measure(
    splits: Mapping[str, Examples],
    images: pl.DataFrame,
    features: np.ndarray,
    classes: tuple[str, ...],
    probabilities: Probabilities,
    settings: Evaluate,
    *,
    class_weight: str | None,
    strengths: Sequence[float],
) -> Measured:
    """Measure the models by their probabilities (n, c) of the photographs of `predictions.gather(splits)`.

    images: the table of images.csv; features: (rows, channels), as the extraction wrote them; class_weight and
    strengths are those with which the head was trained. Raises ThawError where a threshold other than 0.5 is wanted
    of more than two classes.
    """
    everything = predictions.gather(splits)
    train = everything.take(everything.of("train"))
    held_out = np.flatnonzero(everything.splits != "train")
    photographs = everything.take(held_out)
    probabilities = {model: p[held_out] for model, p in probabilities.items()}
    of_model = temperatures(photographs, probabilities)
    calibrated = {model: calibration.apply_temperature(p, of_model[model]) for model, p in probabilities.items()}
    chosen = thresholds(photographs, calibrated, settings.threshold)
    untrained, neighbours = baselines(features, train, photographs, len(classes))
    before, after = quality(photographs, probabilities, settings), quality(photographs, calibrated, settings)
    compared = comparisons(photographs, {**probabilities, **untrained}, settings)
    rows = photographs.of("test")
    of_test = [{model: p[rows] for model, p in of_all.items()} for of_all in (probabilities, calibrated)]
    return Measured(
        metrics=before
        | {
            "baselines": in_brief(quality(photographs, untrained, settings)),
            "comparison": comparison_scores(compared),
            "calibration": calibration_scores(of_model, before, after),
            "threshold": threshold_scores(chosen),
        },
        temperatures=of_model,
        thresholds=chosen,
        comparisons=compared,
        neighbours=neighbours,
        per_class=by_class(photographs, probabilities, classes, settings),
        slices=by_slice(photographs, images, probabilities, settings),
        curves=plots.curves(*of_test, photographs.labels[rows], classes, settings.bins),
        learning_curve=learning_curve.learning_curve(
            features, splits, classes, class_weight=class_weight, strengths=strengths, seed=settings.seed
        ),
    )


def quality(photographs: Photographs, probabilities: Probabilities, settings: Evaluate) -> dict[str, dict]:
    """Return model → split → metric, for validation and test."""
    return {
        model: {split: _measure(photographs.take(rows), p[rows], settings) for split, rows in _parts(photographs)}
        for model, p in probabilities.items()
    }


def baselines(
    features: np.ndarray, train: Photographs, photographs: Photographs, classes: int
) -> tuple[dict[str, np.ndarray], int]:
    """Return what needs no training: the probabilities (n, classes) of the majority class and of the nearest
    neighbours on the frozen features, and how many neighbours were best on validation.

    features: (rows, channels), as the extraction wrote them; photographs: those of validation and test.
    """
    validation = photographs.take(photographs.of("validation"))
    of_train = (features[train.rows], train.labels, train.weights)
    k = comparison.choose_neighbours(
        *of_train, features[validation.rows], validation.labels, validation.weights, classes
    )
    majority = comparison.majority(train.labels, train.weights, classes, len(photographs.labels))
    neighbours = comparison.neighbours(*of_train, features[photographs.rows], classes, k)
    return {"majority": majority, "neighbours": neighbours}, k


def in_brief(results: Mapping[str, dict]) -> dict[str, dict]:
    """Return a result of `quality` with the measures of BRIEF alone."""
    return {
        model: {split: {key: values[key] for key in _with_ends(BRIEF)} for split, values in of_model.items()}
        for model, of_model in results.items()
    }


def comparisons(photographs: Photographs, probabilities: Probabilities, settings: Evaluate) -> dict[str, dict]:
    """Return for each pair of COMPARED, as `fine_tuned_against_head`, what is known of it on test.

    `differences`: those of `comparison.paired_difference`; `counts`: photographs that both, only the one, only the
    other or neither got right; `mcnemar_p`.
    """
    rows = photographs.of("test")
    test = photographs.take(rows)
    compared = {}
    for first, second in COMPARED:
        a, b = probabilities[first][rows], probabilities[second][rows]
        exact = comparison.mcnemar(a.argmax(axis=1) == test.labels, b.argmax(axis=1) == test.labels)
        compared[f"{first}_against_{second}"] = {
            "differences": comparison.paired_difference(
                a, b, test.labels, test.weights, test.groups,
                bins=settings.bins, bootstrap=settings.bootstrap, seed=settings.seed,
            ),
            "counts": {
                "both_right": exact["both"],
                f"only_{first}_right": exact["only_a"],
                f"only_{second}_right": exact["only_b"],
                "both_wrong": exact["neither"],
            },
            "mcnemar_p": exact["p"],
        }  # fmt: skip
    return compared


def comparison_scores(compared: Mapping[str, dict]) -> dict[str, Scalars]:
    """Return the scalars of `comparisons` for metrics.json, with the differences of BRIEF alone."""
    scores = {}
    for pair, known in compared.items():
        differences: Scalars = {}
        for measure in BRIEF:
            of_measure = known["differences"][measure]
            values = (of_measure["difference"], of_measure["low"], of_measure["high"])
            differences |= dict(zip(_with_ends([measure]), values, strict=True))
        scores[pair] = differences | known["counts"] | {"mcnemar_p": known["mcnemar_p"]}
    return scores


def temperatures(photographs: Photographs, probabilities: Probabilities) -> dict[str, float]:
    """Return each model's temperature, fitted on validation alone."""
    rows = photographs.of("validation")
    part = photographs.take(rows)
    return {
        model: calibration.fit_temperature(p[rows], part.labels, part.weights) for model, p in probabilities.items()
    }


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
    measured: Measured, classes: tuple[str, ...], settings: Evaluate, outputs: tuple[str, ...] | None = None
) -> dict[str, object]:
    """Return what those who use a model must know beside it: `decision.json`.

    Where `test_time_flips` is not null, p is a model's mean answer to a photograph and its mirror images. It becomes
    calibrated as p^(1 / temperature), scaled to sum to 1. With two classes, `positive_class` is the answer where its
    calibrated probability lies above the threshold; with more, it, the aim and the threshold are null and the likeliest
    class is the answer. So it is for a model that was extended: of its `outputs` the classes that it knew were not
    labelled here, and nothing is chosen for them.
    """
    flips = {"test_time_flips": settings.test_time_flips}
    if outputs:
        nothing = {"temperature": 1.0, "threshold": None, "aim_reached": None}
        models = dict.fromkeys(measured.temperatures, nothing)
        return {"class_names": outputs, "positive_class": None, "aim": None} | flips | {"models": models}
    models = {}
    for model, temperature in measured.temperatures.items():
        chosen = measured.thresholds[model]["validation"] if measured.thresholds else None
        models[model] = {
            "temperature": temperature,
            "threshold": chosen.value if chosen else None,
            "aim_reached": chosen.reached if chosen else None,
        }
    two = bool(measured.thresholds)
    positive = {"positive_class": classes[1] if two else None, "aim": settings.threshold if two else None}
    return {"class_names": classes} | positive | flips | {"models": models}


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


def _with_ends(measures: Sequence[str]) -> list[str]:
    return [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]


def _parts(photographs: Photographs) -> list[tuple[str, np.ndarray]]:
    return [(split, photographs.of(split)) for split in MEASURED]


def _measure(part: Photographs, probabilities: np.ndarray, settings: Evaluate) -> Scalars:
    return metrics.classification_metrics(
        probabilities, part.labels, part.weights, part.groups,
        bins=settings.bins, bootstrap=settings.bootstrap, seed=settings.seed,
    )  # fmt: skip
