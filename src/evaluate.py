"""Measure the head and the fine-tuned model: `reports/metrics.json`, plots, the report, the model card.

The head is measured on the cached features, the fine-tuned model on the cached activations. Photographs are read only
to be shown in the report, where there are no cached activations, and for mirror images. `data/predictions` keeps what
both models predict for every photograph. `models/decision.json` has what those who use the model need: its temperature
and its threshold, both chosen on validation, and the flips.

With `split.folds`, test is every photograph, predicted by models that have not seen it. Temperature and threshold of
the saved model are then chosen on all these predictions.

With `task: multi`, each class has a temperature and a threshold of its own, and everything counts known pairs of a
photograph and a class.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.core import params, prefetch
from thaw.core.cache import of_environment
from thaw.core.errors import run
from thaw.core.files import write_json, write_text
from thaw.core.hashes import md5
from thaw.core.task import MULTI
from thaw.evaluation import extension, folds, measure, models, plots, predictions, review
from thaw.evaluation.learning_curve import HeadFit
from thaw.evaluation.multi_label import measure as multi_label
from thaw.evaluation.multi_label import plots as multi_label_plots
from thaw.evaluation.multi_label import predictions as multi_label_predictions
from thaw.evaluation.multi_label import review as multi_label_review
from thaw.evaluation.multi_label.metrics import MAIN
from thaw.features.extraction import Dataset
from thaw.parameters.evaluate import Evaluate
from thaw.report import collect, model_card, page, quality
from thaw.report.accuracy import accuracy_svg
from thaw.report.multi_label import model_card as multi_label_card
from thaw.report.multi_label import page as multi_label_page
from thaw.report.multi_label import results as multi_label_results

if TYPE_CHECKING:
    import numpy as np

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
LABELS = DATASET.raw / "labels.csv"  # named too where photographs have several labels
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
    outputs = trained.output_probabilities()
    shown = replace(SHOWN, looked_for_duplicates=parameters.split.group_duplicates)
    if parameters.task == MULTI:
        evaluate_several_labels(trained, outputs, settings, hashing.result, shown)
    else:
        fit = HeadFit(parameters.head.class_weight, parameters.head.strengths)
        evaluate_one_label(trained, outputs, settings, fit, hashing.result, shown)


def evaluate_one_label(
    trained: models.TrainedModels,
    outputs: "dict[str, np.ndarray]",
    settings: Evaluate,
    fit: HeadFit,
    hashes: Callable[[], dict[str, str]],
    files: collect.ReportFiles,
) -> None:
    """Measure models of one label a photograph, and write all outputs of the stage.

    Args:
        trained: the models.
        outputs: model → (n, outputs), what they return for each photograph.
        settings: the section `evaluate`.
        fit: how the head was trained.
        hashes: returns path → MD5 of what was read.
        files: what the report shows beside.
    """
    head = trained.head
    settings.check_classes(head.classes)
    predicted = trained.predictions(outputs, settings.seed)
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
    write_json(DECISION, decision | {"model": trained.kept, "model_md5": hashes()[FILES.model.as_posix()]})
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
    results = collect.collect(trained, measured, shown, settings, hashes=hashes(), files=files)
    write_json(PROVENANCE, results.computed_with)
    write_text(MODEL_CARD, model_card.write(results))
    write_text(REPORT, page.render(results))
    right = {model: measure.summary(measured.metrics[model]["test"]) for model in outputs}
    print(
        f"evaluate: of the {len(predicted.split('test').examples):,} test labels, by weight, the head has "
        f"{right['head']} and the fine-tuned model {right['fine_tuned']} right; {REPORT}"
        f"{plots.thinned_text(measured.curves)}"
    )
    if fewer := measure.resamples_text(measured, settings.bootstrap):
        print(f"evaluate: {fewer}")


def evaluate_several_labels(
    trained: models.TrainedModels,
    outputs: "dict[str, np.ndarray]",
    settings: Evaluate,
    hashes: Callable[[], dict[str, str]],
    files: collect.ReportFiles,
) -> None:
    """Measure models of several labels a photograph, and write all outputs of the stage.

    Args:
        trained: the models.
        outputs: model → (n, k), what they return for each photograph.
        settings: the section `evaluate`.
        hashes: returns path → MD5 of what was read.
        files: what the report shows beside.
    """
    predicted = multi_label_predictions.predict(trained, outputs, settings.seed)
    measured = multi_label.measure_models(predicted, trained.features, trained.images, settings)
    multi_label_predictions.write(PREDICTIONS, predicted, measured.called)
    write_json(METRICS, measured.metrics)
    decision = multi_label.decision(measured, predicted.classes, settings, trained.kept)
    read = hashes() | {LABELS.as_posix(): md5(LABELS)}
    write_json(DECISION, decision | {"model_md5": read[FILES.model.as_posix()]})
    write_text(ACCURACY, accuracy_svg(measured.metrics, MAIN))
    plots.write(
        PLOTS,
        {**measured.curves, "per_class": measured.per_class, "slices": plots.name_slices(measured.slices)},
        {
            "learning_curve": [],
            "learning_curve_ahead": [],
            "comparisons": multi_label_plots.comparison_rows(measured.comparisons),
        },
    )
    sheets = multi_label_review.make_sheets(trained, predicted, measured, settings.shown)
    results = multi_label_results.collect(trained, measured, sheets, settings, hashes=read, files=files)
    write_json(PROVENANCE, results.computed_with)
    write_text(MODEL_CARD, multi_label_card.write(results))
    write_text(REPORT, multi_label_page.render(results))
    for line in measured.misses.values():
        print(f"evaluate: {line}")
    test = measured.metrics["head"]["test"]
    good = {model: multi_label.summary(measured.metrics[model]["test"]) for model in outputs}
    print(
        f"evaluate: on {test['known_present']:,} present and {test['known_absent']:,} absent pairs of test, the head "
        f"has {good['head']} and the fine-tuned model {good['fine_tuned']}; {REPORT}"
        f"{multi_label_plots.thinned_text(measured.curves)}"
    )
    if fewer := multi_label.resamples_text(measured, settings.bootstrap):
        print(f"evaluate: {fewer}")


if __name__ == "__main__":
    run(main, stage=__doc__)
