"""Images/s of each step against its floor: what the machine does of that work alone.

The decoder, the engine and a sequential read are floors as they are. Of a warp, it is OpenCV's `warpAffine` without the
colours; of a prediction, the multiply-adds at the rate of the best matrix product; of training, three times as many.
Beside them stand `keras.Model.predict` on the same pixels, and `keras.Model.fit` on the same arrays, with the same
layers, batches and optimizer. Each step and its floor alternate; medians and the ratio of each round count. Training,
which divides the cores otherwise, has a process of its own. Run from the repository root, on a finished `dvc repro`;
what it did not leave is named, and the rest measured.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from thaw import (
    ahead,
    array_inference,
    arrays,
    augmentation,
    examples,
    extraction,
    heads,
    images,
    inference,
    models,
    params,
    tables,
    training,
    views,
)
from thaw.backbone_names import FEATURES
from thaw.backbones import costs
from thaw.errors import ThawError, missing, run
from thaw.files import read_json
from thaw.keras import keras
from thaw.tensorflow import tf

RAW, SPLIT, PLAN = Path("data/raw"), Path("data/split.csv"), Path("data/augmentations.csv")
BACKBONE, HEAD, ACTIVATIONS = Path("models/backbone"), Path("models/head/start"), Path("data/activations")
CORES = os.cpu_count()
tf.get_logger().setLevel("ERROR")  # it warns of a graph that is traced anew in each round, as it should be
MATRIX = 4096  # rows and columns of the matrix product that counts as the best
Rate = Callable[[], float]  # works, and returns images/s
Row = tuple[str, str, Rate, Rate]  # a step and its floor, and how to measure both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {CORES} cores, Python {platform.python_version()}")
    print(f"{'step':24}{'images/s':>10}  {'floor':40}{'images/s':>10}{'share':>8}")
    absent = 0
    for rows in (pictures, networks):
        try:
            for row in rows(arguments.images):
                measure(*row, arguments.rounds)
        except ThawError as error:
            absent += 1
            print(f"steps: left out, {rows.__doc__[0].lower()}{rows.__doc__[1:-1]}: {error}", flush=True)
    sys.exit(absent == 2)


def measure(step: str, floor: str, ours: Rate, least: Rate, rounds: int) -> None:
    """Print the rates of a step and of its floor, and the share that the one is of the other in the median round."""
    rates = [(ours(), least()) for _ in range(rounds + 1)][1:]  # the first warms up
    share = median(one / other for one, other in rates)
    one, other = (median(column) for column in zip(*rates, strict=True))
    print(f"{step:24}{one:10,.0f}  {floor:40}{other:10,.0f}{share:8.2f}", flush=True)


def timed(work: Callable[[], float]) -> Rate:
    """Return what measures the images/s of `work`, which returns of how many images it was."""

    def rate() -> float:
        start = time.perf_counter()
        count = work()
        return count / (time.perf_counter() - start)

    return rate


def pictures(count: int) -> list[Row]:
    """Decoding, warping and extraction."""
    image = extraction.sized(params.load(Path("params.yaml")).image, BACKBONE)
    size = image.size
    files = [RAW / path for path in tables.read_images(RAW)["path"][:count]]
    plan = tables.read(PLAN, tables.ROWS).head(count).to_dicts()
    canvases = [images.fit(images.decode(file, size), size, image.resize) for file in files]
    frozen = extraction.engine(BACKBONE, FEATURES, image)
    seen = extraction.Views(RAW, SPLIT, PLAN, image)
    pixels = np.concatenate(list(islice(seen.draw(), count // 4)))

    whole, _ = models.load(BACKBONE / "backbone.keras")
    network = keras.Model(whole.input, whole.get_layer(FEATURES).output)

    def decoded(file: Path) -> None:
        with Image.open(file) as picture:
            picture.draft("RGB", (size, size))
            picture.load()

    def warped(canvas: np.ndarray) -> np.ndarray:
        grey = images.grey_of(canvas)
        return cv2.warpAffine(canvas if grey is None else grey, np.eye(2, 3), (size, size), flags=cv2.INTER_LINEAR)

    def each(function: Callable, *lists: list) -> Rate:
        items = list(zip(*lists, strict=False))
        return timed(lambda: sum(1 for _ in ahead.in_order(lambda item: function(*item), items, CORES, views.AHEAD)))

    def extracted() -> int:
        """The whole way, from files on disk to an array on disk."""
        with tempfile.TemporaryDirectory() as scratch:
            batches = frozen(inference.rebatch(seen.draw(slice(len(pixels)))))
            return arrays.write_rows(Path(scratch) / "features.npy", batches, len(pixels))[0]

    def engine_alone() -> int:
        return sum(len(batch) for batch in frozen(inference.rebatch([pixels])))

    def keras_alone() -> int:
        return len(network.predict(pixels, batch_size=32, verbose=0))

    return [
        ("decode and fit", "Pillow's decoder", each(
            lambda file: images.fit(images.decode(file, size), size, image.resize), files), each(decoded, files)),
        ("warp and colours", "cv2.warpAffine", each(
            lambda canvas, row: augmentation.apply(canvas, size, row), canvases, plan), each(warped, canvases)),
        ("extract_features", "the engine on pixels in memory", timed(extracted), timed(engine_alone)),
        ("extract_features", "keras.Model.predict on the same", timed(extracted), timed(keras_alone)),
    ]  # fmt: skip


def networks(count: int) -> list[Row]:
    """Reading, prediction and training of what lies behind the freeze depth."""
    fine_tune = params.load(Path("params.yaml")).fine_tune
    activations = arrays.open_rows(ACTIVATIONS / "activations.npy")
    cut = read_json(ACTIVATIONS / "cut.json")
    if not (BACKBONE / "backbone.xml").exists():
        raise missing(BACKBONE)
    before = {None: 0} | costs.multiply_adds(BACKBONE / "backbone.xml", cut["image"]["size"])
    behind = before[FEATURES] - before[cut["layer"]]
    rows = np.random.default_rng(1).permutation(len(activations))[: 4 * count]
    train = examples.read(ACTIVATIONS, SPLIT)["train"]

    def read() -> int:
        batches = (rows[start : start + fine_tune.batch_size] for start in range(0, len(rows), fine_tune.batch_size))
        return sum(len(x) for x in arrays.read_ahead(activations, batches))

    def read_in_order() -> int:
        with (ACTIVATIONS / "activations.npy").open("rb", buffering=0) as file:
            return len(file.read(4 * count * activations[0].nbytes)) // activations[0].nbytes

    predict = array_inference.predictor(models.thawed_part(model_with_head(), cut["layer"]), activations)

    def predicted() -> int:
        return len(predict(rows[:count]))

    training_alone = ProcessPoolExecutor(1, get_context("spawn"), initializer=training.share_cores)

    def trained() -> float:
        return training_alone.submit(epoch).result()

    keras.utils.set_random_seed(1)
    thawed = models.thawed_part(model_with_head(), cut["layer"])
    for layer in thawed.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)  # else its statistics move
    thawed.compile(keras.optimizers.AdamW(1e-5), "sparse_categorical_crossentropy")
    x = activations[train.views[:, 0]]

    def fit() -> int:
        thawed.fit(x, train.labels, batch_size=fine_tune.batch_size, verbose=0)
        return len(x)

    rate = "multiply-adds as a matrix product"
    return [
        ("read activations", "the file in order", timed(read), timed(read_in_order)),
        ("predict behind the cut", rate, timed(predicted), timed(product(behind))),
        ("train behind the cut", rate, trained, timed(product(3 * behind))),
        ("train behind the cut", "keras.Model.fit on the same arrays", trained, timed(fit)),
    ]


def epoch() -> float:
    """Return the images/s of a second epoch, with one photograph of validation; the first traces the graph."""
    fine_tune = params.load(Path("params.yaml")).fine_tune
    cut = read_json(ACTIVATIONS / "cut.json")["layer"]
    splits = examples.read(ACTIVATIONS, SPLIT)
    few = replace(splits["validation"], **{
        name: getattr(splits["validation"], name)[:1] for name in ("labels", "weights", "views")
    })  # fmt: skip
    ends = []
    training.fit(
        model_with_head(), cut, [cut], arrays.open_rows(ACTIVATIONS / "activations.npy"), splits["train"], few,
        fine_tune.model_copy(update={"epochs": 2, "patience": None}), lambda scores: ends.append(time.perf_counter()),
        layer_decay=fine_tune.layer_decay, gradients=fine_tune.gradients,
    )  # fmt: skip
    return len(splits["train"].labels) / (ends[2] - ends[1])


def product(multiply_adds: int) -> Callable[[], float]:
    """Return the work of as many images as one product of matrices stands for."""
    one = tf.random.stateless_normal((MATRIX, MATRIX), seed=(1, 1))

    def multiply() -> float:
        tf.matmul(one, one).numpy()
        return MATRIX**3 / multiply_adds

    return multiply


def model_with_head() -> keras.Model:
    backbone, _ = models.load(BACKBONE / "backbone.keras")
    return heads.load(HEAD).attach(backbone, FEATURES)


if __name__ == "__main__":
    run(main)
