"""Measure the images/s of each step, and compare it with its floor: the rate of the necessary work alone.

The floor of decoding is the decoder, that of extraction the engine, and that of reading a sequential read. The floor of
warping is OpenCV's `warpAffine` without the change of colours. The floor of prediction is its number of multiply-adds
at the rate of a large matrix product; that of training is three times as many multiply-adds. `keras.Model.predict` on
the same pixels and `keras.Model.fit` on the same arrays are measured too, with the same layers, batches and optimizer.

A step and its floor run in turn. The result is the median of each, and the median ratio of the rounds. Training has a
process of its own, since it divides the cores in another way. Run from the repository root, on a finished `dvc repro`.
Missing outputs are named, and the other steps are measured.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import results  # it finds the library
from PIL import Image

from thaw.backbones import costs
from thaw.backbones.cut_points import FEATURES
from thaw.core import arrays, params, prefetch, tables
from thaw.core.errors import ThawError, missing, run
from thaw.core.files import read_json
from thaw.engines import array_inference, inference, model_files
from thaw.engines.keras_setup import keras
from thaw.engines.tensorflow_setup import tf
from thaw.features import examples, extraction
from thaw.heads import registry
from thaw.images import augmentation, decoding, views
from thaw.training import loop

RAW, SPLIT, PLAN = Path("data/raw"), Path("data/split.csv"), Path("data/augmentations.csv")
BACKBONE, HEAD, ACTIVATIONS = Path("models/backbone"), Path("models/head/head.zip"), Path("data/activations")
EMBEDDINGS = Path("data/features")
CORES = os.cpu_count()
tf.get_logger().setLevel("ERROR")  # it would warn that each round traces a new graph
MATRIX_SIDE = 4096  # rows and columns of the large matrix product
Rate = Callable[[], float]  # does the work and returns images/s
Row = tuple[str, str, Rate, Rate]  # names of a step and of its floor, and the functions that measure them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {CORES} cores, Python {platform.python_version()}")
    print(f"{'step':24}{'images/s':>10}  {'floor':40}{'images/s':>10}{'ratio':>8}")
    missing_parts, measured = 0, []
    for rows in (image_steps, network_steps):
        try:
            measured += [measure(*row, arguments.rounds) for row in rows(arguments.images)]
        except ThawError as error:
            missing_parts += 1
            print(f"steps: {rows.__doc__[:-1]} left out: {error}", flush=True)
    if not missing_parts:
        rate = "{:,.0f}"
        results.write(
            "steps", ["step", ("images/s", rate), "floor", ("its images/s", rate), ("ratio", "{:.2f}")], measured
        )
    sys.exit(missing_parts == 2)


def measure(step: str, floor: str, step_rate: Rate, floor_rate: Rate, rounds: int) -> list:
    """Measure a step and its floor in turn, and print a line. Returns the row for the table of results.

    Args:
        step: Name of the step.
        floor: Name of its floor.
        step_rate: Measures the step once.
        floor_rate: Measures the floor once.
        rounds: Number of measurements of each, after one that only warms up.
    """
    rates = [(step_rate(), floor_rate()) for _ in range(rounds + 1)][1:]
    ratio = median(step_images / floor_images for step_images, floor_images in rates)
    step_median, floor_median = (median(column) for column in zip(*rates, strict=True))
    print(f"{step:24}{step_median:10,.0f}  {floor:40}{floor_median:10,.0f}{ratio:8.2f}", flush=True)
    return [step, round(step_median, 1), floor, round(floor_median, 1), round(ratio, 3)]


def timed(work: Callable[[], float]) -> Rate:
    """Return a function that measures the images/s of `work`, which returns the number of its images."""

    def rate() -> float:
        start = time.perf_counter()
        count = work()
        return count / (time.perf_counter() - start)

    return rate


def image_steps(count: int) -> list[Row]:
    """Decoding, warping and extraction."""
    image = extraction.resolved(extraction.sized(params.load(Path("params.yaml")).image, BACKBONE), EMBEDDINGS)
    size = image.size
    files = [RAW / path for path in tables.read_images(RAW)["path"][:count]]
    plan = tables.read(PLAN, tables.ROWS).head(count).to_dicts()
    canvases = [decoding.fit(decoding.decode(file, size), size, image.resize) for file in files]
    frozen = extraction.engine(BACKBONE, FEATURES, image)
    source = extraction.PlannedViews(extraction.Dataset(RAW, SPLIT, PLAN), image)
    pixels = np.concatenate(list(islice(source.draw(), count // 4)))

    backbone, _ = model_files.load(BACKBONE / "backbone.keras")
    network = keras.Model(backbone.input, backbone.get_layer(FEATURES).output)

    def decode(file: Path) -> None:
        with Image.open(file) as picture:
            picture.draft("RGB", (size, size))
            picture.load()

    def warp(canvas: np.ndarray) -> np.ndarray:
        grey = decoding.grey_channel(canvas)
        return cv2.warpAffine(canvas if grey is None else grey, np.eye(2, 3), (size, size), flags=cv2.INTER_LINEAR)

    def each(function: Callable, *lists: list) -> Rate:
        items = list(zip(*lists, strict=False))
        return timed(
            lambda: sum(1 for _ in prefetch.map_in_order(lambda item: function(*item), items, CORES, views.MAX_AHEAD))
        )

    def extract() -> int:
        """Extract features from files on disk into an array on disk."""
        with tempfile.TemporaryDirectory() as scratch:
            batches = frozen(inference.rebatch(source.draw(slice(len(pixels)))))
            return arrays.write_rows(Path(scratch) / "features.npy", batches, len(pixels))[0]

    def engine_alone() -> int:
        return sum(len(batch) for batch in frozen(inference.rebatch([pixels])))

    def keras_alone() -> int:
        return len(network.predict(pixels, batch_size=32, verbose=0))

    return [
        ("decode and fit", "Pillow's decoder", each(
            lambda file: decoding.fit(decoding.decode(file, size), size, image.resize), files), each(decode, files)),
        ("warp and colours", "cv2.warpAffine", each(
            lambda canvas, row: augmentation.apply(canvas, size, row), canvases, plan), each(warp, canvases)),
        ("extract_features", "the engine on pixels in memory", timed(extract), timed(engine_alone)),
        ("extract_features", "keras.Model.predict on the same", timed(extract), timed(keras_alone)),
    ]  # fmt: skip


def network_steps(count: int) -> list[Row]:
    """Reading, prediction and training behind the freeze depth."""
    fine_tune = params.load(Path("params.yaml")).fine_tune
    activations = arrays.open_rows(ACTIVATIONS / "activations.npy")
    frozen = read_json(ACTIVATIONS / "cut.json")
    if not (BACKBONE / "backbone.xml").exists():
        raise missing(BACKBONE)
    before = {None: 0} | costs.multiply_adds(BACKBONE / "backbone.xml", frozen["image"]["size"])
    behind = before[FEATURES] - before[frozen["layer"]]
    rows = np.random.default_rng(1).permutation(len(activations))[: 4 * count]
    train = examples.read(ACTIVATIONS, SPLIT).split("train")

    def read() -> int:
        batches = (rows[start : start + fine_tune.batch_size] for start in range(0, len(rows), fine_tune.batch_size))
        return sum(len(x) for x in arrays.read_ahead(activations, batches))

    def read_in_order() -> int:
        with (ACTIVATIONS / "activations.npy").open("rb", buffering=0) as file:
            return len(file.read(4 * count * activations[0].nbytes)) // activations[0].nbytes

    predict = array_inference.predictor(model_files.thawed_part(model_with_head(), frozen["layer"]), activations)

    def predict_rows() -> int:
        return len(predict(rows[:count]))

    training_process = ProcessPoolExecutor(1, get_context("spawn"), initializer=loop.share_cores)

    def train_epoch() -> float:
        return training_process.submit(epoch).result()

    keras.utils.set_random_seed(1)
    thawed = model_files.thawed_part(model_with_head(), frozen["layer"])
    for layer in thawed.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)  # keeps its statistics
    thawed.compile(keras.optimizers.AdamW(1e-5), "sparse_categorical_crossentropy")
    x = activations[train.rows]

    def fit() -> int:
        thawed.fit(x, train.labels, batch_size=fine_tune.batch_size, verbose=0)
        return len(x)

    rate = "multiply-adds as a matrix product"
    return [
        ("read activations", "the file in order", timed(read), timed(read_in_order)),
        ("predict behind the depth", rate, timed(predict_rows), timed(product(behind))),
        ("train behind the depth", rate, train_epoch, timed(product(3 * behind))),
        ("train behind the depth", "keras.Model.fit on the same arrays", train_epoch, timed(fit)),
    ]


def epoch() -> float:
    """Return the images/s of a second epoch, with one validation image. The first epoch traces the graph."""
    fine_tune = params.load(Path("params.yaml")).fine_tune
    frozen_layer = read_json(ACTIVATIONS / "cut.json")["layer"]
    images = examples.read(ACTIVATIONS, SPLIT)
    train, single_image = images.split("train"), images.take(images.positions("validation")[:1])
    activations, ends = arrays.open_rows(ACTIVATIONS / "activations.npy"), []
    data = loop.TrainingData(activations, train, single_image, frozen_layer, (frozen_layer,))
    two_epochs = fine_tune.model_copy(update={"epochs": 2, "patience": None, "prune_above": []})
    loop.fit(model_with_head(), data, two_epochs, lambda scores: ends.append(time.perf_counter()))
    return len(train) / (ends[2] - ends[1])


def product(multiply_adds: int) -> Callable[[], float]:
    """Return a matrix product as work: its multiply-adds, divided by those of an image, are its number of images."""
    matrix = tf.random.stateless_normal((MATRIX_SIDE, MATRIX_SIDE), seed=(1, 1))

    def multiply() -> float:
        tf.matmul(matrix, matrix).numpy()
        return MATRIX_SIDE**3 / multiply_adds

    return multiply


def model_with_head() -> keras.Model:
    backbone, _ = model_files.load(BACKBONE / "backbone.keras")
    return registry.load_packed(HEAD, "start").attach(backbone, FEATURES)


if __name__ == "__main__":
    run(main)
