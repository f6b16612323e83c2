"""Train the head on the frozen features: `models/head`, its metrics and its curve over the penalty.

Logistic regression at every strength of `head.strengths`, on the plain photographs and on their augmented copies as
`head.augmented` lists; the one with the lowest loss on the validation split is kept.
"""

from pathlib import Path

import numpy as np
from dvclive import Live

from thaw import arrays, examples, params
from thaw.errors import run
from thaw.heads import LinearHead, fit_path

FEATURES = Path("data/features")
SPLIT = Path("data/split.csv")
OUTPUT = Path("models/head")
REPORT = Path("reports/head")


def main() -> None:
    head = params.load(Path("params.yaml")).head
    features = arrays.open_rows(FEATURES / "features.npy")
    classes = examples.read_classes(FEATURES)
    splits = examples.read(FEATURES, SPLIT)
    train, validation = splits["train"], splits["validation"]
    weights = examples.training_weights(train, head.class_weight)
    shown = features[validation.views[:, 0]]

    best: tuple[float, bool, LinearHead] | None = None
    with Live(str(REPORT), dvcyaml=None, save_dvc_exp=False, report=None) as live:
        for augmented in sorted(head.augmented):
            views = train.views if augmented else train.views[:, :1]
            x, copies = features[views.ravel()].astype(np.float32), views.shape[1]
            fits = fit_path(x, train.labels.repeat(copies), weights.repeat(copies) / copies, classes, head.strengths)
            for step, fitted in enumerate(fits):
                loss, accuracy = examples.weighted_scores(fitted.probabilities(shown), validation)
                name = "augmented" if augmented else "plain"
                live.log_metric(f"{name}/strength", fitted.strength)
                live.log_metric(f"{name}/validation_loss", loss)
                live.log_metric(f"{name}/validation_accuracy_weighted", accuracy)
                live.step = step + 1
                if best is None or loss < best[0]:
                    best = loss, augmented, fitted
    _, augmented, fitted = best
    fitted.save(OUTPUT)
    loss, accuracy = examples.weighted_scores(fitted.probabilities(shown), validation)
    print(
        f"train_head: logistic regression at C = {fitted.strength:g} on {'augmented' if augmented else 'plain'} "
        f"photographs, {accuracy:.1%} of the weighted validation labels right; held {x.nbytes / 1e6:.0f} MB of features"
    )


if __name__ == "__main__":
    run(main)
