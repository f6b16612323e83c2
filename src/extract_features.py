"""Run every photograph and every planned copy through the whole frozen backbone: `data/features`.

`features.npy` holds the pooled embeddings, (rows, channels) float16; `rows.csv` says what each row shows.
"""

from pathlib import Path

from thaw import params
from thaw.errors import run
from thaw.extraction import engine, extract
from thaw.files import whole_folder

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
AUGMENTATIONS = Path("data/augmentations.csv")
BACKBONE = Path("models/backbone")
OUTPUT = Path("data/features")
LAYER = "features"  # every backbone ends with it, before its classes


def main() -> None:
    image = params.load(Path("params.yaml")).image
    with whole_folder(OUTPUT) as folder:
        frozen = engine(BACKBONE, LAYER, image)
        rows, channels = extract(RAW, SPLIT, AUGMENTATIONS, image, frozen, folder / "features.npy")
    print(f"extract_features: {rows:,} embeddings of {channels:,} channels, {2 * rows * channels / 1e6:.0f} MB")


if __name__ == "__main__":
    run(main)
