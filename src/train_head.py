"""Train the head on the frozen features: `models/head`, its metrics and its curves.

A linear head is fitted at each strength of `head.strengths`, the strongest penalty first, until the validation loss
has risen twice in a row; a network is trained with Keras. With `head.extend` the linear one keeps the rows of a model
that there is, and those of new classes are fitted beside them. Each is trained on the plain photographs and on their
augmented copies as `head.augmented` lists. The one with the lowest loss on the validation split is kept; of networks
it is the calibrated loss, which chooses their epoch, too, unless `head.patience` is null. In `start` stands the best of
those that saw the augmented copies: fine-tuning, which sees them too, begins with it, since from a head of plain
photographs its first steps would go astray.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from dvclive import Live

from thaw import arrays, examples, extension, heads, params
from thaw.errors import ThawError, run
from thaw.files import whole_folder

FEATURES = Path("data/features")
SPLIT = Path("data/split.csv")
BACKBONE = Path("models/backbone")
OUTPUT = Path("models/head")
REPORT = Path("reports/head")


def main() -> None:
    head = params.load(Path("params.yaml")).head
    features = arrays.open_rows(FEATURES / "features.npy")
    classes = examples.read_classes(FEATURES)
    splits = examples.read(FEATURES, SPLIT)
    train = fit_linear if head.kind == "linear" else train_network
    with whole_folder(REPORT) as report, Live(str(report), dvcyaml=None, save_dvc_exp=False, report=None) as live:
        trained = train(head, features, classes, splits, live)
    best = lowest_loss(trained)
    with whole_folder(OUTPUT) as folder:
        best.head.save(folder)
        saw_copies = [one for one in trained if one.augmented and not head.extend]
        lowest_loss(saw_copies or trained).head.save(folder / "start")
    print(f"train_head: {best.sentence}, {best.accuracy:.1%} of the weighted validation labels right")


class Trained(NamedTuple):
    head: heads.LinearHead  # or an ExtendedHead or a NetworkHead, which do the same
    augmented: bool
    loss: float  # on validation; of a network the calibrated one, as it was the one that chose the epoch
    accuracy: float
    sentence: str


def fit_linear(
    head: params.Head, features: np.memmap, classes: tuple[str, ...], splits: dict, live: Live
) -> list[Trained]:
    heads.require_pooled(features)
    fit_path = heads.fit_path
    if isinstance(head.extend, str) and Path(head.extend).resolve() == OUTPUT.with_name("model.keras").resolve():
        raise ThawError(f"head.extend: this pipeline writes {head.extend} itself: copy it elsewhere first")
    if head.extend:
        fit_path = partial(extension.fit_path, known=extension.known_head(head.extend, BACKBONE))
    train, validation = splits["train"], splits["validation"]
    weights = examples.training_weights(train, head.class_weight)
    shown = features[validation.views[:, 0]]
    found = []
    for augmented in sorted(head.augmented):
        history = []
        views = train.views if augmented else train.views[:, :1]
        x, copies = features[views.ravel()].astype(np.float32), views.shape[1]
        fits = fit_path(x, train.labels.repeat(copies), weights.repeat(copies) / copies, classes, head.strengths)
        for step, (fitted, loss, accuracy) in enumerate(heads.until_worse(fits, shown, validation)):
            scores = {"strength": fitted.strength, "validation_loss": loss, "validation_accuracy_weighted": accuracy}
            record(live, name(augmented), step, scores)
            history.append(scores)
            sentence = f"logistic regression at C = {fitted.strength:g} on {name(augmented)} photographs"
            sentence += f" ({x.nbytes / 1e6:.0f} MB of features)"
            found.append(Trained(fitted, augmented, loss, accuracy, sentence))
        live.summary[name(augmented)] = min(history, key=lambda scores: scores["validation_loss"])
    return found


def train_network(
    head: params.Head, features: np.memmap, classes: tuple[str, ...], splits: dict, live: Live
) -> list[Trained]:
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
        best = live.summary[name(augmented)] = history[epoch]
        loss, accuracy = best["validation_loss_calibrated"], best["validation_accuracy_weighted"]
        found.append(Trained(fitted, augmented, loss, accuracy, sentence))
    return found


def name(augmented: bool) -> str:
    return "augmented" if augmented else "plain"


def record(live: Live, training: str, step: int, scores: dict[str, float]) -> None:
    live.step = step
    for key, value in scores.items():
        live.log_metric(f"{training}/{key}", value)


def lowest_loss(trained: list[Trained]) -> Trained:
    return min(trained, key=lambda one: one.loss)


if __name__ == "__main__":
    run(main)
