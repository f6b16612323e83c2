"""Train the layers behind the freeze depth, from the trained head on: `models/model.keras`, its metrics and curves.

The frozen layers are not run: training reads their cached outputs, or with `fine_tune.cache: false` computes them anew
in each epoch. The saved model is whole: RGB pixels 0-255 in, probabilities out, with the class names and the size of
its images inside. A head that extends a model (`head.extend`) is taken as it is.
"""

import time
from itertools import pairwise
from math import prod
from pathlib import Path
from statistics import median

from dvclive import Live

from thaw import examples, extraction, heads, models, params, training
from thaw.backbone_names import FEATURES
from thaw.backbones import costs
from thaw.errors import run
from thaw.extension import ExtendedHead
from thaw.files import read_json, whole_folder

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
ACTIVATIONS = Path("data/activations")
BACKBONE = Path("models/backbone")
HEAD = Path("models/head")
START = HEAD / "start"  # of those heads that saw augmented copies, the best
OUTPUT = Path("models/model.keras")
REPORT = Path("reports/fine_tune")


def main() -> None:
    training.share_cores()
    fine_tune = params.load(Path("params.yaml")).fine_tune
    activations = extraction.open_activations(ACTIVATIONS, RAW, SPLIT, AUGMENTATIONS, BACKBONE)
    cut = read_json(ACTIVATIONS / "cut.json")
    splits = examples.read(ACTIVATIONS, SPLIT)
    head = heads.load(START)
    backbone, _ = models.load(BACKBONE / "backbone.keras")
    model = head.attach(backbone, FEATURES)

    logged = []  # of each epoch, the start being the first
    ends = []  # of the epochs, for the terminal alone: a time in a file would differ in every run
    with whole_folder(REPORT) as report, Live(str(report), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def log(scores: dict[str, float]) -> None:
            for name, value in scores.items():
                live.log_metric(name, value)
            live.next_step()
            logged.append(scores)
            ends.append(time.perf_counter())

        if isinstance(head, ExtendedHead):  # its old rows stand on layers that stay, its new ones are fitted
            epoch, validation = 0, splits["validation"]
            answers = head.probabilities(activations[validation.views[:, 0]])
            loss, accuracy = examples.weighted_scores(answers, validation)
            log({"validation_loss": loss, "validation_accuracy_weighted": accuracy, "validation_loss_calibrated": loss})
        else:
            epoch = training.fit(
                model, cut["layer"], cut["thaw"], activations, splits["train"], splits["validation"],
                fine_tune, log, layer_decay=fine_tune.layer_decay, ema=fine_tune.ema, prune_above=fine_tune.prune_above,
                gradients=fine_tune.gradients,
            )  # fmt: skip
        work = multiply_adds(cut, len(ends) - 1, fine_tune.epochs) * len(splits["train"].labels)
        live.summary = logged[epoch] | {  # of the model that is kept, not of the last epoch
            "step": epoch,
            "best_epoch": epoch,
            "tera_multiply_adds": float(f"{work / 1e12:.4g}"),
            "activations_megabytes": round(prod(activations.shape) * activations.dtype.itemsize / 1e6, 1),
        }
    metadata = {"class_names": head.outputs, "image": cut["image"], "fine_tune": fine_tune.model_dump()}
    models.save(model, OUTPUT, metadata | {"cut": cut["layer"], "best_epoch": epoch})
    if len(ends) == 1:
        print(f"fine_tune: nothing thaws; the extended head is the model's, of {len(head.outputs):,} classes")
        return
    thawed = models.thawed_part(model, cut["layer"])
    trained = sum(v.shape.num_elements() for v in thawed.trainable_variables)
    print(
        f"fine_tune: {trained:,} parameters behind {cut['layer'] or 'the input'} trained, an epoch in "
        f"{median(b - a for a, b in pairwise(ends)):.1f} s; epoch {epoch} is kept"
    )


def multiply_adds(cut: dict, trained: int, epochs: int) -> int:
    """Return what training takes for each photograph: once forwards and twice as much backwards in each epoch that was
    trained, of `epochs` planned, through the backbone's layers that thaw in it."""
    before = {None: 0} | costs.multiply_adds(BACKBONE / "backbone.xml", cut["image"]["size"])
    behind = [before[FEATURES] - before[layer] for layer in cut["thaw"]]
    return 3 * sum(behind[training.part_of(epoch, epochs, len(behind))] for epoch in range(1, trained + 1))


if __name__ == "__main__":
    run(main)
