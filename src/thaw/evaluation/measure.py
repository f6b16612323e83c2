"""What is measured of both models, from their probabilities for every image: the content of `metrics.json`.

The models are called `head` and `fine_tuned`, the baselines `majority` and `neighbours`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median_low
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from thaw.core import arrays, progress
from thaw.core.tables import EVALUATED
from thaw.evaluation import comparison, conformal, plots
from thaw.evaluation.comparison import LabelledFeatures
from thaw.evaluation.forecast import Forecast
from thaw.evaluation.learning_curve import HeadFit, measure_learning_curve
from thaw.evaluation.metrics import class_metrics, summarise
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.resampling import Resampled, Resampling, resample
from thaw.evaluation.scored import Row, Scored
from thaw.evaluation.slices import count_small, measure_slices
from thaw.evaluation.thresholds import Threshold, choose_threshold
from thaw.features.examples import Examples
from thaw.training.temperature import apply_temperature, fit_temperature

if TYPE_CHECKING:
    from thaw.parameters.evaluate import Evaluate

Scalars = dict[str, float | int | None]
Quality = dict[str, dict[str, Scalars]]  # model → split → metric → value
Resamples = dict[str, dict[str, Resampled]]  # model → split → measure → values

COMPARED = (  # pairs of models, the one that should win first
    ("fine_tuned", "head"),
    ("fine_tuned", "neighbours"),
    ("fine_tuned", "majority"),
    ("head", "neighbours"),
    ("head", "majority"),
)
BRIEF_MEASURES = ("accuracy", "accuracy_weighted", "log_loss")  # what metrics.json has of baselines and of differences
CALIBRATED_MEASURES = ("log_loss", "log_loss_weighted", "ece", "ece_weighted")  # what a temperature is to improve


@dataclass(frozen=True)
class Measured:
    """All that is measured; of the test split where a split is not named."""

    metrics: dict[str, Mapping]  # the content of metrics.json
    temperatures: Mapping[str, float]  # by model
    thresholds: Mapping[str, Mapping[str, Threshold]]  # model → split; empty with more than two classes
    sets: Mapping[str, conformal.Sets]  # by model
    comparisons: Mapping[str, Mapping]  # pair → differences, counts and mcnemar_p
    neighbours: int  # that vote in the baseline of this name
    neighbours_drawn: int | None  # training images among which they are looked for; None: among all
    per_class: Mapping[str, Sequence[Row]]  # model → a row for each class
    slices: Mapping[str, Sequence[Row]]  # model → the worst first
    resamples: int  # behind the intervals
    area_resamples: int  # behind those of areas under curves: with many classes, these take nearly all the time
    small_slices: int  # that are left out, since nothing can be said of so few images
    curves: Mapping[str, Mapping[str, Sequence[Row]]]  # kind → model → rows
    learning_curve: Sequence[Row]
    forecast: Forecast  # of the learning curve


def measure_models(
    predictions: Predictions,
    run: Examples,
    features: np.ndarray,
    images: pl.DataFrame,
    *,
    settings: "Evaluate",
    head: HeadFit,
) -> Measured:
    """Measure the models by their predictions for the images of all splits.

    Args:
        predictions: of both models.
        run: all images of the run, each once.
        features: (rows, channels), as the extraction wrote them.
        images: the table images.csv.
        settings: the section `evaluate`. Its threshold fits the classes: see `Evaluate.check_classes`.
        head: how the head was trained.

    Returns:
        All that metrics.json, the plots and the report are written from.
    """
    classes = predictions.classes
    # Of a million groups, numbers are sorted in a tenth of the time of names, and in the same order.
    run = replace(run, groups=_numbers(run.groups))
    predictions = replace(
        predictions, examples=replace(predictions.examples, groups=_numbers(predictions.examples.groups))
    )
    held_out = predictions.take(np.flatnonzero(predictions.examples.splits != "train"))
    calibrated = calibrate(held_out)
    temperatures = fit_temperatures(held_out)
    final = chosen_on(held_out)
    final = final.with_probabilities(
        {model: apply_temperature(p, temperatures[model]) for model, p in final.probabilities.items()}
    )
    thresholds = choose_thresholds(calibrated, final, settings.threshold) if len(classes) == 2 else {}
    sets = conformal.make_sets(held_out, final, settings.threshold)
    baselines, neighbours, drawn = predict_baselines(features, run, held_out, len(classes), settings.seed)
    untrained = held_out.with_probabilities(baselines)
    resamples = resample_models(held_out, settings)
    calibrated_resamples = resample_models(calibrated, settings, areas_of=())
    untrained_resamples = resample_models(untrained, settings, areas_of=("test",))
    quality = measure_quality(held_out, resamples)
    test = held_out.split("test")
    all_models = held_out.with_probabilities({**held_out.probabilities, **baselines})
    compared = compare_models(all_models.split("test"), resamples | untrained_resamples)
    resampling, test_images = _resampling(settings), images_in_order(test.examples, images)
    curve = measure_learning_curve(features, run, classes, head, settings.seed)
    drawn_times, area_times = count_drawn(resamples, settings.bootstrap)
    fewer = {"asked_for": settings.bootstrap, "drawn": drawn_times, "drawn_for_areas": area_times}
    return Measured(
        metrics=quality
        | {
            "baselines": in_brief(measure_quality(untrained, untrained_resamples)),
            "comparison": comparison_scores(compared),
            "calibration": calibration_scores(temperatures, quality, measure_quality(calibrated, calibrated_resamples)),
            "threshold": threshold_scores(thresholds),
            "sets": conformal.scores(sets),
            "learning_curve": curve.forecast.scores(len(run)),
        }
        | ({"resamples": fewer} if area_times < settings.bootstrap else {}),
        temperatures=temperatures,
        thresholds=thresholds,
        sets=sets,
        comparisons=compared,
        neighbours=neighbours,
        neighbours_drawn=drawn,
        per_class={model: class_metrics(scored, classes, resampling) for model, scored in test.scored().items()},
        slices={
            model: measure_slices(test_images, scored, settings.bins, resampling)
            for model, scored in test.scored().items()
        },
        small_slices=count_small(test_images),
        resamples=drawn_times,
        area_resamples=area_times,
        curves=plots.compute_curves(test.scored(), calibrated.split("test").scored(), classes, settings.bins),
        learning_curve=curve.rows,
        forecast=curve.forecast,
    )


def resample_models(predictions: Predictions, settings: "Evaluate", areas_of: Collection[str] = EVALUATED) -> Resamples:
    """Resample validation and test for each model; `areas_of`: the splits on which the areas under curves are needed.

    All intervals of a model, and of its differences from others, are read from the same resamples.
    """
    resampling = _resampling(settings)
    resamples: Resamples = {model: {} for model in predictions.probabilities}
    for split in progress.track(EVALUATED, "intervals", "split", len(EVALUATED)):
        for model, scored in predictions.split(split).scored().items():
            resamples[model][split] = resample(scored, settings.bins, resampling, areas=split in areas_of)
    return resamples


def count_drawn(resamples: Resamples, asked_for: int) -> tuple[int, int]:
    """Return how many resamples of test there are, and how many of the areas under curves."""
    of_test = next(iter(resamples.values()))["test"]
    drawn, of_areas = (len(of_test[name]) - 1 for name in ("accuracy", "roc_auc"))
    return (drawn, of_areas) if drawn else (asked_for, asked_for)  # without images nothing is drawn


def resamples_text(measured: Measured, asked_for: int) -> str:
    """Say that intervals come from fewer resamples than were asked for; empty where they do not."""
    drawn, of_areas = measured.resamples, measured.area_resamples
    if of_areas == asked_for:
        return ""
    areas = f", those of areas under curves from {of_areas:,}" if of_areas < drawn else ""
    return f"so many photographs are tested that intervals come from {drawn:,} of {asked_for:,} resamples{areas}"


def measure_quality(predictions: Predictions, resamples: Resamples) -> Quality:
    """Return the metrics of each model on validation and on test."""
    scored = {split: predictions.split(split).scored() for split in EVALUATED}
    return {
        model: {split: summarise(scored[split][model], resamples[model][split]) for split in EVALUATED}
        for model in predictions.probabilities
    }


def predict_baselines(
    features: np.ndarray, run: Examples, held_out: Predictions, classes: int, seed: int
) -> tuple[dict[str, np.ndarray], int, int | None]:
    """Predict without training: by the majority class, and by the nearest neighbours on the frozen features.

    Args:
        features: (rows, channels), as the extraction wrote them.
        run: all images of the run, each once.
        held_out: the n images of validation and test.
        classes: their number.
        seed: of the draw where neighbours are looked for among a part of the training images: each image is compared
            with each of them.

    Returns:
        The probabilities (n, classes) of both baselines; how many neighbours were best on validation: with folds, the
        median, of two middle ones the lower; and among how many training images they were looked for, None for all.
    """

    def labelled_features(examples: Examples) -> LabelledFeatures:
        return LabelledFeatures(arrays.Rows(features, examples.rows), examples.labels, examples.weights)

    chosen, is_drawn, majority, neighbours = [], False, *np.empty((2, len(held_out.examples), classes))
    for number, part in enumerate(run.rounds()):
        training, asked = labelled_features(part.split("train")), np.flatnonzero(held_out.rounds == number)
        majority[asked] = comparison.majority_probabilities(training, classes, len(asked))
        is_drawn |= len(training.labels) > comparison.MAX_TRAINING
        training, validation = (
            images.drawn(comparison.MAX_TRAINING, seed)
            for images in (training, labelled_features(part.split("validation")))
        )
        k = comparison.choose_neighbours(training, validation, classes)
        near = arrays.Rows(features, held_out.examples.rows[asked])
        neighbours[asked] = comparison.neighbour_probabilities(training, near, classes, k)
        chosen.append(k)
    drawn = comparison.MAX_TRAINING if is_drawn else None
    return {"majority": majority, "neighbours": neighbours}, median_low(chosen), drawn


def in_brief(quality: Quality) -> Quality:
    """Return the measures of BRIEF_MEASURES alone."""
    return {
        model: {split: {key: values[key] for key in _with_ends(BRIEF_MEASURES)} for split, values in splits.items()}
        for model, splits in quality.items()
    }


def compare_models(test: Predictions, resamples: Resamples) -> dict[str, dict]:
    """Compare each pair of COMPARED on the test split. The keys are such as `fine_tuned_against_head`.

    Each value has `differences`, those of `comparison.paired_difference`; `counts`, the images that both, only the
    first, only the second or neither model predicts rightly; and `mcnemar_p`.
    """
    scored, compared = test.scored(), {}
    for first, second in COMPARED:
        a, b = scored[first], scored[second]
        exact = comparison.mcnemar(a.hits, b.hits)
        compared[f"{first}_against_{second}"] = {
            "differences": comparison.subtract(resamples[first]["test"], resamples[second]["test"]),
            "counts": {
                "both_right": exact["both"],
                f"only_{first}_right": exact["only_a"],
                f"only_{second}_right": exact["only_b"],
                "both_wrong": exact["neither"],
            },
            "mcnemar_p": exact["p"],
        }
    return compared


def comparison_scores(compared: Mapping[str, dict]) -> dict[str, Scalars]:
    """Return the scalars of `compare_models` for metrics.json, with the differences of BRIEF_MEASURES alone."""
    scores = {}
    for pair, results in compared.items():
        differences: Scalars = {}
        for measure in BRIEF_MEASURES:
            values = (results["differences"][measure][key] for key in ("difference", "low", "high"))
            differences |= dict(zip(_with_ends([measure]), values, strict=True))
        scores[pair] = differences | results["counts"] | {"mcnemar_p": results["mcnemar_p"]}
    return scores


def by_round(predictions: Predictions) -> Iterator[tuple[np.ndarray, Predictions]]:
    """Yield the positions of the images that each round predicts, and these images."""
    for number in np.unique(predictions.rounds):
        positions = np.flatnonzero(predictions.rounds == number)
        yield positions, predictions.take(positions)


def calibrate(held_out: Predictions) -> Predictions:
    """Return the same images with calibrated probabilities: those of each round, on its validation."""
    probabilities = {model: np.empty_like(p) for model, p in held_out.probabilities.items()}
    for positions, part in by_round(held_out):
        validation = part.split("validation").scored()
        for model, calibrated in probabilities.items():
            temperature = _temperature(validation[model])
            calibrated[positions] = apply_temperature(part.probabilities[model], temperature)
    return held_out.with_probabilities(probabilities)


def fit_temperatures(held_out: Predictions) -> dict[str, float]:
    """Return the temperature of each model for those who use it.

    It is fitted on validation; with folds, on the predictions of models that have not seen the images at all.
    """
    return {model: _temperature(scored) for model, scored in chosen_on(held_out).scored().items()}


def chosen_on(held_out: Predictions) -> Predictions:
    """Return the images on which the temperature and the threshold of the final model are chosen."""
    return held_out.split("validation") if held_out.examples.folds is None else held_out.once()


def _temperature(scored: Scored) -> float:
    return fit_temperature(scored.probabilities, scored.labels, scored.weights)


def calibration_scores(
    temperatures: Mapping[str, float], quality: Quality, calibrated_quality: Quality
) -> dict[str, dict]:
    """Return the temperature of each model and, on validation and test, its measures of CALIBRATED_MEASURES.

    They are as trained, and with the temperature under `…_calibrated`.
    """
    return {
        model: {"temperature": temperature}
        | {
            split: {key: quality[model][split][key] for key in CALIBRATED_MEASURES}
            | {f"{key}_calibrated": calibrated_quality[model][split][key] for key in CALIBRATED_MEASURES}
            for split in EVALUATED
        }
        for model, temperature in temperatures.items()
    }


def choose_thresholds(calibrated: Predictions, final: Predictions, aim: float | str) -> dict[str, dict[str, Threshold]]:
    """Choose a threshold for each model, on the probabilities of class 1 of two.

    With folds, what it reaches where it was chosen would be too good. So each round chooses one on its validation, and
    that is measured on its test.

    Args:
        calibrated: images of validation and test, calibrated in each round.
        final: those on which the threshold is chosen, calibrated as for those who use the model.
        aim: as in `evaluate.threshold`.

    Returns:
        Model → split → the threshold, with the precision and recall that it has on that split.
    """
    thresholds = {}
    for model in calibrated.probabilities:
        chosen, test = choose_threshold(*_positives(final, model), aim), calibrated.split("test")
        if calibrated.examples.folds is None:
            measured = chosen.measured_on(*_positives(test, model))
        else:
            is_above = np.empty(len(test.examples))
            for positions, part in by_round(test):
                validation = calibrated.take((calibrated.rounds == part.rounds[0]).nonzero()[0]).split("validation")
                own = choose_threshold(*_positives(validation, model), aim)
                is_above[positions] = part.probabilities[model][:, 1] > own.value
            _, labels, weights = _positives(test, model)
            measured = replace(replace(chosen, value=0.5).measured_on(is_above, labels, weights), value=chosen.value)
        thresholds[model] = {"validation": chosen, "test": measured}
    return thresholds


def _positives(part: Predictions, model: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the probabilities of class 1, the labels and the weights, (n,) each."""
    return part.probabilities[model][:, 1], part.examples.labels, part.examples.weights


