"""Where a model looked: class-activation maps, after Zhou et al. 2016 (arXiv 1512.04150).

They are exact where a network averages a feature map over its places and weighs the channels into logits: the order
of the two may then be changed, and what each place adds to the difference of two logits can be seen. Other networks,
such as those with hidden layers behind the average, have no such map, and none is made up for them.
"""

import numpy as np

from thaw.array_inference import predictor
from thaw.keras import keras

BATCH = 16  # photographs at a time: a map of 1280 channels is 250 KB, at 600 pixels some 2 MB


def averaged_map(model: keras.Model) -> keras.KerasTensor | None:
    """Return the tensor (n, h, w, channels) whose mean over the places the last layer weighs; None without one."""
    found = _weighing(model)
    return found and found[0]


def _weighing(model: keras.Model) -> tuple[keras.KerasTensor, np.ndarray] | None:
    """Return this tensor and the kernel (channels, classes) that makes logits of its mean; None without one.

    The last layer of the model is dense, or a head that is a network itself and has a dense one.
    """
    head = model.layers[-1]
    inside = isinstance(head, keras.Model)
    dense = [layer for layer in (head.layers if inside else [head]) if isinstance(layer, keras.layers.Dense)]
    if not dense:
        return None
    kernel, averages = dense[-1].get_weights()[0], _before_dropout(dense[-1].input)
    if kernel.shape[1] == 1:  # a sigmoid's: the logit of the first of its two classes is 0
        kernel = np.hstack([np.zeros_like(kernel), kernel])
    operation, node, _ = model.output._keras_history
    given = operation._inbound_nodes[node].input_tensors[0]
    if inside and averages is head.input:
        inside, averages = False, _before_dropout(given)
    pooling = averages._keras_history.operation
    if not isinstance(pooling, keras.layers.GlobalAveragePooling2D):
        return None
    return (keras.Model(head.input, pooling.input)(given) if inside else pooling.input), kernel


def _before_dropout(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Return what dropout, which does nothing in inference, was applied to."""
    while isinstance(layer := tensor._keras_history.operation, keras.layers.Dropout):
        tensor = layer.input
    return tensor


def start_of_map(model: keras.Model, cut: str | None) -> str | None:
    """Return the layer whose output the map of `averaged_map` is computed from: `cut`, or None (the pixels) where the
    cut lies behind the map."""
    names = [layer.name for layer in model.layers]
    last = averaged_map(model)._keras_history.operation.name  # one of them, unless it lies within the head
    return cut if cut and (last not in names or names.index(cut) <= names.index(last)) else None


def evidence(
    model: keras.Model, start: str | None, inputs: np.ndarray, answers: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Return (n, h, w) float32: what each place adds to the logit of `answers` (n,) less that of `others` (n,).

    inputs: (n, ...) outputs of the layer `start`, or RGB pixels 0-255 where it is None. The mean of a map plus the
    difference of the two biases is the difference of the two logits. The model must have an `averaged_map`.
    """
    first, (map_, kernel) = model.get_layer(start).output if start else model.input, _weighing(model)
    at_rows = inputs.__getitem__ if first is map_ else predictor(keras.Model(first, map_), inputs)
    maps = []
    for at in range(0, len(inputs), BATCH):
        rows = np.arange(at, min(at + BATCH, len(inputs)))
        features = at_rows(rows).astype(np.float32)
        difference = (kernel[:, answers[rows]] - kernel[:, others[rows]]).T
        maps.append(np.einsum("nhwc,nc->nhw", features, difference))
    return np.concatenate(maps)
