"""Convert the layers of `transformer_layers` for OpenVINO.

A size that is not known before the network is given one is computed in the graph. OpenVINO makes constants of it.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np

from thaw.engines.openvino_nodes import TO_KERAS, TO_OPENVINO, Node, array, constant, opset13, transposed
from thaw.engines.transformer_layers import CUBIC

MAX_INPUTS = 384  # of one product: on Haswell, EPYC and AVX-512 limited to AVX2, up to them all bytes are the same


def product(x: Node, kernel: np.ndarray) -> Node:
    """Return tokens (n, tokens, inputs) times a kernel (inputs, outputs).

    It is a sum of products of at most MAX_INPUTS inputs. OpenVINO adds more of them in an order that the sizes of the
    processor's caches decide. As a convolution, the product would take a third longer.
    """
    parts = [
        opset13.matmul(
            _sliced(x, start, start + MAX_INPUTS, axis=2) if len(kernel) > MAX_INPUTS else x,
            constant(kernel[start : start + MAX_INPUTS]), False, False,
        )
        for start in range(0, len(kernel), MAX_INPUTS)
    ]  # fmt: skip
    return reduce(opset13.add, parts)


def norm(layer, x: Node) -> Node:
    """Normalise the channels of each token. The means are convolutions: OpenVINO's own normalisation of tokens gives
    other last digits on a processor with AVX-512 that is limited to AVX2, or crashes."""
    channels = x.get_output_partial_shape(0)[2].get_length()
    kernel = constant(np.full((1, channels, 1, 1), 1 / channels))

    def mean(x: Node) -> Node:
        return opset13.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1])

    row = opset13.transpose(opset13.unsqueeze(x, _integers(1)), _integers(0, 3, 1, 2))
    deviation = opset13.subtract(row, mean(row))
    variance = mean(opset13.multiply(deviation, deviation))
    row = opset13.divide(deviation, opset13.sqrt(opset13.add(variance, constant([layer.epsilon]))))
    x = opset13.squeeze(opset13.transpose(row, _integers(0, 2, 3, 1)), _integers(1))
    if layer.scale:
        x = opset13.multiply(x, constant(array(layer.gamma)))
    return opset13.add(x, constant(array(layer.beta))) if layer.center else x


def _positions(layer, x: Node) -> Node:
    embedding = constant(array(layer.embedding).transpose(2, 0, 1)[None])
    size = opset13.gather(opset13.shape_of(x), _integers(2, 3), np.int64(0))
    mode, coefficient = ("bicubic_pillow", -0.5) if layer.antialias else ("cubic", CUBIC)
    resized = opset13.interpolate(
        embedding, size, mode, "sizes", axes=_integers(2, 3), coordinate_transformation_mode="half_pixel",
        cube_coeff=coefficient,
    )  # fmt: skip
    return opset13.add(x, resized)


def _tokens(layer, x: Node) -> Node:
    tokens = array(layer.tokens)
    patches = opset13.reshape(transposed(x, TO_KERAS), _integers(0, -1, tokens.shape[1]), special_zero=True)
    batch = opset13.gather(opset13.shape_of(x), _integers(0), np.int64(0))
    target = opset13.concat([batch, _integers(*tokens.shape)], axis=0)
    return opset13.concat([opset13.broadcast(constant(tokens[None]), target), patches], axis=1)


def _attention(layer, x: Node) -> Node:
    query, key, value = _by_head(x, 3, layer.heads)
    width = query.get_output_partial_shape(0)[3].get_length()
    if layer.theta:
        cosines, sines = _rotations(x, layer.prefix, width, layer.theta)
        query, key = (_rotated(part, layer.prefix, width, cosines, sines) for part in (query, key))
    scores = opset13.matmul(opset13.multiply(query, constant(width**-0.5)), key, False, True)
    mixed = opset13.matmul(opset13.softmax(scores, axis=3), value, False, False)
    return _joined(opset13.transpose(mixed, _integers(0, 2, 1, 3)), layer.heads * width)


def _by_head(x: Node, parts: int, heads: int) -> list[Node]:
    """Split (n, tokens, parts * channels) into `parts` of (n, heads, tokens, width)."""
    split = opset13.split(x, np.int64(2), parts).outputs()
    width = x.get_output_partial_shape(0)[2].get_length() // parts // heads
    shaped = (opset13.reshape(part, _integers(0, 0, heads, width), special_zero=True) for part in split)
    return [opset13.transpose(part, _integers(0, 2, 1, 3)) for part in shaped]


def _joined(x: Node, channels: int) -> Node:
    return opset13.reshape(x, _integers(0, 0, channels), special_zero=True)


def _rotations(x: Node, prefix: int, width: int, theta: float) -> tuple[Node, Node]:
    """Return the cosines and sines (patches, width) of `transformer_layers.rotations`, for tokens of any number."""
    side = opset13.convert(_side(x, prefix), "f32")
    steps = opset13.range(np.float32(0), side, np.float32(1), "f32")
    place = opset13.divide(opset13.add(steps, constant(0.5)), side)
    place = opset13.subtract(opset13.multiply(place, constant(2.0)), constant(1.0))
    frequencies = constant(2 * np.pi / theta ** np.arange(0, 1, 4 / width))
    angles = opset13.multiply(opset13.unsqueeze(place, _integers(1)), opset13.unsqueeze(frequencies, _integers(0)))
    length = opset13.unsqueeze(_side(x, prefix), _integers(0))
    target = opset13.concat([length, length, _integers(width // 4)], axis=0)
    rows = opset13.broadcast(opset13.unsqueeze(angles, _integers(1)), target)
    columns = opset13.broadcast(opset13.unsqueeze(angles, _integers(0)), target)
    angles = opset13.reshape(
        opset13.concat([rows, columns, rows, columns], axis=2), _integers(-1, width), special_zero=False
    )
    return opset13.cos(angles), opset13.sin(angles)


def _rotated(x: Node, prefix: int, width: int, cosines: Node, sines: Node) -> Node:
    """Rotate the patches among (n, heads, tokens, width)."""
    patches = _sliced(x, prefix, None, axis=2)
    first, second = _sliced(patches, 0, width // 2, axis=3), _sliced(patches, width // 2, None, axis=3)
    swapped = opset13.concat([opset13.multiply(second, constant(-1.0)), first], axis=3)
    patches = opset13.add(opset13.multiply(patches, cosines), opset13.multiply(swapped, sines))
    return opset13.concat([_sliced(x, 0, prefix, axis=2), patches], axis=2) if prefix else patches


def _sliced(x: Node, start: int, end: int | None, axis: int) -> Node:
    end = np.iinfo(np.int64).max if end is None else end
    return opset13.slice(x, _integers(start), _integers(end), _integers(1), _integers(axis))


def _side(x: Node, prefix: int) -> Node:
    """Return the side of the grid of patches, a scalar int64, of tokens (n, tokens, channels)."""
    tokens = opset13.squeeze(opset13.gather(opset13.shape_of(x), _integers(1), np.int64(0)), _integers(0))
    patches = opset13.subtract(tokens, opset13.constant(np.int64(prefix)))
    side = opset13.round(opset13.sqrt(opset13.convert(patches, "f32")), "half_to_even")
    return opset13.convert(side, "i64")


def _attention_pooling(layer, x: Node) -> Node:
    key, value = _by_head(x, 2, layer.heads)
    query = array(layer.query).reshape(1, layer.heads, 1, -1)
    scores = opset13.matmul(constant(query * query.shape[3] ** -0.5), key, False, True)
    mixed = opset13.matmul(opset13.softmax(scores, axis=3), value, False, False)
    return opset13.reshape(mixed, _integers(0, query.size), special_zero=True)


def _pooling(layer, x: Node) -> Node:
    patches, class_token = _sliced(x, layer.prefix, None, axis=1), opset13.gather(x, np.int64(0), np.int64(1))
    if layer.kind is None:
        side = opset13.unsqueeze(_side(x, layer.prefix), _integers(0))
        channels = x.get_output_partial_shape(0)[2].get_length()
        target = opset13.concat([_integers(0), side, side, _integers(channels)], axis=0)
        return transposed(opset13.reshape(patches, target, special_zero=True), TO_OPENVINO)
    if layer.kind == "max":
        return opset13.reduce_max(patches, _integers(1))
    if layer.kind == "cls":
        return class_token
    mean = opset13.reduce_mean(patches, _integers(1))
    return opset13.concat([class_token, mean], axis=1) if layer.kind == "cls_avg" else mean


def _integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CONVERTERS: dict[str, Callable] = {
    "AttentionPooling": _attention_pooling,
    "PositionEmbedding": _positions,
    "SelfAttention": _attention,
    "TokenPooling": _pooling,
    "Tokens": _tokens,
}
