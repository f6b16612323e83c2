"""What is measured of both models of several labels, from their probabilities: the content of `metrics.json`.

The models are called `head` and `fine_tuned`, the baselines `majority` (the frequency of each class) and `neighbours`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thaw.core import progress
from thaw.core.label_values import UNKNOWN
from thaw.core.metrics_file import MODELS
from thaw.core.tables import EVALUATED, SPLITS
from thaw.core.task import MULTI
from thaw.evaluation.measure import COMPARED, images_in_order
from thaw.evaluation.multi_label import calibration, comparison, plots, thresholds, together
from thaw.evaluation.multi_label.comparison import Differences, Images
from thaw.evaluation.multi_label.metrics import ENDS, KINDS, MAIN, class_rows, in_brief, summarise
from thaw.evaluation.multi_label.pairs import Pairs
from thaw.evaluation.multi_label.resampling import Resampled, resample
from thaw.evaluation.multi_label.slices import measure_slices
from thaw.evaluation.plots import Curves
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.resampling import Resampling
from thaw.evaluation.scored import Row
from thaw.evaluation.slices import count_small
from thaw.evaluation.thresholds import Threshold
from thaw.features.examples import Examples
from thaw.training import temperatures

if TYPE_CHECKING:
    from thaw.parameters.evaluate import Evaluate

BRIEF_MEASURES = (MAIN, "micro_average_precision", "macro_roc_auc", "micro_log_loss")  # of baselines and differences
CALIBRATED_MEASURES = ("macro_log_loss", "micro_log_loss", "macro_ece", "micro_ece")  # what temperatures are to improve
CHANCE = 0.5  # the threshold of the baselines, and what they say where they are not asked

Resamples = Mapping[str, Mapping[str, Mapping[str, Resampled]]]  # model → split → kind → values


@dataclass(frozen=True)
class Measured:
    """All that is measured; of the test split where a split is not named."""

    metrics: dict[str, Mapping]  # the content of metrics.json
    temperatures: Mapping[str, NDArray[np.float64]]  # model → (k,)
    thresholds: Mapping[str, Mapping[str, Sequence[Threshold]]]  # model → split → of each class
    untold: NDArray[np.bool_]  # (k,), whether validation knows no present pair of the class, or no absent one
    calibrated: Mapping[str, NDArray[np.float64]]  # model → (n, k) of the images of all splits
    called: Mapping[str, NDArray[np.bool_]]  # model → (n, k), whether above the threshold
    comparisons: Mapping[str, Mapping]  # pair → `differences`, and `classes`, those of the average precisions
    neighbours: Sequence[int]  # that vote on each class in the baseline of this name
    per_class: Mapping[str, Sequence[Row]]  # model → a row for each class
    slices: Mapping[str, Sequence[Row]]  # model → the worst first
    small_slices: int  # that are left out, since nothing can be said of so few images
    resamples: int  # behind the intervals
    curves: Curves
    class_curves: Mapping[str, Mapping[str, Sequence[Row]]]  # model → class → recall and precision
    together: Sequence[Row]  # of the images of all splits, see `together.count_together`
    labels_per_image: Sequence[tuple[int, int]]  # of all splits: how many of the classes, and how many images

    @property
    def misses(self) -> dict[str, str]:
        """Model → the line that names the classes whose threshold does not reach the aim, where there are any."""
        classes = list(self.metrics["pairs"]["test"])
        lines = {
            model: thresholds.missed(splits["validation"], classes, self.untold, MODELS[model])
            for model, splits in self.thresholds.items()
        }
        return {model: line for model, line in lines.items() if line}


def measure_models(
    predictions: Predictions, features: np.ndarray, images: pl.DataFrame, settings: "Evaluate"
) -> Measured:
    """Measure the models by their predictions for the images of all splits.

    Args:
        predictions: of both models, (n, k) each. The images have `values`.
        features: (rows, channels), as the extraction wrote them.
        images: the table images.csv.
        settings: the section `evaluate`.

    Returns:
        All that metrics.json, the plots and the report are written from.
    """
    run, classes = predictions.examples, predictions.classes
    validation = predictions.split("validation").examples
    fitted = {
        model: calibration.fit_temperatures(p[run.splits == "validation"], validation.values, validation.value_weights)
        for model, p in predictions.probabilities.items()
    }
    calibrated = {model: temperatures.apply(p, fitted[model]) for model, p in predictions.probabilities.items()}
    chosen = {model: _thresholds(p, run, settings.multi_aim) for model, p in calibrated.items()}
    called = {model: thresholds.above(p, chosen[model]["validation"]) for model, p in calibrated.items()}
    baselines, neighbours = predict_baselines(features, run)
    untrained_calls = {model: p > CHANCE for model, p in baselines.items()}
    pairs = _pairs(run, predictions.probabilities | baselines, called | untrained_calls)
    resampling = Resampling(settings.bootstrap, settings.seed)
    resamples = {
        model: {split: resample(part, settings.bins, resampling) for split, part in by_split.items()}
        for model, by_split in progress.track(pairs.items(), "intervals", "model", len(pairs))
    }
    quality = {
        model: {split: summarise(part, classes, resamples[model][split]) for split, part in by_split.items()}
        for model, by_split in pairs.items()
    }
    no_intervals = Resampling(0, 0)
    calibrated_quality = {
        model: {
            split: summarise(part, classes, resample(part, settings.bins, no_intervals))
            for split, part in by_split.items()
        }
        for model, by_split in _pairs(run, calibrated, called).items()
    }
    trained = list(predictions.probabilities)
    compared = compare_models(resamples, classes)
    test = {model: pairs[model]["test"] for model in trained}
    drawn = count_drawn(resamples, settings.bootstrap)
    fewer = {"asked_for": settings.bootstrap, "drawn": drawn}
    is_test = run.splits == "test"
    test_images = images_in_order(run.split("test"), images)
    has_known = pl.Series((run.values[is_test] != UNKNOWN).any(axis=1))
    return Measured(
        metrics={model: quality[model] for model in trained}
        | {
            "baselines": {
                model: {split: in_brief(scores, BRIEF_MEASURES) for split, scores in quality[model].items()}
                for model in baselines
            },
            "comparison": comparison_scores(compared),
            "calibration": {
                model: _calibration_scores(fitted[model], classes, quality[model], calibrated_quality[model])
                for model in trained
            },
            "threshold": threshold_scores(chosen, classes),
            "pairs": count_pairs(run, classes),
        }
        | ({"resamples": fewer} if drawn < settings.bootstrap else {}),
        temperatures=fitted,
        thresholds=chosen,
        untold=calibration.cannot_calibrate(validation.values, validation.value_weights),
        calibrated=calibrated,
        called=called,
        comparisons=compared,
        neighbours=neighbours,
        per_class={model: class_rows(part, classes, resamples[model]["test"][""]) for model, part in test.items()},
        slices={model: measure_slices(test_images, part, settings.bins, resampling) for model, part in test.items()},
        small_slices=count_small(test_images.filter(has_known)),
        resamples=drawn,
        curves=plots.compute_curves(test, {model: p[is_test] for model, p in calibrated.items()}, settings.bins),
        class_curves={model: plots.class_curves(part, classes) for model, part in test.items()},
        together=together.count_together(run.values, classes),
        labels_per_image=together.labels_per_image(run.values),
    )


def count_drawn(resamples: Resamples, asked_for: int) -> int:
    """Return how many resamples of test there are."""
    drawn = len(next(iter(resamples.values()))["test"][""].pooled["accuracy"]) - 1
    return drawn or asked_for  # without known pairs nothing is drawn


def resamples_text(measured: Measured, asked_for: int) -> str:
    """Say that intervals come from fewer resamples than were asked for; empty where they do not."""
    if measured.resamples == asked_for:
        return ""
    return f"with so many classes or pairs, intervals come from {measured.resamples:,} of {asked_for:,} resamples"


def predict_baselines(features: np.ndarray, run: Examples) -> tuple[dict[str, NDArray[np.float64]], list[int]]:
    """Return baseline → (n, k) probabilities for all images of a run, and how many neighbours vote on each class.

    features: (rows, channels), as the extraction wrote them.
    """

    def of_split(name: str) -> Images:
        part = run.split(name)
        return Images(features[part.rows], part.values, part.value_weights)

    train = of_split("train")
    held_out = np.flatnonzero(run.splits != "train")
    near, chosen = comparison.neighbours(train, of_split("validation"), features[run.rows[held_out]])
    neighbours = np.full(run.values.shape, CHANCE)  # training images are not asked: each is its own nearest
    neighbours[held_out] = near
    return {"majority": comparison.frequencies(train, len(run)), "neighbours": neighbours}, chosen


def _pairs(
    run: Examples, probabilities: Mapping[str, NDArray[np.float64]], called: Mapping[str, NDArray[np.bool_]]
) -> dict[str, dict[str, Pairs]]:
    """Return model → split → pairs, of the splits that models are measured on."""
    at = {split: run.positions(split) for split in EVALUATED}
    return {
        model: {
            split: Pairs(p, called[model], run.values, run.value_weights, run.groups).take(positions)
            for split, positions in at.items()
        }
        for model, p in probabilities.items()
    }


def _thresholds(calibrated: NDArray[np.float64], run: Examples, aim: float | str) -> dict[str, list[Threshold]]:
    """Return the thresholds of one model as chosen on validation, and the same as measured on test."""
    parts = {
        split: (calibrated[at], run.values[at], run.value_weights[at])
        for split in EVALUATED
        for at in [run.positions(split)]
    }
    chosen = thresholds.choose_thresholds(*parts["validation"], aim)
    return {"validation": chosen, "test": thresholds.measure_thresholds(chosen, *parts["test"])}


def compare_models(resamples: Resamples, classes: Sequence[str]) -> dict[str, dict]:
    """Compare each pair of `measure.COMPARED` on the test split. The keys are such as `fine_tuned_against_head`.

    Each value has `differences`, those of `comparison.subtract`, and `classes`, those of `subtract_classes`.
    """
    compared = {}
    for first, second in COMPARED:
        a, b = resamples[first]["test"], resamples[second]["test"]
        compared[f"{first}_against_{second}"] = {
            "differences": comparison.subtract(a, b),
            "classes": comparison.subtract_classes(a, b, classes),
        }
    return compared


def comparison_scores(compared: Mapping[str, Mapping]) -> dict[str, dict[str, float | None]]:
    """Return the differences of BRIEF_MEASURES for metrics.json."""

    def scores(differences: Differences) -> dict[str, float | None]:
        keys = ("difference", "low", "high")
        return {
            f"{name}{end}": differences[name][key]
            for name in BRIEF_MEASURES
            for end, key in zip(ENDS, keys, strict=True)
        }

    return {pair: scores(results["differences"]) for pair, results in compared.items()}


def _calibration_scores(
    fitted: NDArray[np.float64],
    classes: Sequence[str],
    quality: Mapping[str, Mapping],
    calibrated: Mapping[str, Mapping],
) -> dict[str, dict]:
    """Return the temperature of each class, and CALIBRATED_MEASURES of a model as trained and with them.

    Args:
        fitted: (k,) temperatures.
        classes: their names.
        quality: split → metrics of the model as trained.
        calibrated: the same with calibrated probabilities.
    """
    keys = [f"{name}{kind}" for name in CALIBRATED_MEASURES for kind in KINDS]
    return {
        "temperatures": dict(zip(classes, fitted.tolist(), strict=True)),
        "as_trained": {split: {key: scores[key] for key in keys} for split, scores in quality.items()},
        "calibrated": {split: {key: scores[key] for key in keys} for split, scores in calibrated.items()},
    }


def threshold_scores(
    chosen: Mapping[str, Mapping[str, Sequence[Threshold]]], classes: Sequence[str]
) -> dict[str, dict]:
    """Return for metrics.json, by model and class: the threshold, whether it reaches the aim, and its measures."""
    return {
        model: {
            name: {"threshold": splits["validation"][number].value, "reached": splits["validation"][number].reached}
            | {
                split: {key: getattr(by_class[number], key) for key in ("precision", "recall", "f1")}
                for split, by_class in splits.items()
            }
            for number, name in enumerate(classes)
        }
        for model, splits in chosen.items()
    }


def count_pairs(run: Examples, classes: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Return split → class → how many images are known to show it (`present`), and not to (`absent`)."""
    counts = {split: thresholds.counts(run.values[run.splits == split]) for split in SPLITS}
    return {
        split: {
            name: {"present": present, "absent": absent}
            for name, present, absent in zip(classes, *(numbers.tolist() for numbers in both), strict=True)
        }
        for split, both in counts.items()
    }


