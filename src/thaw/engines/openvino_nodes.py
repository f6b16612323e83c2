"""What converters of layers have in common: constants, weights and axes of OpenVINO's graphs."""

from collections.abc import Sequence

import numpy as np

from thaw.engines.keras_setup import keras
from thaw.engines.openvino_setup import ov

Node, opset13 = ov.Node, ov.opset13

Values = Sequence[float] | np.ndarray
TO_KERAS, TO_OPENVINO = (0, 2, 3, 1), (0, 3, 1, 2)  # the axes of a map, transposed


def transposed(x: Node, axes: tuple[int, ...]) -> Node:
    return opset13.transpose(x, np.array(axes))


def is_map(x: Node) -> bool:
    return x.get_output_partial_shape(0).rank.get_length() == 4


def is_tokens(x: Node) -> bool:
    return x.get_output_partial_shape(0).rank.get_length() == 3


def channel_axis(x: Node) -> int:
    return 2 if is_tokens(x) else 1


def channels(values: Values | float, x: Node) -> Node:
    """Return a value for each channel, or one for all, in the shape that it needs beside `x`."""
    values = np.ravel(np.asarray(values, np.float32))
    return constant(values.reshape(1, -1, 1, 1) if is_map(x) else values[None])


def constant(values: Values | float) -> Node:
    return opset13.constant(np.ascontiguousarray(values, np.float32))


def array(variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
