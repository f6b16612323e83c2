"""The Keras model that exports are made from, and that they are compared with."""

from pathlib import Path

from thaw.core.errors import ThawError
from thaw.core.silence import silence
from thaw.engines import model_files
from thaw.engines.keras_setup import keras
from thaw.engines.tensorflow_setup import tf
from thaw.exports.base import Engine


def load(path: Path, classes: int) -> tuple[keras.Model, Engine]:
    """Return the model of a file, and the engine that runs it; raises ThawError if it is no classifier of `classes`."""
    with silence(1, 2):
        model, _ = model_files.load(path)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.output.shape[1:] != (classes,):
        raise ThawError(f"{path}: not a classifier of Thaw's (it does not return {classes} probabilities)")
    compiled = tf.function(lambda pixels: model(pixels, training=False))
    return model, lambda pixels: compiled(tf.constant(pixels)).numpy()
