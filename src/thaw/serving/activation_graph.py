"""Where a converted network looks: class-activation maps, as `evaluation.class_activation` computes them with Keras.

The map and its weights are found in OpenVINO's graph, since importing Keras takes seconds. They are found where the
network ends in a mean over a map, or over the patches of a transformer, and one dense layer with a softmax or, for
several labels, a sigmoid. For any other network there is no map, and none is made up.
"""

from math import isqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thaw.engines.openvino_setup import ov


class Weighing(NamedTuple):
    """How the last layer of a network comes to its logits."""

    map: ov.Output  # (n, channels, h, w), or tokens (n, patches, channels)
    kernel: NDArray[np.float32]  # (channels, classes): it makes logits of the mean of the map


def find_weighing(probabilities: ov.Output) -> Weighing | None:
    """Return how the last layer weighs the mean of a map; None without one. `probabilities`: the network's output."""
    node = _behind(probabilities.get_node(), "Result", "Squeeze")
    if node.get_type_name() not in ("Softmax", "Sigmoid"):
        return None
    node = node.input_value(0).get_node()
    if node.get_type_name() == "Add" and _is_constant(node, 1):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Convolution" or not _is_constant(node, 1):
        return None
    kernel = node.input_value(1).get_node().data  # (classes, channels, 1, 1): the dense layer
    mean = _behind(node.input_value(0).get_node(), "Unsqueeze")
    if kernel.shape[2:] != (1, 1) or mean.get_type_name() != "ReduceMean" or not _is_constant(mean, 1):
        return None
    map_ = mean.input_value(0)
    axes = {int(axis) for axis in np.ravel(mean.input_value(1).get_node().data)}
    if axes != {4: {2, 3}, 3: {1}}.get(map_.get_partial_shape().rank.get_length()):
        return None
    return Weighing(map_, np.array(kernel[:, :, 0, 0].T))


def activation_map(
    map_: NDArray[np.float32], kernel: NDArray[np.float32], predicted: int, rival: int | None
) -> NDArray[np.float32]:
    """Return what each place (h, w) of an image adds to the logit of one class less that of another, if there is one.

    Args:
        map_: the image's row of `Weighing.map`. Tokens are those of a square.
        kernel: that of the same Weighing.
        predicted: the first class.
        rival: the second class; None where classes do not exclude one another.
    """
    if map_.ndim == 2:
        side = isqrt(len(map_))
        map_ = map_.reshape(side, side, -1).transpose(2, 0, 1)
    weights = kernel[:, predicted] if rival is None else kernel[:, predicted] - kernel[:, rival]
    return np.einsum("chw,c->hw", map_, weights)


def _behind(node: ov.Node, *skipped: str) -> ov.Node:
    """Return the first node of another type, going from a node to its first input."""
    while node.get_type_name() in skipped:
        node = node.input_value(0).get_node()
    return node


def _is_constant(node: ov.Node, position: int) -> bool:
    return node.input_value(position).get_node().get_type_name() == "Constant"