def threshold_scores(thresholds: Mapping[str, Mapping[str, Threshold]]) -> dict[str, dict]:
    """Return the scalars of `choose_thresholds` for metrics.json."""
    return {
        model: {"threshold": splits["validation"].value}
        | {split: {key: getattr(t, key) for key in ("precision", "recall", "f1")} for split, t in splits.items()}
        for model, splits in thresholds.items()
    }


def decision(
    measured: Measured, classes: tuple[str, ...], settings: "Evaluate", outputs: tuple[str, ...] | None = None
) -> dict[str, object]:
    """Return what those who use a model must know beside it: `decision.json`.

    Where `test_time_flips` is not null, p is the mean of a model's probabilities for a photograph and its mirror
    images. Calibrated, it is p^(1 / temperature), scaled to sum to 1. With two classes, `positive_class` is predicted
    where its calibrated probability lies above the threshold. With more, the likeliest class is predicted, and
    `positive_class`, the aim and the threshold are null.

    Args:
        measured: of both models.
        classes: of the labels.
        settings: the section `evaluate`.
        outputs: of a model that was extended, the names of its outputs. The classes that it had before were not
            labelled here, so nothing is chosen for them: the likeliest class is predicted.

    Returns:
        Values that JSON can hold: `class_names`, `positive_class`, `aim`, `test_time_flips`, and `models` with the
        `temperature`, the `threshold` and `aim_reached` of each, and its `sets`: by level, the calibrated probability
        from which each class is in the set, see `conformal`. A model that was extended has none.
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
            "sets": {f"{level:g}": limits.values for level, limits in measured.sets[model].limits.items()},
        }
    two = bool(measured.thresholds)
    positive = {"positive_class": classes[1] if two else None, "aim": settings.threshold if two else None}
    return {"class_names": classes} | positive | flips | {"models": models}


def _numbers(groups: np.ndarray) -> np.ndarray:
    """Return the place (n,) of the name of each group among all names, in their order."""
    return np.unique(groups, return_inverse=True)[1]


def images_in_order(examples: Examples, images: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the table images.csv that describe these images, in their order."""
    order = pl.DataFrame({"image_id": examples.image_ids}, {"image_id": pl.String})
    return order.join(images, on="image_id", how="left", maintain_order="left")


def summary(scores: Mapping[str, float | None]) -> str:
    """Say the weighted accuracy with its interval, for the line that a stage prints."""
    accuracy, low, high = (scores[f"accuracy_weighted{end}"] for end in ("", "_low", "_high"))
    if accuracy is None:
        return "nothing to say"
    return f"{accuracy:.1%}" if low is None or high is None else f"{accuracy:.1%} ({low:.1%} to {high:.1%})"


def _with_ends(measures: Sequence[str]) -> list[str]:
    return [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]


def _resampling(settings: "Evaluate") -> Resampling:
    return Resampling(settings.bootstrap, settings.seed)
