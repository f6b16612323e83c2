"""Train the layers behind the freeze depth, from the trained head on: `models/model.keras`, its metrics and curves.

The frozen layers are not run. Training reads their cached outputs; with `fine_tune.cache: false` it computes them again
in each epoch. The saved model is complete: RGB pixels 0-255 in, probabilities out, with the class names and the image
size inside. A head that extends a model (`head.extend`) is not trained further.
"""

import time
from itertools import pairwise
from math import prod
from pathlib import Path
from statistics import median

from thaw.backbones import costs
from thaw.backbones.cut_points import FEATURES
from thaw.core import params
from thaw.core.errors import run
from thaw.core.files import read_json
from thaw.engines import model_files
from thaw.features import examples, extraction
from thaw.heads import registry
from thaw.training import loop, metrics_folder, schedule

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
ACTIVATIONS = Path("data/activations")
BACKBONE = Path("models/backbone")
HEAD = Path("models/head/head.zip")
OUTPUT = Path("models/model.keras")
REPORT = Path("reports/fine_tune")
CURVES = ("train_loss", "validation_accuracy_weighted", "validation_loss", "validation_loss_calibrated")


def main() -> None:
    loop.share_cores()
    fine_tune = params.load(Path("params.yaml")).fine_tune
    cut = read_json(ACTIVATIONS / "cut.json")
    frozen_layer, depths = cut["layer"], tuple(cut["thaw"])
    activations = extraction.open_activations(ACTIVATIONS, extraction.Dataset(RAW, SPLIT, AUGMENTATIONS), BACKBONE)
    images = examples.read(ACTIVATIONS, SPLIT)
    train, validation = images.split("train"), images.split("validation")
    head = registry.load_packed(HEAD, "start")  # the one that fine-tuning starts with
    backbone, _ = model_files.load(BACKBONE / "backbone.keras")
    model = head.attach(backbone, FEATURES)

    history = []  # the scores of each epoch; the first is the start
    ends = []  # of the epochs, for the terminal alone: a time in a file would differ between runs
    with metrics_folder.replace(REPORT, CURVES) as live:

        def log(scores: dict[str, float]) -> None:
            for name, value in scores.items():
                live.log_metric(name, value)
            live.next_step()
            history.append(scores)
            ends.append(time.perf_counter())

        if head.extends:  # its old rows belong to layers that must stay; its new rows are fitted already
            best_epoch = 0
            probabilities = head.probabilities(activations[validation.rows])
            loss, accuracy = examples.weighted_scores(probabilities, validation)
            log({"validation_loss": loss, "validation_accuracy_weighted": accuracy, "validation_loss_calibrated": loss})
        else:
            data = loop.TrainingData(activations, train, validation, frozen_layer, depths)
            best_epoch = loop.fit(model, data, fine_tune, log)
        multiply_adds = costs.multiply_adds(BACKBONE / "backbone.xml", cut["image"]["size"])
        cost = schedule.training_cost(multiply_adds, depths, len(history) - 1, fine_tune.epochs) * len(train)
        live.summary = history[best_epoch] | {  # of the model that is kept, not of the last epoch
            "step": best_epoch,
            "best_epoch": best_epoch,
            "tera_multiply_adds": float(f"{cost / 1e12:.4g}"),
            "activations_megabytes": round(prod(activations.shape) * activations.dtype.itemsize / 1e6, 1),
        }
    metadata = {"class_names": head.outputs, "image": cut["image"], "fine_tune": fine_tune.model_dump()}
    model_files.save(model, OUTPUT, metadata | {"cut": frozen_layer, "best_epoch": best_epoch})
    if head.extends:
        print(
            f"fine_tune: all layers stay frozen; the model is the backbone with the extended head, of "
            f"{len(head.outputs):,} classes"
        )
        return
    thawed = model_files.thawed_part(model, frozen_layer)
    parameters = sum(v.shape.num_elements() for v in thawed.trainable_variables)
    seconds = median(end - start for start, end in pairwise(ends))
    print(
        f"fine_tune: {parameters:,} parameters behind {frozen_layer or 'the input'} trained; {seconds:.1f} s "
        f"per epoch; epoch {best_epoch} is kept"
    )


if __name__ == "__main__":
    run(main)
