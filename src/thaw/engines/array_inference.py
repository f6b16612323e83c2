"""The output of a part of a Keras model for rows of an array, computed on OpenVINO."""

from collections.abc import Callable

import numpy as np

from thaw.core import arrays
from thaw.engines import inference
from thaw.engines.keras_setup import keras
from thaw.engines.keras_to_openvino import convert

BLOCK_ROWS = 64  # rows that are read at a time


def predictor(part: keras.Model, inputs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from row numbers (n,) to the output (n, ...) float32 of `part` for these rows of `inputs`.

    inputs (rows, ...) float16, float32 or uint8: a memory map, or anything with its shape, dtype and rows. The function
    takes other inputs of the same kind as a second argument. `part` is compiled once, here, with the weights that it
    has now: keep the function if it is needed again.
    """
    run = inference.compile_model(convert(part), inputs.shape[1:], inputs.dtype, np.float32)

    def predict(rows: np.ndarray, inputs: np.ndarray = inputs) -> np.ndarray:
        blocks = (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))
        return np.concatenate(list(run(inference.rebatch(arrays.read_ahead(inputs, blocks)))))

    return predict
