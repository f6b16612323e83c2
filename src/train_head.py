"""Train the head on the frozen features, and choose the augmentation: `models/head/head.zip`, metrics and curves.

A linear head is fitted at each C of `head.strengths`, the strongest penalty first, until the validation loss has risen
twice in a row. A network is trained with Keras. With `head.extend`, a linear head keeps the rows of an existing model,
and rows for new classes are fitted beside them. Each is trained on the plain photographs, on these and their augmented
copies, or on both in turn, as `head.augmented` lists.

With `augment.preset: auto`, a head is trained on the copies of each preset. The loss on validation chooses the preset:
`models/augmentation.json`, which `extract_activations` follows. The heads of the other presets are dropped.

With `task: multi`, each class has a C of its own, and losses are means over the pairs of a photograph and a class that
are known.

The head with the lowest loss on the validation split is kept. For networks it is the calibrated loss, which also
chooses their epoch, unless `head.patience` is null. `head.zip` holds its files, which differ between kinds of heads;
in `start`, those of the head that fine-tuning starts with.

With `split.folds`, this is done in a round for each fold. `models/folds/head.zip` holds the heads of the rounds, and
`predictions.npy`: for every photograph, what the head says that has not seen it. `models/head/head.zip` is then trained
on all photographs, with the median of the settings that the rounds chose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import mean

import thaw  # noqa: F401 - before NumPy: it chooses the kernels

# isort: split
import numpy as np
from dvclive import Live

from thaw.core import archive, arrays, params
from thaw.core.errors import ThawError, run
from thaw.core.files import write_json
from thaw.features import examples
from thaw.features.examples import Examples
from thaw.heads import registry, selection
from thaw.heads.protocol import AUGMENTED, PLAIN, HeadData, Setting, Trained
from thaw.parameters.head import Head
from thaw.training import metrics_folder, out_of_fold

FEATURES = Path("data/features")
SPLIT = Path("data/split.csv")
LABELS = Path("data/raw/labels.csv")
BACKBONE = Path("models/backbone")
OUTPUT = Path("models/head/head.zip")
FOLDS = Path("models/folds/head.zip")
AUGMENTATION = Path("models/augmentation.json")
REPORT = Path("reports/head")
TRIED = "plots/heads.csv"  # in it: the curves of all heads


def main() -> None:
    head = params.load(Path("params.yaml")).head
    if isinstance(head.extend, str) and Path(head.extend).resolve() == AUGMENTATION.with_name("model.keras").resolve():
        raise ThawError(f"head.extend: this pipeline writes {head.extend} itself: copy it elsewhere first")
    features = arrays.open_rows(FEATURES / "features.npy")
    classes = examples.read_classes(FEATURES)
    params.check_classes(Path("params.yaml"), classes)
    images, presets = examples.read(FEATURES, SPLIT, labels_file=LABELS), examples.read_presets(FEATURES)
    params.check_task(Path("params.yaml"), images.values is not None)
    variants = read_variants(head, images, presets)
    train = partial(registry.train, head)
    parts = images.all_rounds()
    with metrics_folder.replace_with_table(REPORT, TRIED) as live:
        rounds = []
        for number, part in enumerate(parts):
            training = {name: replace(views, splits=part.splits).split("train") for name, views in variants.items()}
            data = HeadData(features, training, part.split("validation"), classes, BACKBONE)
            rounds.append(train(data, partial(log, live, f"round_{number}/" if images.folds is not None else "")))
        validation = images.take(np.concatenate([part.positions("validation") for part in parts]))
        choice = selection.choose_preset(rounds, presets, validation)
        live.summary |= selection.best_scores(rounds) | choice.metrics
    rounds = [selection.of_preset(trained, choice.preset) for trained in rounds]
    starts = [selection.fit_to_start(trained) for trained in rounds]

    if images.folds is None:
        best, start = selection.best(rounds[0]), selection.best(starts[0])
        write_folds([], [], np.empty((0, len(classes))))
    else:

        @cache  # mostly, the head that fine-tuning starts with is the best one
        def train_on_all(variant: str, setting: Setting) -> Trained:
            data = HeadData(features, {variant: variants[variant]}, images, classes, BACKBONE, setting)
            return selection.best(train(data, lambda *_: None))

        best, start = train_on_all(*selection.agreed(rounds)), train_on_all(*selection.agreed(starts))
        chosen = [selection.best(trained) for trained in rounds]
        write_folds(
            chosen, [selection.best(trained) for trained in starts], out_of_fold_predictions(chosen, images, features)
        )
    with archive.pack(OUTPUT) as folder:
        best.head.save(folder)
        start.head.save(folder / "start")
    write_json(AUGMENTATION, {"preset": choice.preset})
    accuracy = mean(selection.best(trained).scores["validation_accuracy_weighted"] for trained in rounds)
    folds = f" in {len(parts)} rounds" if images.folds is not None else ""
    print(f"train_head: {best.description}, {accuracy:.1%} of the weighted validation labels right{folds}{choice.text}")


def read_variants(head: Head, images: Examples, presets: Sequence[str]) -> dict[str, Examples]:
    """Return all images by the name of each variant of the training, each time with the views to train on."""
    variants = {}
    if False in head.augmented or not presets:
        variants[PLAIN] = images.without_augmented_views()
    for preset in presets if True in head.augmented else []:
        variant = preset if len(presets) > 1 else AUGMENTED
        variants[variant] = examples.read(FEATURES, SPLIT, preset, LABELS)
    return variants


def log(live: Live, prefix: str, variant: str, step: int, scores: Mapping[str, float]) -> None:
    """Log the scores of a head, or of an epoch of its training."""
    live.step = step
    for name, value in scores.items():
        live.log_metric(f"{prefix}{variant}/{name}", value)


def out_of_fold_predictions(chosen: Sequence[Trained], images: Examples, features: np.ndarray) -> np.ndarray:
    """Return the (n, classes) calibrated probabilities of each image by the head of the first repeat that tests it."""
    predictions = np.empty((len(images), len(chosen[0].head.classes)))
    for part, trained in zip(images.rounds(), chosen, strict=False):

        def predict(rows: np.ndarray, head=trained.head) -> np.ndarray:
            return np.concatenate([head.probabilities(block) for block in arrays.blocks(features, rows)])

        predictions[part.positions("test")] = out_of_fold.calibrated(part, predict)
    return predictions


def write_folds(chosen: Sequence[Trained], starts: Sequence[Trained], predictions: np.ndarray) -> None:
    """Write the heads of all rounds, and what they predict for the images that they have not seen."""
    with archive.pack(FOLDS) as folder:
        write_json(folder / "rounds.json", {"rounds": len(chosen)})
        arrays.write_rows(folder / "predictions.npy", [predictions], len(predictions))
        for number, (best, start) in enumerate(zip(chosen, starts, strict=True)):
            best.head.save(folder / str(number))
            start.head.save(folder / str(number) / "start")


if __name__ == "__main__":
    run(main, stage=__doc__)
