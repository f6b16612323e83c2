"""Measure the head and the fine-tuned model: `reports/metrics.json`, plots, the report, the model card.

The head is measured on the cached features, the fine-tuned model on the cached activations; photographs are read only
to be shown in the report, where there are no cached activations, and where mirror images are asked, too.
`data/predictions` keeps what both models answer to every photograph, `models/decision.json` what those who use the
model want to know: the temperature and the threshold that are chosen on validation, and the flips.
"""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from thaw import (
    ahead,
    arrays,
    evaluation,
    examples,
    extraction,
    failures,
    flips,
    heads,
    health,
    label_errors,
    params,
    plots,
    predictions,
    provenance,
    tables,
)
from thaw.backbone_names import FEATURES
from thaw.errors import run
from thaw.extension import ExtendedHead
from thaw.files import read_json, whole_file
from thaw.predictions import Photographs
from thaw.report import model_card, page
from thaw.report.results import Results

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
BACKBONE = Path("models/backbone")
EMBEDDINGS = Path("data/features")
ACTIVATIONS = Path("data/activations")
HEAD = Path("models/head")
MODEL = Path("models/model.keras")
SHEET = Path("reports/augmentations.jpg")
PREDICTIONS = Path("data/predictions")
DECISION = Path("models/decision.json")
METRICS = Path("reports/metrics.json")
PLOTS = Path("reports/plots")
ACCURACY = Path("reports/accuracy.svg")
MODEL_CARD = Path("reports/model_card.md")
REPORT = Path("reports/report.html")
READ = (RAW / "images.csv", SPLIT, AUGMENTATIONS, BACKBONE, EMBEDDINGS, ACTIVATIONS, HEAD, MODEL)


