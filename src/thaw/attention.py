"""Where a model looked: class-activation maps, after Zhou et al. 2016 (arXiv 1512.04150).

They are exact where a network averages a feature map over its places and weighs the channels into logits: the order
of the two may then be changed, and what each place adds to the difference of two logits can be seen. Other networks
have no such map, and none is made up for them; in a head that is a network itself none is looked for.
"""

import numpy as np

from thaw.array_inference import predictor
from thaw.keras import keras

BATCH = 16  # photographs at a time: a map of 1280 channels is 250 KB, at 600 pixels some 2 MB


def averaged_map(model: keras.Model) -> keras.KerasTensor | None:
    """Return the tensor (n, h, w, channels) whose mean over the places the last layer weighs; None without one."""
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        return None
    pooling = last.input._keras_history.operation
    while isinstance(pooling, keras.layers.Dropout):  # does nothing in inference
        pooling = pooling.input._keras_history.operation
    return pooling.input if isinstance(pooling, keras.layers.GlobalAveragePooling2D) else None


def start_of_map(model: keras.Model, cut: str | None) -> str | None:
    """Return the layer whose output the map of `averaged_map` is computed from: `cut`, or None (the pixels) where the
    cut lies behind the map."""
    names = [layer.name for layer in model.layers]
    last = averaged_map(model)._keras_history.operation.name
    return cut if cut and names.index(cut) <= names.index(last) else None


def evidence(
    model: keras.Model, start: str | None, inputs: np.ndarray, answers: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Return (n, h, w) float32: what each place adds to the logit of `answers` (n,) less that of `others` (n,).

    inputs: (n, ...) outputs of the layer `start`, or RGB pixels 0-255 where it is None. The mean of a map plus the
    difference of the two biases is the difference of the two logits. The model must have an `averaged_map`.
    """
    first, map_ = model.get_layer(start).output if start else model.input, averaged_map(model)
    at_rows = inputs.__getitem__ if first is map_ else predictor(keras.Model(first, map_), inputs)
    kernel = model.layers[-1].get_weights()[0]
    maps = []
    for at in range(0, len(inputs), BATCH):
        rows = np.arange(at, min(at + BATCH, len(inputs)))
        features = at_rows(rows).astype(np.float32)
        difference = (kernel[:, answers[rows]] - kernel[:, others[rows]]).T
        maps.append(np.einsum("nhwc,nc->nhw", features, difference))
    return np.concatenate(maps)
