"""Measure an epoch of fine-tuning, and compare it with a usual Keras script, which runs the frozen layers each time.

Both train the same layers behind the default freeze depth, with AdamW, from the same head, on the same photographs, in
batches of the same size. Both measure the validation split after each epoch. The Keras script reads a folder with
`image_dataset_from_directory`, augments with layers of Keras and runs the frozen layers (BatchNorm in inference mode).
Thaw reads the stored activations. The two run in turn. Thaw has a process of its own, since it divides the cores in
another way. The result is the median of each, and the median ratio of the rounds. Needs a finished `dvc repro`.
"""

import argparse
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import results  # it finds the library

from thaw.backbones.cut_points import FEATURES
from thaw.core import arrays, params, tables
from thaw.core.errors import run
from thaw.core.files import read_json
from thaw.engines import model_files
from thaw.engines.keras_setup import keras
from thaw.engines.tensorflow_setup import tf
from thaw.features import examples
from thaw.heads import registry
from thaw.parameters.fine_tune import FineTune
from thaw.parameters.whole import Params
from thaw.training import loop

ACTIVATIONS, BACKBONE, HEAD = Path("data/activations"), Path("models/backbone"), Path("models/head/head.zip")
RAW, SPLIT = Path("data/raw"), Path("data/split.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    parameters = params.load(Path("params.yaml"))
    frozen_layer = read_json(ACTIVATIONS / "cut.json")["layer"]
    with tempfile.TemporaryDirectory() as scratch:
        copy_images(Path(scratch))
        script = keras_script(Path(scratch), frozen_layer, parameters)
        process = ProcessPoolExecutor(1, get_context("spawn"), initializer=loop.share_cores)
        thaw_seconds, keras_seconds = [], []
        for _ in range(rounds):
            thaw_seconds.append(process.submit(thaw_epoch, frozen_layer, parameters.fine_tune).result())
            keras_seconds.append(script())
    ratio = median(slow / fast for slow, fast in zip(keras_seconds, thaw_seconds, strict=True))
    print(
        f"seconds per epoch: Thaw {median(thaw_seconds):.1f}, the Keras script {median(keras_seconds):.1f}, "
        f"{ratio:.1f} times as long"
    )
    row = ["an epoch", round(median(thaw_seconds), 2), round(median(keras_seconds), 2), round(ratio, 2)]
    seconds = "{:.1f} s"
    results.write(
        "epoch", ["", ("Thaw", seconds), ("a usual Keras script", seconds), ("times as long", "{:.1f}")], [row]
    )


def copy_images(folder: Path) -> None:
    """Copy the photographs into `folder/split/class`, the layout of `image_dataset_from_directory`."""
    paths = dict(tables.read_images(RAW).select("image_id", "path").iter_rows())
    for image_id, label, split in tables.read(SPLIT, tables.SPLIT).select("image_id", "label", "split").iter_rows():
        target = folder / split / label / Path(paths[image_id]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RAW / paths[image_id], target)


def thaw_epoch(frozen_layer: str | None, fine_tune: FineTune) -> float:
    """Return the seconds of the second epoch. The first one also traces the graph."""
    model = model_with_head()
    activations = arrays.open_rows(ACTIVATIONS / "activations.npy")
    images = examples.read(ACTIVATIONS, SPLIT)
    times = []
    two_epochs = fine_tune.model_copy(update={"epochs": 2, "patience": None, "prune_above": []})
    data = loop.TrainingData(
        activations, images.split("train"), images.split("validation"), frozen_layer, (frozen_layer,)
    )
    loop.fit(model, data, two_epochs, lambda scores: times.append(time.perf_counter()))
    return times[2] - times[1]


def keras_script(folder: Path, frozen_layer: str | None, parameters: Params):
    """Build the usual script. Returns a function that runs one epoch and returns its seconds."""
    keras.utils.set_random_seed(1)
    size, batch = parameters.image.size, parameters.fine_tune.batch_size
    load = keras.utils.image_dataset_from_directory
    augment = parameters.augment.candidates[0]
    augmentation = keras.Sequential(
        [
            keras.layers.RandomFlip(),
            keras.layers.RandomRotation(augment.rotation / 360),
            keras.layers.RandomTranslation(augment.translation, augment.translation),
            keras.layers.RandomZoom(augment.zoom),
            keras.layers.RandomBrightness(augment.brightness),
            keras.layers.RandomContrast(augment.contrast),
        ]
    )
    train = load(folder / "train", image_size=(size, size), batch_size=batch, seed=1)
    train = train.map(lambda x, y: (augmentation(x, training=True), y), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    validation = load(folder / "validation", image_size=(size, size), batch_size=batch, shuffle=False)
    model = model_with_head()
    frozen = frozen_layer is not None
    for layer in model.layers:
        layer.trainable = not frozen and not isinstance(layer, keras.layers.BatchNormalization)
        frozen = frozen and layer.name != frozen_layer
    model.compile(keras.optimizers.AdamW(1e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train.take(1), validation_data=validation.take(1), verbose=0)  # traces the graphs

    def epoch() -> float:
        start = time.perf_counter()
        model.fit(train, validation_data=validation, epochs=1, verbose=0)
        return time.perf_counter() - start

    return epoch


def model_with_head() -> keras.Model:
    backbone, _ = model_files.load(BACKBONE / "backbone.keras")
    return registry.load_packed(HEAD).attach(backbone, FEATURES)


if __name__ == "__main__":
    run(main)
