"""What an epoch of fine-tuning costs, against the usual Keras script that runs the frozen part each time.

Both train the same layers behind the default freeze depth, from the same head, on the same photographs, in the same
batches, with AdamW, and measure the validation split after each epoch. The Keras script reads a folder with
`image_dataset_from_directory`, augments with Keras' layers and runs the frozen layers (BatchNorm in inference mode);
ours reads the cached activations. They alternate, each in a process of its own, as they divide the cores otherwise; the
medians and the ratios count. Wants a finished `dvc repro`.
"""

import argparse
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from thaw import arrays, examples, heads, models, params, tables, training
from thaw.backbone_names import FEATURES
from thaw.errors import run
from thaw.files import read_json
from thaw.keras import keras
from thaw.tensorflow import tf

ACTIVATIONS, BACKBONE, HEAD = Path("data/activations"), Path("models/backbone"), Path("models/head")
RAW, SPLIT = Path("data/raw"), Path("data/split.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    parameters = params.load(Path("params.yaml"))
    cut = read_json(ACTIVATIONS / "cut.json")["layer"]
    with tempfile.TemporaryDirectory() as scratch:
        link_folders(Path(scratch))
        script = keras_script(Path(scratch), cut, parameters)
        alone = ProcessPoolExecutor(1, get_context("spawn"), initializer=training.share_cores)
        ours, keras_s = [], []
        for _ in range(rounds):
            ours.append(alone.submit(our_epoch, cut, parameters.fine_tune).result())
            keras_s.append(script())
    ratio = median(k / o for k, o in zip(keras_s, ours, strict=True))
    print(f"ours {median(ours):.1f} s an epoch, the Keras script {median(keras_s):.1f} s: {ratio:.1f} times as long")


def link_folders(folder: Path) -> None:
    """Lay the photographs out as `image_dataset_from_directory` wants them: split, then class."""
    paths = dict(tables.read_images(RAW).select("image_id", "path").iter_rows())
    for image_id, label, part in tables.read(SPLIT, tables.SPLIT).select("image_id", "label", "split").iter_rows():
        target = folder / part / label / Path(paths[image_id]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RAW / paths[image_id], target)


def our_epoch(cut: str | None, fine_tune: params.FineTune) -> float:
    """Return the seconds of the second epoch; the first also traces the graph."""
    model = model_with_head()
    activations = arrays.open_rows(ACTIVATIONS / "activations.npy")
    splits = examples.read(ACTIVATIONS, SPLIT)
    times = []
    two = fine_tune.model_copy(update={"epochs": 2, "patience": None})
    training.fit(
        model, cut, [cut], activations, splits["train"], splits["validation"], two,
        lambda scores: times.append(time.perf_counter()),
        layer_decay=two.layer_decay, ema=two.ema, gradients=two.gradients,
    )  # fmt: skip
    return times[2] - times[1]


def keras_script(folder: Path, cut: str | None, parameters: params.Params):
    """Return a function that runs one epoch of the usual script and returns its seconds."""
    keras.utils.set_random_seed(1)
    size, batch = parameters.image.size, parameters.fine_tune.batch_size
    load = keras.utils.image_dataset_from_directory
    augment = parameters.augment
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
    frozen = cut is not None
    for layer in model.layers:
        layer.trainable = not frozen and not isinstance(layer, keras.layers.BatchNormalization)
        frozen = frozen and layer.name != cut
    model.compile(keras.optimizers.AdamW(1e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train.take(1), verbose=0)  # traces the graph

    def epoch() -> float:
        start = time.perf_counter()
        model.fit(train, validation_data=validation, epochs=1, verbose=0)
        return time.perf_counter() - start

    return epoch


def model_with_head() -> keras.Model:
    backbone, _ = models.load(BACKBONE / "backbone.keras")
    return heads.load(HEAD).attach(backbone, FEATURES)


if __name__ == "__main__":
    run(main)