def main() -> None:
    parameters = params.load(Path("params.yaml"))
    evaluate = parameters.evaluate
    cut = read_json(ACTIVATIONS / "cut.json")
    if cut["image"]["engine"] == "tensorflow":  # before anything imports Keras
        from thaw.training import predictor
    else:
        import thaw.keras_alone  # noqa: F401
        from thaw.array_inference import predictor
    from thaw import models

    hashes = ahead.begin(lambda: {path.as_posix(): provenance.md5(path) for path in READ})
    head = heads.load(HEAD)
    classes = head.classes
    inputs_of_head = arrays.open_rows(EMBEDDINGS / "features.npy")
    features = arrays.pooled(inputs_of_head)
    activations = extraction.open_activations(ACTIVATIONS, RAW, SPLIT, AUGMENTATIONS, BACKBONE)
    model, metadata = models.load(MODEL)
    splits = examples.read(EMBEDDINGS, SPLIT)  # rows of the features and of the activations show the same
    photographs = predictions.gather(splits)
    images = tables.read_images(RAW)

    asked = [(inputs_of_head, activations), *mirrored(cut, evaluate.test_time_flips)]
    predict, rows = predictor(models.thawed_part(model, metadata["cut"]), activations), photographs.rows

    def mean_answer(answer: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the mean, over the photographs and their mirror images, of what is answered to their features."""
        seen = ([answer(block) for block in arrays.blocks(x, rows)] for x, _ in asked)
        return np.mean([np.concatenate(blocks) for blocks in seen], axis=0)

    of_outputs = np.mean([normalised(predict(rows, x)) for _, x in asked], axis=0)
    extended = head if isinstance(head, ExtendedHead) else None
    if extended:
        answers = {"head": mean_answer(extended.whole.probabilities), "fine_tuned": of_outputs}
        probabilities = {model: extended.collapse(of_all) for model, of_all in answers.items()}
    else:
        probabilities = {"head": mean_answer(head.probabilities), "fine_tuned": of_outputs}
    self_confidence = label_errors.self_confidence(
        features[rows], photographs.labels, photographs.weights, photographs.groups, len(classes),
        seed=evaluate.seed,
    )  # fmt: skip

    measured = evaluation.measure(
        splits, images, features, classes, probabilities, evaluate,
        class_weight=parameters.head.class_weight, strengths=parameters.head.strengths,
    )  # fmt: skip
    if extended:
        before = mean_answer(extended.before)
        of_splits = {split: photographs.of(split) for split in evaluation.MEASURED}
        measured.metrics["extension"] = {
            split: extended.scores(of_outputs[at], before[at], photographs.labels[at])
            for split, at in of_splits.items()
        }
    predictions.write(PREDICTIONS, photographs, classes, probabilities, self_confidence)
    write_json(METRICS, measured.metrics)
    decision = evaluation.decision(measured, classes, evaluate, extended and extended.outputs)
    write_json(DECISION, decision | {"model_md5": hashes.result()[MODEL.as_posix()]})
    write_text(ACCURACY, plots.accuracy_svg(measured.metrics))
    plots.write(
        PLOTS,
        {**measured.curves, "per_class": measured.per_class, "slices": plots.named(measured.slices)},
        {"learning_curve": measured.learning_curve, "comparisons": plots.flat(measured.comparisons)},
    )

    chosen = failures.choose(photographs, probabilities["fine_tuned"], self_confidence, evaluate.shown)
    shown = sorted({int(position) for sheet in chosen.values() for position in sheet})
    near = failures.nearest(features, photographs, shown)
    seen = see(photographs.image_ids, images, {*shown, *chain.from_iterable(near.values())}, metadata["image"])
    evidence = where_it_looked(
        model, metadata["cut"], photographs, shown, probabilities["fine_tuned"], seen, activations,
        (lambda labels, at: extended.stand_ins(labels, of_outputs[at])) if extended else (lambda labels, at: labels),
    )  # fmt: skip
    cards = failures.show(shown, photographs, classes, probabilities, self_confidence, near, seen, evidence)

    results = Results(
        source=read_json(RAW / "source.json"),
        classes=classes,
        weighted=len(set(photographs.weights)) > 1,
        measured=measured,
        sheets={name: [cards[int(position)] for position in sheet] for name, sheet in chosen.items()},
        health=health.describe(
            images, tables.read(SPLIT, tables.SPLIT), tables.read(RAW / "missing.csv", tables.MISSING), classes
        ),
        parameters={
            "model": {"backbone": model.name, "cut": metadata["cut"], "best_epoch": metadata["best_epoch"]},
            "image": metadata["image"],
            "head": head.description,
            "fine_tune": metadata["fine_tune"],
            "evaluate": evaluate.model_dump(),
        },
        inputs=hashes.result(),
        augmentations=SHEET.read_bytes(),
    )
    write_text(MODEL_CARD, model_card.write(results))
    write_text(REPORT, page.render(results))
    right = [sentence(measured.metrics[model]["test"]) for model in ("head", "fine_tuned")]
    print(f"evaluate: of the {len(photographs.of('test')):,} test labels, by weight, the head has {right[0]} and the "
          f"fine-tuned model {right[1]} right; {REPORT}")  # fmt: skip


def mirrored(cut: dict, wanted: str | None) -> list[tuple[extraction.Recomputed, extraction.Recomputed]]:
    """Return for each mirror image what takes the place of the cached features and activations, row by row."""
    if wanted is None:
        return []
    image = params.Image(**cut["image"])
    seen = extraction.Views(RAW, SPLIT, AUGMENTATIONS, image)
    output = {layer: extraction.Recomputed(seen, BACKBONE, layer, image) for layer in {FEATURES, cut["layer"]}}
    return [(output[FEATURES].turned(axes), output[cut["layer"]].turned(axes)) for axes in flips.AXES[wanted]]


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
    seen: dict[int, np.ndarray | None], activations: np.ndarray, outputs: Callable[[np.ndarray, list[int]], np.ndarray],
) -> dict[int, np.ndarray]:  # fmt: skip
    """Return the map of what speaks for the answer to each photograph that can be shown, where the model has one.

    `outputs` says which of the model's outputs stand for the labels of photographs.
    """
    from thaw import attention  # Keras: see `main`

    positions = [position for position in positions if seen[position] is not None]
    if not positions or attention.averaged_map(model) is None:
        return {}
    start = attention.start_of_map(model, cut)
    if start == cut:
        inputs = activations[photographs.rows[positions]]
    else:
        inputs = np.stack([seen[position] for position in positions])
    rivals = failures.rivals(probabilities[positions], photographs.labels[positions])
    answers, others = (outputs(labels, positions) for labels in rivals)
    return dict(zip(positions, attention.evidence(model, start, inputs, answers, others), strict=True))


def sentence(scores: dict) -> str:
    share, low, high = (scores[f"accuracy_weighted{end}"] for end in ("", "_low", "_high"))
    if share is None:
        return "nothing to say"
    return f"{share:.1%}" if low is None or high is None else f"{share:.1%} ({low:.1%} to {high:.1%})"


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
