"""Train the layers behind the freeze depth, from the trained head on: `models/model.keras`, its metrics and curves.

The frozen layers are not run. Training reads their cached outputs; with `fine_tune.cache: false` it computes them again
in each epoch. The saved model is complete: RGB pixels 0-255 in, probabilities out, with the class names and the image
size inside. A head that extends a model (`head.extend`) is not trained further.

With `split.folds`, the layers are trained in a round for each fold, which `models/folds/fine_tuned.zip` holds. If
fine-tuning helped on the photographs that the rounds had not seen, `models/model.keras` is then trained on all
photographs, up to the median of the best epochs. If not, it is the backbone with the head (`fine_tune.keep`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING

import thaw  # noqa: F401 - before NumPy: it chooses the kernels

# isort: split
import numpy as np

from thaw.backbones import costs
from thaw.core import archive, params
from thaw.core.cache import of_environment
from thaw.core.errors import run
from thaw.core.files import read_json, write_json
from thaw.core.metrics_file import FINE_TUNED
from thaw.core.metrics_file import HEAD as HEAD_ALONE
from thaw.core.task import MULTI
from thaw.engines import model_files
from thaw.features import examples, extraction
from thaw.features.examples import Examples
from thaw.heads import registry
from thaw.heads.protocol import Head
from thaw.training import loop, metrics_folder, out_of_fold, schedule
from thaw.training.fine_tuning import FineTuning, History, Log, Scores, mean_course
from thaw.training.out_of_fold import mean_scores

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras

PARAMS = Path("params.yaml")
RAW = Path("data/raw")
LABELS = RAW / "labels.csv"
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
ACTIVATIONS = Path("data/activations")
BACKBONE = Path("models/backbone")
HEAD = Path("models/head/head.zip")
HEAD_FOLDS = Path("models/folds/head.zip")
START = "start"  # in it: the head that fine-tuning starts with
OUTPUT = Path("models/model.keras")
FOLDS = Path("models/folds/fine_tuned.zip")
REPORT = Path("reports/fine_tune")
CURVES = ("train_loss", "validation_accuracy_weighted", "validation_loss", "validation_loss_calibrated")


@dataclass(frozen=True)
class Outcome:
    """The model of a run, and how it came about."""

    model: "keras.Model"
    outputs: tuple[str, ...]  # their names
    kept: str  # head or fine_tuned
    best_epoch: int  # with folds, the median
    scores: Scores  # on validation; with folds, means
    histories: list[History]  # of all trainings
    text: str  # for the terminal
    verdict: dict[str, object] = field(default_factory=dict)  # with folds, why the model is kept


def main() -> None:
    loop.share_cores()
    fine_tune = params.load(PARAMS).fine_tune
    params.check_kernels(PARAMS)
    cut = read_json(ACTIVATIONS / "cut.json")
    frozen_layer, depths = cut["layer"], tuple(cut["thaw"])
    dataset = extraction.Dataset(RAW, SPLIT, AUGMENTATIONS, of_environment())
    activations = extraction.open_activations(ACTIVATIONS, dataset, BACKBONE)
    images = examples.read(ACTIVATIONS, SPLIT, labels_file=LABELS)
    params.check_task(PARAMS, images.values is not None)
    params.check_folds(PARAMS, are_folds=images.folds is not None)
    start = registry.load_packed(HEAD, START)
    if start.extends:
        params.check_extended(PARAMS, start.image, cut["image"])
    tuning = FineTuning(BACKBONE, activations, frozen_layer, depths, fine_tune)
    with metrics_folder.replace(REPORT, CURVES) as live, archive.pack(FOLDS) as folder:

        def log(scores: Scores) -> None:
            for name, value in scores.items():
                live.log_metric(name, value)
            live.next_step()

        if images.folds is None:
            outcome = train_split(tuning, start, images, log)
        else:
            outcome = train_folds(tuning, start, images, log, folder)
        multiply_adds = costs.multiply_adds(BACKBONE / "backbone.xml", cut["image"]["size"])
        cost = sum(
            schedule.training_cost(multiply_adds, depths, history.epochs, fine_tune.epochs) * history.images
            for history in outcome.histories
        )
        live.summary = outcome.scores | {  # of the epoch that is kept, not of the last one
            "step": outcome.best_epoch,
            "best_epoch": outcome.best_epoch,
            "tera_multiply_adds": float(f"{cost / 1e12:.4g}"),
            "activations_megabytes": round(prod(activations.shape) * activations.dtype.itemsize / 1e6, 1),
        }
        rounds = len(images.all_rounds()) if images.folds is not None else 0
        write_json(folder / "rounds.json", {"rounds": rounds, "kept": outcome.kept} | outcome.verdict)
    epochs = outcome.best_epoch if outcome.kept == FINE_TUNED else 0  # that the saved model was trained for
    several = images.values is not None
    not_used = {"keep"} if several else {"keep", "focusing"}
    settings = {"image": cut["image"], "fine_tune": fine_tune.model_dump(exclude=not_used)}
    metadata = {"class_names": outcome.outputs} | settings | {"cut": frozen_layer, "best_epoch": epochs}
    metadata |= {"task": MULTI} if several else {}
    model_files.save(outcome.model, OUTPUT, metadata)
    unused = images.folds is not None and fine_tune.prune_above
    print(f"fine_tune: {outcome.text}{'; fine_tune.prune_above has no effect with folds' if unused else ''}")


def train_split(tuning: FineTuning, start: Head, images: Examples, log: Log) -> Outcome:
    """Train on the training split, from a head; validation chooses the epoch. No model of a fold is written."""
    model, history = tuning.fit(start, images, log)
    text = extended_text(start.outputs)
    if not start.extends:
        text = f"{tuning.trained_text(model, [history])}; epoch {history.best_epoch} is kept"
    return Outcome(model, start.outputs, FINE_TUNED, history.best_epoch, history.best, [history], text)


def train_folds(tuning: FineTuning, start: Head, images: Examples, log: Log, folder: Path) -> Outcome:
    """Train in the round of each fold, and write these models into a folder; then train on all images, if it helped."""
    with archive.unpack(HEAD_FOLDS) as heads:
        of_heads = np.load(heads / "predictions.npy")
        starts = [registry.load(heads / str(number) / START) for number in range(len(images.all_rounds()))]
    histories, predictions = tuning.fit_rounds(starts, images, folder)
    for scores in mean_course(histories):
        log(scores)
    best_scores = mean_scores([history.best for history in histories])
    epoch = median_low(history.best_epoch for history in histories)
    judged, keep = out_of_fold.judge(predictions, of_heads, images), tuning.params.keep
    if start.extends:
        verdict = {"asked_for": False, "helped": False}
        model, text = tuning.attach(start), extended_text(start.outputs)
        return Outcome(model, start.outputs, FINE_TUNED, 0, best_scores, histories, text, verdict)
    helped = judged.helped and epoch > 0
    verdict = {"asked_for": keep != "auto", "helped": helped, "loss_change": judged.change.loss}
    verdict["standard_error"] = judged.change.standard_error
    if keep == HEAD_ALONE or (keep == "auto" and not helped):
        head = registry.load_packed(HEAD)
        text = f"the head is kept{'' if epoch else ', as most folds keep the start'}: {judged.text}"
        return Outcome(tuning.attach(head), head.outputs, HEAD_ALONE, epoch, best_scores, histories, text, verdict)
    model, history = tuning.fit_all(start, images, epoch)
    text = f"{tuning.trained_text(model, histories)}; fine-tuned on all photographs for {epoch} epochs: {judged.text}"
    return Outcome(model, start.outputs, FINE_TUNED, epoch, best_scores, [*histories, history], text, verdict)


def extended_text(outputs: Sequence[str]) -> str:
    return f"all layers stay frozen; the model is the backbone with the extended head, of {len(outputs):,} classes"


if __name__ == "__main__":
    run(main, stage=__doc__)
