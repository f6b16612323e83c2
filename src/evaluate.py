"""Measure the head and the fine-tuned model: `reports/metrics.json`, plots, the report, the model card.

The head is measured on the cached features, the fine-tuned model on the cached activations. Photographs are read only
to be shown in the report, where there are no cached activations, and for mirror images. `data/predictions` keeps what
both models predict for every photograph. `models/decision.json` has what those who use the model need: its temperature
and its threshold, both chosen on validation, and the flips.

With `split.folds`, test is every photograph, answered by models that have not seen it. Temperature and threshold of the
saved model are then chosen on all these answers.
"""

from dataclasses import replace
from pathlib import Path

from thaw.core import params, prefetch
from thaw.core.cache import of_environment
from thaw.core.errors import run
from thaw.core.files import write_json, write_text
from thaw.core.hashes import md5
from thaw.evaluation import extension, folds, measure, models, plots, predictions, review
from thaw.evaluation.learning_curve import HeadFit
from thaw.features.extraction import Dataset
from thaw.report import collect, model_card, page, quality
from thaw.report.accuracy import accuracy_svg

DATASET = Dataset(raw=Path("data/raw"), split=Path("data/split.csv"), augmentations=Path("data/augmentations.csv"))
FILES = models.RunFiles(
    dataset=DATASET,
    backbone=Path("models/backbone"),
    features=Path("data/features"),
    activations=Path("data/activations"),
    head=Path("models/head/head.zip"),
    model=Path("models/model.keras"),
    head_folds=Path("models/folds/head.zip"),
    model_folds=Path("models/folds/fine_tuned.zip"),
)
HASHED = (  # named by their hash in the report; of the photographs their table alone
    *(DATASET.raw / "images.csv", DATASET.split, DATASET.augmentations, FILES.backbone / "backbone.keras"),
    *(FILES.features / "features.npy", FILES.activations / "activations.npy", FILES.head, FILES.model),
    *(FILES.head_folds, FILES.model_folds),
)
SHOWN = collect.ReportFiles(
    augmentations=Path("reports/augmentations.jpg"),
    preset=Path("models/augmentation.json"),
    head_metrics=Path("reports/head/metrics.json"),
    duplicates=Path("data/duplicates.csv"),
    duplicates_sheet=Path("reports/duplicates.jpg"),
)
PREDICTIONS = Path("data/predictions")
DECISION = Path("models/decision.json")
METRICS = Path("reports/metrics.json")
PLOTS = Path("reports/plots")
ACCURACY = Path("reports/accuracy.svg")
PROVENANCE = Path("reports/provenance.json")
MODEL_CARD = Path("reports/model_card.md")
REPORT = Path("reports/report.html")


def main() -> None:
    parameters = params.load(Path("params.yaml"))
    settings = parameters.evaluate
    hashing = prefetch.run_in_background(lambda: {path.as_posix(): md5(path) for path in HASHED})
    files = replace(FILES, dataset=replace(DATASET, cache=of_environment()))
    trained = models.load(files, settings.test_time_flips)
    head = trained.head
    settings.check_classes(head.classes)

    outputs = trained.output_probabilities()
    predicted = trained.predictions(outputs, settings.seed)
    fit = HeadFit(parameters.head.class_weight, parameters.head.strengths)
    measured = measure.measure_models(
        predicted, trained.examples, trained.features, trained.images, settings=settings, head=fit
    )
    if head.extends:
        measured.metrics["extension"] = extension.measure_extension(trained, outputs[trained.kept])
    if trained.examples.folds is not None:
        measured.metrics["folds"] = folds.measure(trained, outputs)
    predictions.write(PREDICTIONS, predicted)
    write_json(METRICS, measured.metrics)
    decision = measure.decision(measured, head.classes, settings, head.outputs if head.extends else None)
    write_json(DECISION, decision | {"model": trained.kept, "model_md5": hashing.result()[FILES.model.as_posix()]})
    write_text(ACCURACY, accuracy_svg(measured.metrics))
    slices = plots.name_slices(measured.slices)
    plots.write(
        PLOTS,
        {**measured.curves, "per_class": measured.per_class, "slices": slices},
        {
            "learning_curve": measured.learning_curve,
            "learning_curve_ahead": measured.forecast.ahead,
            "comparisons": plots.comparison_rows(measured.comparisons),
        },
    )

    shown = review.Review(
        sheets=review.make_sheets(trained, predicted, outputs[trained.kept], settings.shown),
        confused=review.confused_pairs(trained, predicted, quality.MAX_CONFUSIONS_LISTED),
    )
    results = collect.collect(trained, measured, shown, settings, hashes=hashing.result(), files=SHOWN)
    write_json(PROVENANCE, results.computed_with)
    write_text(MODEL_CARD, model_card.write(results))
    write_text(REPORT, page.render(results))
    right = {model: measure.summary(measured.metrics[model]["test"]) for model in outputs}
    print(
        f"evaluate: of the {len(predicted.split('test').examples):,} test labels, by weight, the head has "
        f"{right['head']} and the fine-tuned model {right['fine_tuned']} right; {REPORT}"
    )


if __name__ == "__main__":
    run(main, stage=__doc__)
