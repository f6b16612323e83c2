"""The script that tutorials teach, as a peer for `race.py` and `league.py`: a head on a frozen network, then
fine-tuning.

    python keras_tutorial.py FOLDER BACKBONE [--cut LAYER] [--cached] [--head-only] [--seed N] [--predictions FILE]

FOLDER holds train/ and validation/ with one folder for each class. BACKBONE is a `.keras` file with a layer `features`.
The head trains for 20 epochs at a rate of 1e-3. Then the layers behind LAYER, or all layers, train for 10 epochs at
1e-4. Both use Adam and batches of 32; batch normalisation stays in inference mode. Of each part the epoch with the best
validation accuracy is kept. With `--cached` the frozen features are computed once, without augmentation, and kept in
memory; only fine-tuning reads the photographs again.

Prints a line for each epoch, and one line of JSON after each part: the seconds since the process started, and the best
validation accuracy. FILE gets a row for each photograph of validation/ and test/: its name and the predicted class.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import peer

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np

BATCH = 32


def main() -> None:
    parser = peer.options(__doc__, "backbone")
    parser.add_argument("--cut")
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--head-only", action="store_true")
    parser.add_argument("--epochs", type=int, nargs=2, default=(20, 10), help="of the head, and of fine-tuning")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    train, validation = (read(arguments.folder / part, arguments.size) for part in ("train", "validation"))
    backbone = keras.saving.load_model(arguments.backbone, compile=False)
    frozen = keras.Model(backbone.input, backbone.get_layer("features").output)
    frozen.trainable = False
    augmentation = keras.Sequential(
        [
            keras.layers.RandomFlip(),
            keras.layers.RandomRotation(5 / 360),
            keras.layers.RandomTranslation(0.03, 0.03),
            keras.layers.RandomZoom(0.05),
            keras.layers.RandomContrast(0.1),
        ]
    )
    head = keras.layers.Dense(len(train.class_names), activation="softmax")
    image = keras.Input((arguments.size, arguments.size, 3))
    model = keras.Model(image, head(frozen(augmentation(image), training=False)))
    head_epochs, epochs = arguments.epochs
    if arguments.cached:
        sets = [compute_features(frozen, part) for part in (train, validation)]
        accuracy = fit("head", keras.Model(head.input, head.output), *sets, 1e-3, head_epochs)
    else:
        accuracy = fit("head", model, train, validation, 1e-3, head_epochs)
    peer.report("head", accuracy)
    if arguments.head_only:
        return
    frozen.trainable = True
    thawed = arguments.cut is None
    for layer in frozen.layers:
        layer.trainable = thawed and not isinstance(layer, keras.layers.BatchNormalization)
        thawed = thawed or layer.name == arguments.cut
    peer.report("fine_tuned", fit("fine_tuned", model, train, validation, 1e-4, epochs))
    if arguments.predictions:
        parts = [read(arguments.folder / split, arguments.size, shuffle=False) for split in ("validation", "test")]
        peer.write_predictions(arguments.predictions, predict(model, parts))


def read(folder: Path, size: int, shuffle: bool = True):
    return keras.utils.image_dataset_from_directory(
        folder, image_size=(size, size), batch_size=BATCH, shuffle=shuffle, verbose=False
    )


def compute_features(frozen: keras.Model, batches) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(frozen.predict_on_batch(x), y.numpy()) for x, y in batches]
    return tuple(np.concatenate(column) for column in zip(*pairs, strict=True))


def fit(part: str, model: keras.Model, train, validation, rate: float, epochs: int) -> float:
    def say(epoch: int, logs: dict[str, float]) -> None:
        words = ", ".join(f"{name} {value:.4f}" for name, value in sorted(logs.items()))
        print(f"{part}, epoch {epoch + 1}: {words}", flush=True)

    best = keras.callbacks.EarlyStopping("val_accuracy", patience=epochs, mode="max", restore_best_weights=True)
    callbacks = [best, keras.callbacks.LambdaCallback(on_epoch_end=say)]
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    if isinstance(train, tuple):
        options = {"validation_data": validation, "batch_size": BATCH}
        history = model.fit(*train, epochs=epochs, callbacks=callbacks, verbose=0, **options)
    else:
        train, validation = train.prefetch(2), validation.prefetch(2)
        history = model.fit(train, validation_data=validation, epochs=epochs, callbacks=callbacks, verbose=0)
    return max(history.history["val_accuracy"])


def predict(model: keras.Model, parts: list) -> Iterator[tuple[str, str]]:
    for part in parts:
        indices = model.predict(part, verbose=0).argmax(axis=1)
        yield from zip(part.file_paths, (part.class_names[index] for index in indices), strict=True)


if __name__ == "__main__":
    main()
