"""Run every photograph and every planned copy through the frozen layers alone: `data/activations`.

`activations.npy` holds the output of the last frozen layer, (rows, height, width, channels) float16, or the uint8
pixels where nothing is frozen; with `fine_tune.cache: false` it is left out, and training computes its rows anew. Where
all is frozen these are the features, which are copied.
`rows.csv` says what each row shows, `cut.json` of which layer and image size, and what thaws when.
"""

import json
from pathlib import Path

import numpy as np

from thaw import arrays, extraction, inference, params
from thaw.backbone_names import FEATURES
from thaw.backbones.cut_points import resolve
from thaw.errors import run
from thaw.files import read_json, whole_folder

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
BACKBONE = Path("models/backbone")
EMBEDDINGS = Path("data/features")
OUTPUT = Path("data/activations")
REMEDY = "freeze deeper, draw fewer copies, or set fine_tune.cache to false"


def main() -> None:
    parameters = params.load(Path("params.yaml"))
    image, cache = extraction.sized(parameters.image, BACKBONE), parameters.fine_tune.cache
    depths, backbone = parameters.fine_tune.freeze_depth, read_json(BACKBONE / "backbone.json")
    layers = [point["layer"] for point in backbone["cut_points"]]
    named = depths if isinstance(depths, list) else [depths]
    thaw = [resolve(depth, layers, backbone["behind_cut"]) for depth in named]
    layer = min(thaw, key=[None, *layers].index)  # the one nearest the input: from it on something trains
    seen = extraction.Views(RAW, SPLIT, AUGMENTATIONS, image)
    shapes = inference.output_shapes(BACKBONE / "backbone.xml", layers, image.size)
    with whole_folder(OUTPUT) as folder:
        if cache:
            size = extraction.check_space(folder, len(seen.rows), layer, shapes, REMEDY)
            if layer == FEATURES:
                features = arrays.open_rows(EMBEDDINGS / "features.npy")
                rows = arrays.blocks(features, np.arange(len(features)))
                arrays.write_rows(folder / "activations.npy", rows, len(features))
            else:
                extraction.extract(seen, extraction.engine(BACKBONE, layer, image), folder / "activations.npy")
        extraction.describe(folder, RAW, seen.rows)
        cut = {"layer": layer, "thaw": thaw, "image": image.model_dump()}
        (folder / "cut.json").write_text(json.dumps(cut) + "\n")
    print(
        f"extract_activations: {len(seen.rows):,} outputs of {layer or 'the input'}, "
        f"{extraction.shape_text(shapes[layer])} each, {size if cache else 'computed while training'}"
    )


if __name__ == "__main__":
    run(main)
