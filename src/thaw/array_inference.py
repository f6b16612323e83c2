"""What a part of a Keras model answers to rows of an array, on OpenVINO."""

from collections.abc import Callable

import numpy as np

from thaw import arrays, inference
from thaw.conversion import convert
from thaw.keras import keras

READ_AHEAD = 64  # rows at a time


def predictor(part: keras.Model, inputs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from (n,) row numbers of `inputs` to what `part` makes of these rows, float32.

    inputs (rows, ...) float16, float32 or uint8: a memory map, or anything with its shape, dtype and rows. The function
    takes other inputs of that kind as a second argument.
    """
    run = inference.on_openvino(convert(part), inputs.shape[1:], inputs.dtype, np.float32)

    def predict(rows: np.ndarray, inputs: np.ndarray = inputs) -> np.ndarray:
        blocks = (rows[start : start + READ_AHEAD] for start in range(0, len(rows), READ_AHEAD))
        return np.concatenate(list(run(inference.rebatch(arrays.read_ahead(inputs, blocks)))))

    return predict
