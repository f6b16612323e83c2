"""Run every view of every photograph, plain and augmented, through the whole frozen backbone: `data/features`.

`features.npy` holds the pooled embeddings, (rows, channels) float16, or with `backbone.pooling: null` the maps,
(rows, height, width, channels). `rows.csv` says what each row shows.
With `image.resize: auto`, `image.json` holds the choice between crop and squash, and what decided it on validation;
else it holds `null`.
"""

import sys
from dataclasses import asdict, replace
from pathlib import Path

from thaw.backbones.cut_points import FEATURES
from thaw.cluster import machines
from thaw.core import arrays, cache, params
from thaw.core.errors import run
from thaw.core.files import atomic_files, write_json
from thaw.engines import inference
from thaw.features import examples, extraction, resize_choice

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
BACKBONE = Path("models/backbone")
OUTPUT = Path("data/features")
REMEDY = "cut the backbone deeper, pool its map, or draw fewer copies"
CHECKED_ROWS = 1000


def main() -> None:
    image = extraction.sized(params.load(Path("params.yaml")).image, BACKBONE)
    dataset = extraction.Dataset(RAW, SPLIT, AUGMENTATIONS, cache.of_environment(), machines.of_environment())
    planned, chosen = extraction.PlannedViews(dataset, image), ""
    shapes = inference.output_shapes(BACKBONE / "backbone.xml", [FEATURES], image.size)
    array = extraction.PlannedArray(len(planned.rows), FEATURES, shapes)
    with atomic_files(OUTPUT) as folder:
        extraction.check_space(folder, array, REMEDY)
        extraction.describe(folder, RAW, planned.rows)
        write_json(folder / extraction.RESIZE, None)
        if image.resize == extraction.AUTO:
            choice = resize_choice.choose(dataset, examples.read(folder, SPLIT), image, BACKBONE)
            write_json(folder / extraction.RESIZE, asdict(choice))
            image, chosen = replace(image, resize=choice.resize), choice.text
            planned = extraction.PlannedViews(dataset, image)
        kept = extraction.kept_outputs(dataset, BACKBONE, FEATURES, image)
        others = extraction.elsewhere(dataset, BACKBONE, FEATURES, image)
        run_frozen = extraction.engine(BACKBONE, FEATURES, image)
        extraction.extract(planned, run_frozen, folder / "features.npy", kept, others)
        if not arrays.open_rows(folder / "features.npy")[:CHECKED_ROWS].any():
            print("thaw: warning: all features are 0, so a head can learn nothing: check backbone.weights; random "
                  "weights can cause this", file=sys.stderr)  # fmt: skip
    enlarged = extraction.enlarged_text(RAW, SPLIT, image)
    print(f"extract_features: {array.rows:,} embeddings of {array.shape}, {array.size}{enlarged}{chosen}")


if __name__ == "__main__":
    run(main, stage=__doc__)
