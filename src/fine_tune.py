"""Train the layers behind the freeze depth, from the trained head on: `models/model.keras`, its metrics and curves.

The frozen layers are not run: training reads their cached outputs, or with `fine_tune.cache: false` computes them anew
in each epoch. The saved model is whole: RGB pixels 0-255 in,
probabilities out, with the class names and the size of its images inside.
"""

import time
from itertools import pairwise
from math import prod
from pathlib import Path
from statistics import median

from dvclive import Live

from thaw import examples, extraction, heads, models, params, training
from thaw.backbone_names import FEATURES
from thaw.errors import run
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
    fine_tune = params.load(Path("params.yaml")).fine_tune
    activations = extraction.open_activations(ACTIVATIONS, RAW, SPLIT, AUGMENTATIONS, BACKBONE)
    cut = read_json(ACTIVATIONS / "cut.json")
    splits = examples.read(ACTIVATIONS, SPLIT)
    head = heads.load(START)
    backbone, _ = models.load(BACKBONE / "backbone.keras")
    model = head.attach(backbone, FEATURES)

    ends = []  # of the epochs, for the terminal alone: a time in a file would differ in every run
    with whole_folder(REPORT) as report, Live(str(report), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def log(scores: dict[str, float]) -> None:
            for name, value in scores.items():
                live.log_metric(name, value)
            live.next_step()
            ends.append(time.perf_counter())

        epoch = training.fit(
            model, cut["layer"], cut["thaw"], activations, splits["train"], splits["validation"],
            fine_tune, log, layer_decay=fine_tune.layer_decay, ema=fine_tune.ema,
        )  # fmt: skip
        live.summary["best_epoch"] = epoch
        live.summary["activations_megabytes"] = round(prod(activations.shape) * activations.dtype.itemsize / 1e6, 1)
    metadata = {"class_names": head.classes, "image": cut["image"], "fine_tune": fine_tune.model_dump()}
    models.save(model, OUTPUT, metadata | {"cut": cut["layer"], "best_epoch": epoch})
    thawed = training.thawed_part(model, cut["layer"])
    trained = sum(v.shape.num_elements() for v in thawed.trainable_variables)
    print(
        f"fine_tune: {trained:,} parameters behind {cut['layer'] or 'the input'} trained, an epoch in "
        f"{median(b - a for a, b in pairwise(ends)):.1f} s; the best epoch was {epoch}"
    )


if __name__ == "__main__":
    run(main)
