"""SavedModel: TensorFlow's folder, its metadata in `assets.extra`, which TensorFlow keeps for what is one's own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from thaw.exports import graphs, tflite
from thaw.keras import keras
from thaw.tensorflow import tf


def write(model: keras.Model, facts: dict, folder: Path) -> None:
    """Write a model for batches of any length; its signature is `serving_default`."""
    (folder / "saved_model.pb").write_bytes(graphs.saved_model(graphs.freeze(model, facts["image"]["size"])))
    own = folder / "assets.extra"
    own.mkdir()
    (own / "metadata.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (own / tflite.LABELS).write_text(tflite.labels(facts), encoding="utf-8")


def load(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from (n, size, size, 3) float32 pixels to (n, classes) float32 probabilities."""
    answer = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return lambda pixels: answer(**{graphs.IMAGE: tf.constant(pixels)})[graphs.PROBABILITIES].numpy()