def decision(measured: Measured, classes: Sequence[str], settings: "Evaluate", kept: str) -> dict[str, object]:
    """Return what those who use the model must know beside it: `decision.json`.

    p of a class becomes calibrated as sigmoid(logit(p) / temperature). The class is called present where that lies
    above its threshold. Where `test_time_flips` is not null, p is the mean of a model's probabilities for a photograph
    and its mirror images.

    Args:
        measured: of both models.
        classes: in the order of the model's outputs.
        settings: the section `evaluate`.
        kept: the model that the run has saved.

    Returns:
        Values that JSON can hold: `task`, `classes`, `model`, `aim`, `test_time_flips`, and by class `temperatures`,
        `thresholds` and `aim_reached`.
    """
    chosen = measured.thresholds[kept]["validation"]
    by_class = {
        "temperatures": measured.temperatures[kept].tolist(),
        "thresholds": [threshold.value for threshold in chosen],
        "aim_reached": [threshold.reached for threshold in chosen],
    }
    return {
        "task": MULTI,
        "classes": list(classes),
        "model": kept,
        "aim": settings.multi_aim,
        "test_time_flips": settings.test_time_flips,
        **{key: dict(zip(classes, values, strict=True)) for key, values in by_class.items()},
    }


def summary(scores: Mapping[str, float | None]) -> str:
    """Say the mean average precision with its interval, for the line that a stage prints."""
    value, low, high = (scores[f"{MAIN}{end}"] for end in ENDS)
    if value is None:
        return "no mean average precision"
    interval = "" if low is None or high is None else f" ({low:.1%} to {high:.1%})"
    return f"a mean average precision of {value:.1%}{interval}"
