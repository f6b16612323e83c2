"""Run every view of every photograph, plain and augmented, through the frozen layers alone: `data/activations`.

`activations.npy` holds the output of the last frozen layer, (rows, height, width, channels) float16, or the uint8
pixels if nothing is frozen. If everything is frozen, it is a copy of the features. With `fine_tune.cache: false` it has
no rows, and training computes them again. Of the augmented copies, the rows have those of the preset that
`train_head` chose.
`rows.csv` says what each row shows. `cut.json` names the frozen layer, the image settings, the preset, and what thaws
in each phase of the training.
"""

from dataclasses import asdict
from pathlib import Path

from thaw.backbones.cut_points import FEATURES, resolve_depths
from thaw.cluster import machines
from thaw.core import arrays, params
from thaw.core.cache import of_environment
from thaw.core.errors import run
from thaw.core.files import atomic_files, read_json, write_json
from thaw.engines import inference
from thaw.features import examples, extraction

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
BACKBONE = Path("models/backbone")
EMBEDDINGS = Path("data/features")
AUGMENTATION = Path("models/augmentation.json")
OUTPUT = Path("data/activations")
REMEDY = "freeze deeper (not with a transformer), draw fewer copies, or set fine_tune.cache to false"


def main() -> None:
    parameters = params.load(Path("params.yaml"))
    image = extraction.resolved(extraction.sized(parameters.image, BACKBONE), EMBEDDINGS)
    cache = parameters.fine_tune.cache
    freeze_depth, backbone = parameters.fine_tune.freeze_depth, read_json(BACKBONE / "backbone.json")
    layers = [point["layer"] for point in backbone["cut_points"]]
    depths = resolve_depths(freeze_depth, backbone)
    frozen_layer = min(depths, key=[None, *layers].index)  # the one nearest to the input: no layer before it ever thaws
    preset = read_json(AUGMENTATION)["preset"]
    dataset = extraction.Dataset(RAW, SPLIT, AUGMENTATIONS, of_environment(), machines.of_environment())
    planned = extraction.PlannedViews(dataset, image, preset)
    shapes = inference.output_shapes(BACKBONE / "backbone.xml", layers, image.size)
    array = extraction.PlannedArray(len(planned.rows), frozen_layer, shapes)
    with atomic_files(OUTPUT) as folder:
        if not cache:
            extraction.write_no_rows(folder / "activations.npy", array)
        else:
            extraction.check_space(folder, array, REMEDY)
            if frozen_layer == FEATURES:
                features = arrays.open_rows(EMBEDDINGS / "features.npy")
                blocks = arrays.blocks(features, examples.read_rows(EMBEDDINGS, preset)["row"].to_numpy())
                arrays.write_rows(folder / "activations.npy", blocks, array.rows)
            else:
                run_frozen = extraction.engine(BACKBONE, frozen_layer, image)
                kept = extraction.kept_outputs(dataset, BACKBONE, frozen_layer, image)
                others = extraction.elsewhere(dataset, BACKBONE, frozen_layer, image)
                extraction.extract(planned, run_frozen, folder / "activations.npy", kept, others)
        extraction.describe(folder, RAW, planned.rows)
        cut = {"layer": frozen_layer, "thaw": depths, "image": asdict(image), "preset": preset}
        write_json(folder / "cut.json", cut, indent=None)
    print(
        f"extract_activations: {array.rows:,} outputs of {frozen_layer or 'the input'}, "
        f"{array.shape} each, {array.size if cache else 'computed while training'}"
    )


if __name__ == "__main__":
    run(main, stage=__doc__)
