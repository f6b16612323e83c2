"""Train the head on the frozen features: `models/head`, its metrics and its curves.

A linear head is fitted at every strength of `head.strengths`, a network is trained with Keras; either on the plain
photographs and on their augmented copies as `head.augmented` lists. The one with the lowest loss on the validation
split is kept.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from dvclive import Live

from thaw import arrays, examples, heads, params
from thaw.errors import run

FEATURES = Path("data/features")
SPLIT = Path("data/split.csv")
OUTPUT = Path("models/head")
REPORT = Path("reports/head")


def main() -> None:
    head = params.load(Path("params.yaml")).head
    features = arrays.open_rows(FEATURES / "features.npy")
    classes = examples.read_classes(FEATURES)
    splits = examples.read(FEATURES, SPLIT)
    train = fit_linear if head.kind == "linear" else train_network
    with Live(str(REPORT), dvcyaml=None, save_dvc_exp=False, report=None) as live:
        fitted, scores, sentence = train(head, features, classes, splits, live)
    fitted.save(OUTPUT)
    right = scores["validation_accuracy_weighted"]
    print(f"train_head: {sentence}, {right:.1%} of the weighted validation labels right")


def fit_linear(head: params.Head, features: np.memmap, classes: tuple[str, ...], splits: dict, live: Live):
    heads.require_pooled(features)
    train, validation = splits["train"], splits["validation"]
    weights = examples.training_weights(train, head.class_weight)
    shown = features[validation.views[:, 0]]
    found = []
    for augmented in sorted(head.augmented):
        views = train.views if augmented else train.views[:, :1]
        x, copies = features[views.ravel()].astype(np.float32), views.shape[1]
        fits = heads.fit_path(x, train.labels.repeat(copies), weights.repeat(copies) / copies, classes, head.strengths)
        for step, fitted in enumerate(fits):
            loss, accuracy = examples.weighted_scores(fitted.probabilities(shown), validation)
            scores = {"validation_loss": loss, "validation_accuracy_weighted": accuracy}
            record(live, name(augmented), step, {"strength": fitted.strength} | scores)
            sentence = f"logistic regression at C = {fitted.strength:g} on {name(augmented)} photographs"
            found.append((fitted, scores, sentence))
    fitted, scores, sentence = lowest_loss(found)
    return fitted, scores, f"{sentence}, {x.nbytes / 1e6:.0f} MB of features held"


def train_network(head: params.Head, features: np.memmap, classes: tuple[str, ...], splits: dict, live: Live):
    from thaw import network_head

    found = []
    for augmented in sorted(head.augmented):
        train = splits["train"] if augmented else replace(splits["train"], views=splits["train"].views[:, :1])
        history = []

        def log(scores: dict[str, float], history: list = history, augmented: bool = augmented) -> None:
            record(live, name(augmented), len(history), scores)
            history.append(scores)

        fitted, epoch = network_head.train(features, train, splits["validation"], classes, head, log)
        parameters = fitted.network.count_params()
        sentence = f"a network of {parameters:,} parameters after epoch {epoch} on {name(augmented)} photographs"
        found.append((fitted, history[epoch], sentence))
    return lowest_loss(found)


def name(augmented: bool) -> str:
    return "augmented" if augmented else "plain"


def record(live: Live, training: str, step: int, scores: dict[str, float]) -> None:
    live.step = step
    for key, value in scores.items():
        live.log_metric(f"{training}/{key}", value)


def lowest_loss(found: list[tuple]) -> tuple:
    return min(found, key=lambda entry: entry[1]["validation_loss"])


if __name__ == "__main__":
    run(main)
