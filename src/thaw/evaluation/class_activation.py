"""Where a model looked: class-activation maps, after Zhou et al. 2016 (arXiv 1512.04150).

They are exact where a network averages a feature map over its places, or the patches of a transformer, and weighs the
channels into logits. The order of the two may then be changed: what each place adds to the difference of two logits can
be seen. Other networks, such as those with hidden layers behind the average, or that read a class token, have no such
map, and none is made up for them.
"""

from typing import NamedTuple

import numpy as np

from thaw.engines.array_inference import predictor
from thaw.engines.keras_internals import call_inputs, producer
from thaw.engines.keras_setup import keras
from thaw.engines.transformer_layers import TokenPooling

BATCH_IMAGES = 16  # a map of 1280 channels is 250 KB, at 600 pixels some 2 MB


class Weighing(NamedTuple):
    """How the last layer of a model comes to its logits."""

    averaged: keras.KerasTensor  # a map (n, h, w, channels), or tokens (n, tokens, channels)
    map: keras.KerasTensor  # the same map, or that of the patches among the tokens
    kernel: np.ndarray  # (channels, classes): it makes logits of the mean of the map


def averaged_map(model: keras.Model) -> keras.KerasTensor | None:
    """Return the tensor (n, h, w, channels) whose mean over the places the last layer weighs; None without one."""
    weighing = _weighing(model)
    return weighing and weighing.map


def _weighing(model: keras.Model) -> Weighing | None:
    """Return how the last layer weighs the mean of a map; None without one.

    The last layer of the model is dense, or a head that is a network itself and has a dense one.
    """
    head = model.layers[-1]
    inside = isinstance(head, keras.Model)
    dense = [layer for layer in (head.layers if inside else [head]) if isinstance(layer, keras.layers.Dense)]
    if not dense:
        return None
    kernel, averages = dense[-1].get_weights()[0], _without_dropout(dense[-1].input)
    if kernel.shape[1] == 1:  # a sigmoid's: the logit of the first of its two classes is 0
        kernel = np.hstack([np.zeros_like(kernel), kernel])
    head_input = call_inputs(model.output)[0]
    if inside and averages is head.input:
        inside, averages = False, _without_dropout(head_input)
    pooling = producer(averages)
    if isinstance(pooling, TokenPooling) and pooling.kind == "avg":
        return Weighing(pooling.input, TokenPooling(None, pooling.prefix)(pooling.input), kernel)
    if not isinstance(pooling, keras.layers.GlobalAveragePooling2D):
        return None
    averaged = keras.Model(head.input, pooling.input)(head_input) if inside else pooling.input
    return Weighing(averaged, averaged, kernel)


def _without_dropout(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Return the tensor before any dropout, which does nothing in inference."""
    while isinstance(layer := producer(tensor), keras.layers.Dropout):
        tensor = layer.input
    return tensor


def map_input(model: keras.Model, cut: str | None) -> str | None:
    """Return the layer from whose output `averaged_map` is computed: `cut`, unless it lies behind the map.

    None stands for the pixels.
    """
    names = [layer.name for layer in model.layers]
    last = producer(_weighing(model).averaged).name  # a layer of the model, unless it lies within the head
    return cut if cut and (last not in names or names.index(cut) <= names.index(last)) else None


def activation_maps(
    model: keras.Model, layer: str | None, inputs: np.ndarray, predicted: np.ndarray, rivals: np.ndarray | None
) -> np.ndarray:
    """Return what each place of each image adds to the logit of one output less that of another.

    The mean of a map plus the difference of the two biases is the difference of the two logits. Without rivals, the
    mean plus the bias is the logit itself: that is for outputs which are independent of one another.

    Args:
        model: has an `averaged_map`.
        layer: whose outputs the inputs are; None for RGB pixels 0-255.
        inputs: (n, ...), one for each image.
        predicted: (n,) int, the first output of each image.
        rivals: (n,) int, the second output; None: none is subtracted.

    Returns:
        (n, h, w) float32.
    """
    first, (_, map_, kernel) = model.get_layer(layer).output if layer else model.input, _weighing(model)
    map_rows = inputs.__getitem__ if first is map_ else predictor(keras.Model(first, map_), inputs)
    maps = []
    for start in range(0, len(inputs), BATCH_IMAGES):
        rows = np.arange(start, min(start + BATCH_IMAGES, len(inputs)))
        features = map_rows(rows).astype(np.float32)
        weights = kernel[:, predicted[rows]]
        if rivals is not None:
            weights = weights - kernel[:, rivals[rows]]
        maps.append(np.einsum("nhwc,nc->nhw", features, weights.T))
    return np.concatenate(maps)
