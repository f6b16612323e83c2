"""Run every photograph and every planned copy through the frozen layers alone: `data/activations`.

`activations.npy` holds the output of the last frozen layer, (rows, height, width, channels) float16, or the uint8
pixels where nothing is frozen; `rows.csv` says what each row shows, `cut.json` of which layer and which image size.
"""

import json
from math import prod
from pathlib import Path

from thaw import params
from thaw.backbones.cut_points import resolve
from thaw.errors import run
from thaw.extraction import engine, extract
from thaw.files import whole_folder

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
BACKBONE = Path("models/backbone")
OUTPUT = Path("data/activations")


def main() -> None:
    parameters = params.load(Path("params.yaml"))
    image = parameters.image
    cut_points = json.loads((BACKBONE / "backbone.json").read_text())["cut_points"]
    layer = resolve(parameters.fine_tune.freeze_depth, [cut["layer"] for cut in cut_points])
    frozen = engine(BACKBONE, layer, image) if layer else iter  # nothing is frozen: the pixels pass as they are
    with whole_folder(OUTPUT) as folder:
        shape = extract(RAW, SPLIT, AUGMENTATIONS, image, frozen, folder / "activations.npy")
        (folder / "cut.json").write_text(json.dumps({"layer": layer, "image": image.model_dump()}) + "\n")
    megabytes = prod(shape) * (2 if layer else 1) / 1e6
    print(f"extract_activations: {shape[0]:,} outputs of {layer or 'the input'}, {shape[1:]} each, {megabytes:,.0f} MB")


if __name__ == "__main__":
    run(main)
