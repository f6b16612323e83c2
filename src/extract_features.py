"""Run every photograph and every planned copy through the whole frozen backbone: `data/features`.

`features.npy` holds the pooled embeddings, (rows, channels) float16, or with `backbone.pooling: null` the maps,
(rows, height, width, channels); `rows.csv` says what each row shows.
"""

import sys
from pathlib import Path

from thaw import arrays, extraction, inference, params
from thaw.backbone_names import FEATURES
from thaw.errors import run
from thaw.files import whole_folder

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
BACKBONE = Path("models/backbone")
OUTPUT = Path("data/features")
REMEDY = "cut the backbone deeper, pool its map, or draw fewer copies"


def main() -> None:
    image = extraction.sized(params.load(Path("params.yaml")).image, BACKBONE)
    seen = extraction.Views(RAW, SPLIT, AUGMENTATIONS, image)
    shapes = inference.output_shapes(BACKBONE / "backbone.xml", [FEATURES], image.size)
    with whole_folder(OUTPUT) as folder:
        size = extraction.check_space(folder, len(seen.rows), FEATURES, shapes, REMEDY)
        extraction.describe(folder, RAW, seen.rows)
        extraction.extract(seen, extraction.engine(BACKBONE, FEATURES, image), folder / "features.npy")
        if not arrays.open_rows(folder / "features.npy")[:1000].any():
            print("thaw: warning: the features are all 0, so that a head can learn nothing: do the weights of the "
                  "backbone fade the signal out, as random ones do?", file=sys.stderr)  # fmt: skip
    print(f"extract_features: {len(seen.rows):,} embeddings of {extraction.shape_text(shapes[FEATURES])}, {size}")


if __name__ == "__main__":
    run(main)
