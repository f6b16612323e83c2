"""Measure the head and the fine-tuned model on validation and test: `reports/metrics.json`, plots, the report.

The head is measured on the cached features, the fine-tuned model on the cached activations: no photograph is read.
"""

import json
from pathlib import Path

import numpy as np

from thaw import arrays, examples, heads, models, params, plots, report, training
from thaw.errors import run
from thaw.files import whole_file
from thaw.heads import LinearHead
from thaw.metrics import classification_metrics

SOURCE = Path("data/raw/source.json")
SPLIT = Path("data/split.csv")
FEATURES = Path("data/features")
ACTIVATIONS = Path("data/activations")
HEAD = Path("models/head")
MODEL = Path("models/model.keras")
AUGMENTATIONS = Path("reports/augmentations.jpg")
METRICS = Path("reports/metrics.json")
PLOTS = Path("reports/plots")
ACCURACY = Path("reports/accuracy.svg")
REPORT = Path("reports/report.html")


def main() -> None:
    evaluate = params.load(Path("params.yaml")).evaluate
    head = heads.load(HEAD)
    features = arrays.open_rows(FEATURES / "features.npy")
    model, metadata = models.load(MODEL)
    thawed = training.thawed_part(model, metadata["cut"])
    predict = training.predictor(thawed, arrays.open_rows(ACTIVATIONS / "activations.npy"))
    splits = examples.read(FEATURES, SPLIT)  # rows of the features and of the activations show the same

    metrics: dict[str, dict] = {"head": {}, "fine_tuned": {}}
    probabilities = {}
    for name in ("validation", "test"):
        part = splits[name]
        rows = part.views[:, 0]
        probabilities = {"head": head.probabilities(features[rows]), "fine_tuned": normalised(predict(rows))}
        for key, p in probabilities.items():
            metrics[key][name] = classification_metrics(
                p, part.labels, part.weights, part.groups,
                bins=evaluate.bins, bootstrap=evaluate.bootstrap, seed=evaluate.seed,
            )  # fmt: skip
    test = splits["test"]
    write_text(METRICS, json.dumps(metrics, indent=1) + "\n")
    write_text(ACCURACY, plots.accuracy_svg(metrics))
    curves = plots.write_plots(PLOTS, probabilities, test.labels, head.classes, bins=evaluate.bins)
    write_report(metrics, curves, splits, head, metadata)
    print(f"evaluate: of the {len(test.labels):,} test labels, by weight, the head has {sentence(metrics['head'])} and "
          f"the fine-tuned model {sentence(metrics['fine_tuned'])} right; {REPORT}")  # fmt: skip


def normalised(probabilities: np.ndarray) -> np.ndarray:
    """Return the rows as float64 that sum to 1 exactly as metrics want them."""
    probabilities = probabilities.astype(np.float64)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def sentence(metrics: dict) -> str:
    test = metrics["test"]
    return (
        f"{test['accuracy_weighted']:.1%} ({test['accuracy_weighted_low']:.1%} to {test['accuracy_weighted_high']:.1%})"
    )


def write_report(metrics: dict, curves: dict, splits: dict, head: LinearHead, metadata: dict) -> None:
    source = json.loads(SOURCE.read_text(encoding="utf-8"))
    counts = {name: np.bincount(part.labels, minlength=len(head.classes)).tolist() for name, part in splits.items()}
    html = report.render(
        title="Thaw",
        classes=head.classes,
        metrics=metrics,
        plots=curves,
        data=report.Data(source["name"], source["license"], source["citation"], counts),
        parameters={
            "image": metadata["image"],
            "head": {"strength": head.strength},
            "fine_tune": metadata["fine_tune"],
        },
        pictures=[report.Picture(AUGMENTATIONS.read_bytes(), "Training photographs, plain and as augmented")],
    )
    write_text(REPORT, html)


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
