"""How fast features are extracted, against `keras.Model.predict` and against the engine's own rate.

Ours is the whole way from files on disk to an array on disk: decoding, scaling, warping the planned copies, the
network, float16, writing. The other two are given the same pixels in memory. The three alternate; the medians and
the ratios of each round count. Wants a finished `dvc repro`.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

from thaw import inference, models, params, tables, views
from thaw.extraction import Views, engine, extract
from thaw.tensorflow import keras

RAW, BACKBONE = Path("data/raw"), Path("models/backbone")
SPLIT, PLAN = Path("data/split.csv"), Path("data/augmentations.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    image = params.load(Path("params.yaml")).image
    frozen = engine(BACKBONE, "features", image)
    whole, _ = models.load(BACKBONE / "backbone.keras")
    network = keras.Model(whole.input, whole.get_layer("features").output)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        split = tables.read(SPLIT, tables.SPLIT).sort("image_id").head(arguments.images)
        tables.write(split, folder / "split.csv")
        plan = tables.read(PLAN, tables.ROWS).filter(pl.col("image_id").is_in(split["image_id"].implode()))
        tables.write(plan, folder / "augmentations.csv")
        paths = dict(tables.read_images(RAW).select("image_id", "path").iter_rows())
        files = [RAW / paths[image_id] for image_id in split["image_id"]]
        plans = [[None, *plan.filter(image_id=image_id).sort("copy").to_dicts()] for image_id in split["image_id"]]
        pixels = np.concatenate(list(views.draw(files, plans, image.size, image.resize)))

        def ours() -> None:
            seen = Views(RAW, folder / "split.csv", folder / "augmentations.csv", image)
            extract(seen, frozen, folder / "features.npy")

        def raw_engine() -> None:
            for _ in frozen(inference.rebatch([pixels])):
                pass

        def keras_predict() -> None:
            network.predict(pixels, batch_size=32, verbose=0)

        contestants = {"extract_features": ours, "engine alone": raw_engine, "keras.Model.predict": keras_predict}
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(arguments.rounds + 1):
            for name, run in contestants.items():
                start = time.perf_counter()
                run()
                if turn:  # the first round warms up
                    rates[name].append(len(pixels) / (time.perf_counter() - start))
    for name, values in rates.items():
        ratios = [ours / other for ours, other in zip(rates["extract_features"], values, strict=True)]
        print(f"{name:22} {median(values):6.0f} images/s, extract_features is {median(ratios):.2f} times that")


if __name__ == "__main__":
    main()
