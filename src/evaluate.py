"""Measure the head and the fine-tuned model: `reports/metrics.json`, plots, the report, the model card.

The head is measured on the cached features, the fine-tuned model on the cached activations; photographs are read only
to be shown in the report. `data/predictions` keeps what both models answer to every photograph, `models/decision.json`
what is chosen on validation for those who use the model: a temperature and a threshold.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl

from thaw import (
    arrays,
    attention,
    evaluation,
    examples,
    failures,
    health,
    label_errors,
    learning_curve,
    models,
    params,
    plots,
    predictions,
    provenance,
    tables,
    training,
)
from thaw.errors import run
from thaw.files import whole_file
from thaw.heads import LinearHead
from thaw.predictions import Photographs
from thaw.report import model_card, page
from thaw.report.results import Results

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
FEATURES = Path("data/features")
ACTIVATIONS = Path("data/activations")
HEAD = Path("models/head")
MODEL = Path("models/model.keras")
AUGMENTATIONS = Path("reports/augmentations.jpg")
PREDICTIONS = Path("data/predictions")
DECISION = Path("models/decision.json")
METRICS = Path("reports/metrics.json")
PLOTS = Path("reports/plots")
ACCURACY = Path("reports/accuracy.svg")
MODEL_CARD = Path("reports/model_card.md")
REPORT = Path("reports/report.html")
MISSING_COLUMNS = dict.fromkeys(("image_id", "file", "reason"), pl.String)
READ = (RAW / "images.csv", SPLIT, FEATURES, ACTIVATIONS, HEAD, MODEL)


def main() -> None:
    parameters = params.load(Path("params.yaml"))
    evaluate = parameters.evaluate
    head = LinearHead.load(HEAD)
    classes = head.classes
    features = arrays.open_rows(FEATURES / "features.npy")
    activations = arrays.open_rows(ACTIVATIONS / "activations.npy")
    model, metadata = models.load(MODEL)
    splits = examples.read(FEATURES, SPLIT)  # rows of the features and of the activations show the same
    photographs = predictions.gather(splits)
    images = tables.read_images(RAW)

    predict = training.predictor(training.thawed_part(model, metadata["cut"]), activations)
    probabilities = {
        "head": head.probabilities(features[photographs.rows]),
        "fine_tuned": normalised(predict(photographs.rows)),
    }
    self_confidence = label_errors.self_confidence(
        features[photographs.rows], photographs.labels, photographs.weights, photographs.groups, len(classes),
        seed=evaluate.seed,
    )  # fmt: skip
    predictions.write(PREDICTIONS, photographs, classes, probabilities, self_confidence)

    temperatures = evaluation.temperatures(photographs, probabilities)
    calibrated = evaluation.calibrated(probabilities, temperatures)
    thresholds = evaluation.thresholds(photographs, calibrated, evaluate.threshold)
    untrained, neighbours = evaluation.baselines(features, photographs, len(classes))
    measured = evaluation.quality(photographs, probabilities, evaluate)
    after = evaluation.quality(photographs, calibrated, evaluate)
    scores = measured | {
        "baselines": evaluation.quality(photographs, untrained, evaluate),
        "comparison": evaluation.comparisons(photographs, probabilities | untrained, evaluate),
        "calibration": evaluation.calibration_scores(temperatures, measured, after),
        "threshold": evaluation.threshold_scores(thresholds),
    }
    write_json(METRICS, scores)
    write_json(DECISION, evaluation.decision(classes, temperatures, thresholds, evaluate.threshold))
    write_text(ACCURACY, plots.accuracy_svg(measured))

    per_class = evaluation.by_class(photographs, probabilities, classes, evaluate)
    slices = evaluation.by_slice(photographs, images, probabilities, evaluate)
    curve = learning_curve.learning_curve(
        features, splits, classes, class_weight=parameters.head.class_weight, strengths=parameters.head.strengths,
        seed=evaluate.seed,
    )  # fmt: skip
    test = photographs.of("test")
    curves = plots.curves(
        {m: p[test] for m, p in probabilities.items()}, {m: p[test] for m, p in calibrated.items()},
        photographs.labels[test], classes, evaluate.bins,
    )  # fmt: skip
    tabular = {"per_class": per_class, "slices": {m: plots.named(rows) for m, rows in slices.items()}}
    plots.write(PLOTS, curves | tabular | {"learning_curve": {"": curve}})

    shown = failures.choose(photographs, probabilities["fine_tuned"], self_confidence, evaluate.shown)
    positions = sorted({int(position) for sheet in shown.values() for position in sheet})
    near = failures.nearest(features, photographs, positions)
    wanted = {*positions, *(neighbour for of_one in near.values() for neighbour in of_one)}
    seen = see(photographs.image_ids, images, wanted, metadata["image"])
    evidence = where_it_looked(
        model, metadata["cut"], photographs, positions, probabilities["fine_tuned"], seen, activations
    )
    cards = failures.show(positions, photographs, classes, probabilities, self_confidence, near, seen, evidence)

    missing = tables.read(RAW / "missing.csv", MISSING_COLUMNS)
    results = Results(
        source=json.loads((RAW / "source.json").read_text(encoding="utf-8")),
        classes=classes,
        weighted=len(set(photographs.weights)) > 1,
        metrics=scores,
        per_class=per_class,
        curves=curves,
        learning_curve=curve,
        slices=slices,
        neighbours=neighbours,
        thresholds=thresholds,
        sheets={name: [cards[int(position)] for position in sheet] for name, sheet in shown.items()},
        health=health.describe(images, tables.read(SPLIT, tables.SPLIT), missing, classes),
        parameters={
            "model": {"backbone": model.name, "cut": metadata["cut"], "best_epoch": metadata["best_epoch"]},
            "image": metadata["image"],
            "head": {"strength": head.strength},
            "fine_tune": metadata["fine_tune"],
            "evaluate": evaluate.model_dump(),
        },
        inputs={path.as_posix(): provenance.md5(path) for path in READ},
        augmentations=AUGMENTATIONS.read_bytes(),
    )
    write_text(MODEL_CARD, model_card.write(results))
    write_text(REPORT, page.render(results))
    print(f"evaluate: of the {len(test):,} test labels, by weight, the head has {sentence(scores['head'])} and "
          f"the fine-tuned model {sentence(scores['fine_tuned'])} right; {REPORT}")  # fmt: skip


def normalised(probabilities: np.ndarray) -> np.ndarray:
    """Return the rows as float64 that sum to 1 exactly as metrics want them."""
    probabilities = probabilities.astype(np.float64)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def see(image_ids: np.ndarray, images: pl.DataFrame, positions: set[int], image: dict) -> dict[int, np.ndarray | None]:
    """Return what the network sees of each photograph; None of one that is gone since, which is no reason to end."""
    paths = dict(images.select("image_id", "path").iter_rows())
    return {
        position: failures.see(RAW / paths[image_ids[position]], image["size"], image["resize"])
        for position in sorted(positions)
    }


def where_it_looked(
    model, cut: str | None, photographs: Photographs, positions: list[int], probabilities: np.ndarray,
    seen: dict[int, np.ndarray | None], activations: np.ndarray,
) -> dict[int, np.ndarray]:  # fmt: skip
    """Return the map of what speaks for the answer to each photograph that can be shown, where the model has one."""
    positions = [position for position in positions if seen[position] is not None]
    if not positions or attention.averaged_map(model) is None:
        return {}
    start = attention.start_of_map(model, cut)
    if start == cut:
        inputs = activations[photographs.rows[positions]]
    else:
        inputs = np.stack([seen[position] for position in positions])
    answers, others = failures.rivals(probabilities[positions], photographs.labels[positions])
    return dict(zip(positions, attention.evidence(model, start, inputs, answers, others), strict=True))


def sentence(metrics: dict) -> str:
    test = metrics["test"]
    return (
        f"{test['accuracy_weighted']:.1%} ({test['accuracy_weighted_low']:.1%} to {test['accuracy_weighted_high']:.1%})"
    )


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
