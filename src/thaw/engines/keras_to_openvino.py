"""Convert a Keras network to an OpenVINO model, layer by layer, with any backend of Keras.

Between the layers, maps have their channels before height and width, as OpenVINO expects them. Inputs and outputs keep
the order of Keras.

Other converters were measured, on 2 cores. OpenVINO's own needs TensorFlow: to import it and to trace the network takes
longer than the features of a thousand images. Keras' own, `model.export(format="openvino")` of Keras 3.15.1 with the
backend OpenVINO, needs no TensorFlow. It fails for images of any size, and for a Rescaling layer. With a fixed size and
Keras patched, it takes about as long (0.2 to 1.7 s), and its outputs differ from these by at most 1e-6 of the largest.
But it loses the names of inputs and outputs, and its networks are slower, since they transpose the maps at each layer:
an image takes 2.3 to 2.8 times as long with EfficientNetLite0, 3.3 with MobileNetV2, 1.6 with ResNet50, 1.3 with
ConvNeXtTiny.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import numpy as np

from thaw.core.errors import ThawError
from thaw.engines import tokens_to_openvino
from thaw.engines.keras_internals import as_functional, run_graph
from thaw.engines.keras_setup import keras
from thaw.engines.openvino_nodes import (
    TO_KERAS,
    TO_OPENVINO,
    Values,
    array,
    channel_axis,
    channels,
    constant,
    is_map,
    is_tokens,
    transposed,
)  # fmt: skip
from thaw.engines.openvino_setup import ov

Model, Node, opset1, opset13 = ov.Model, ov.Node, ov.opset1, ov.opset13


def convert(model: keras.Model) -> Model:
    """Return an OpenVINO model that computes a functional Keras model in inference mode, in float32.

    Inputs and outputs have the shapes and names that they have in Keras: (n, h, w, channels) for an image, and the keys
    of a dictionary of outputs. OpenVINO's own names are replaced, since they count what the process made before.
    Raises ThawError for a kind of layer that cannot be converted.
    """
    inputs = [opset13.parameter([-1 if side is None else side for side in x.shape], np.float32) for x in model.inputs]
    tensors = [transposed(x, TO_OPENVINO) if is_map(x) else x for x in inputs]
    results = run_graph(model, keras.tree.pack_sequence_as(model.input, tensors), _convert)
    named = results if isinstance(results, dict) else {model.output_names[0]: results}
    outputs = {name: transposed(x, TO_KERAS) if is_map(x) else x for name, x in named.items()}
    network = Model(list(outputs.values()), inputs, model.name)
    names = [x.name for x in model.inputs] + list(outputs)
    ends = [end.get_tensor() for end in network.inputs + network.outputs]
    for end in ends:
        end.set_names(set())
    for name, end in zip(names, ends, strict=True):
        end.add_names({name})  # two outputs may be one tensor
    for number, step in enumerate(network.get_ordered_ops()):
        step.set_friendly_name(f"{step.get_type_name()}_{number}")
    return network


def _convert(step: keras.Operation, *inputs, **options) -> Node:
    if isinstance(step, keras.Sequential):
        step = as_functional(step)
    if isinstance(step, keras.Model):
        return run_graph(step, *inputs, _convert)
    kind = type(step).__name__
    if kind not in CONVERTERS:
        raise ThawError(f"layer {step.name} is a {kind}, which cannot be converted for OpenVINO")
    axes, rank = {*np.ravel(getattr(step, "axis", -1))}, len(step.output.shape)
    if getattr(step, "data_format", "channels_last") != "channels_last" or not axes <= {-1, rank - 1}:
        raise ThawError(f"layer {step.name} has its channels not in the last axis: it cannot be converted for OpenVINO")
    if rank not in (2, 3, 4):
        kinds = "features, tokens nor maps"
        raise ThawError(f"layer {step.name} returns neither {kinds}: it cannot be converted for OpenVINO")
    return CONVERTERS[kind](step, *keras.tree.flatten(inputs))


def _same(step, x: Node) -> Node:
    return x


def _sum(step, *inputs) -> Node:
    return _combined(opset13.add, inputs)


def _product(step, *inputs) -> Node:
    return _combined(opset13.multiply, inputs)


def _combined(operation: Callable, inputs: Sequence[Node | Values | float]) -> Node:
    """Apply an operation to the first two inputs, then to the result and the third, and so on."""
    node = next(x for x in inputs if isinstance(x, Node))
    return reduce(operation, (x if isinstance(x, Node) else channels(x, node) for x in inputs))


def _concatenation(step, *inputs: Node) -> Node:
    return opset13.concat(list(inputs), axis=channel_axis(inputs[0]))


def _flip(step, x: Node) -> Node:
    axis = channel_axis(x)
    count = x.get_output_partial_shape(0)[axis].get_length()
    return opset13.gather(x, np.arange(count)[::-1], np.int64(axis))


def _convolution(layer, x: Node) -> Node:
    kernel = array(layer.kernel).transpose(3, 2, 0, 1)
    if layer.groups > 1:
        kernel = kernel.reshape(layer.groups, -1, *kernel.shape[1:])
    return _with_bias_and_activation(layer, _filter(layer, x, kernel))


def _depthwise(layer, x: Node) -> Node:
    return _with_bias_and_activation(layer, _filter(layer, x, _depthwise_kernel(layer.kernel)))


def _separable(layer, x: Node) -> Node:
    x = _filter(layer, x, _depthwise_kernel(layer.depthwise_kernel))
    kernel = constant(array(layer.pointwise_kernel).transpose(3, 2, 0, 1))
    return _with_bias_and_activation(layer, opset13.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1]))


def _depthwise_kernel(kernel) -> np.ndarray:
    """Return Keras' (h, w, channels, multiplier) as (channels, multiplier, 1, h, w): a group for each channel."""
    return array(kernel).transpose(2, 3, 0, 1)[:, :, None]


def _filter(layer, x: Node, kernel: np.ndarray) -> Node:
    """Filter with a kernel (out, in, h, w), or (groups, out, in, h, w)."""
    convolution = opset13.convolution if kernel.ndim == 4 else opset13.group_convolution
    strides, dilations, padding = list(layer.strides), list(layer.dilation_rate), _padding(layer)
    return convolution(x, constant(kernel), strides, [0, 0], [0, 0], dilations, padding)


def _dense(layer, x: Node) -> Node:
    if is_tokens(x):
        return _with_bias_and_activation(layer, tokens_to_openvino.product(x, array(layer.kernel)))
    kernel = constant(array(layer.kernel).T[:, :, None, None])

    def dense(x: Node) -> Node:
        return _with_bias_and_activation(layer, opset13.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1]))

    return _on_a_map(dense, x)


def _on_a_map(operation: Callable[[Node], Node], x: Node) -> Node:
    """Apply an operation on maps; features are maps of one point meanwhile.

    On features, OpenVINO's matrix product adds in an order that the sizes of the processor's caches decide, and its
    normalisation crashes on a processor with AVX-512 that is limited to AVX2 (2026.4, features not a multiple of 16).
    """
    return operation(x) if is_map(x) else opset13.squeeze(operation(opset13.unsqueeze(x, [2, 3])), [2, 3])


def _with_bias_and_activation(layer, x: Node) -> Node:
    """Add a layer's bias and apply its activation."""
    if layer.use_bias:
        x = opset13.add(x, channels(array(layer.bias), x))
    return _activation(layer, x)


def _activation(layer, x: Node) -> Node:
    name = layer.activation.__name__
    if name not in ACTIVATIONS:
        raise ThawError(f"the activation {name} of layer {layer.name} cannot be converted for OpenVINO")
    return ACTIVATIONS[name](x)


def _relu(layer, x: Node) -> Node:
    if layer.negative_slope or layer.threshold:
        raise ThawError(f"layer {layer.name}: a ReLU with a slope or a threshold cannot be converted for OpenVINO")
    return opset13.relu(x) if layer.max_value is None else opset13.clamp(x, 0.0, float(layer.max_value))


def _pad(layer, x: Node) -> Node:
    (top, bottom), (left, right) = layer.padding
    return opset13.pad(x, [0, 0, top, left], [0, 0, bottom, right], "constant", np.float32(0))


def _crop(layer, x: Node) -> Node:
    (top, bottom), (left, right) = layer.cropping
    end = [-rows or np.iinfo(np.int64).max for rows in (bottom, right)]
    return opset13.slice(x, [top, left], end, [1, 1], [2, 3])


def _maximum(layer, x: Node) -> Node:
    strides, size = list(layer.strides), list(layer.pool_size)
    return opset1.max_pool(x, strides, [0, 0], [0, 0], size, auto_pad=_padding(layer))


def _average(layer, x: Node) -> Node:
    strides, size = list(layer.strides), list(layer.pool_size)
    return opset13.avg_pool(x, strides, [0, 0], [0, 0], size, exclude_pad=True, auto_pad=_padding(layer))


def _padding(layer) -> str:
    return {"same": "same_upper", "valid": "valid"}[layer.padding]


def _global_average(layer, x: Node) -> Node:
    return opset13.reduce_mean(x, np.array([2, 3]), keep_dims=layer.keepdims)


def _global_maximum(layer, x: Node) -> Node:
    return opset13.reduce_max(x, np.array([2, 3]), keep_dims=layer.keepdims)


def _batch_norm(layer, x: Node) -> Node:
    factor = 1 / np.sqrt(array(layer.moving_variance) + np.float32(layer.epsilon))
    if layer.scale:
        factor *= array(layer.gamma)
    shift = -array(layer.moving_mean) * factor
    if layer.center:
        shift += array(layer.beta)
    return opset13.add(opset13.multiply(x, channels(factor, x)), channels(shift, x))


def _layer_norm(layer, x: Node) -> Node:
    if is_tokens(x):
        return tokens_to_openvino.norm(layer, x)

    def norm(x: Node) -> Node:
        x = opset13.mvn(x, np.array([1]), True, layer.epsilon, "inside_sqrt")
        if layer.scale:
            x = opset13.multiply(x, channels(array(layer.gamma), x))
        return opset13.add(x, channels(array(layer.beta), x)) if layer.center else x

    return _on_a_map(norm, x)


def _normalization(layer, x: Node) -> Node:
    if layer.invert:
        raise ThawError(f"layer {layer.name}: an inverted Normalization cannot be converted for OpenVINO")
    deviation = np.maximum(np.sqrt(array(layer.variance)), np.float32(keras.config.epsilon()))
    x = opset13.subtract(x, channels(array(layer.mean), x))
    return opset13.divide(x, channels(deviation, x))


def _rescaling(layer, x: Node) -> Node:
    return opset13.add(opset13.multiply(x, channels(layer.scale, x)), channels(layer.offset, x))


def _layer_scale(layer, x: Node) -> Node:
    """A layer of ConvNeXt's."""
    return opset13.multiply(x, channels(array(layer.gamma), x))


def _scaled_sum(layer, x: Node, y: Node) -> Node:
    """A layer of Inception-ResNet's."""
    return opset13.add(x, opset13.multiply(y, constant(layer.scale)))


def _reshape(layer, x: Node) -> Node:
    target = list(layer.target_shape)
    if len(target) == 3 and target[:2] == [1, 1] and not is_map(x):
        return opset13.reshape(x, [0, target[2], 1, 1], special_zero=True)
    x = opset13.reshape(transposed(x, TO_KERAS) if is_map(x) else x, [0, *target], special_zero=True)
    return transposed(x, TO_OPENVINO) if len(target) == 3 else x


def _flatten(layer, x: Node) -> Node:
    return opset13.reshape(transposed(x, TO_KERAS) if is_map(x) else x, [0, -1], special_zero=True)


CONVERTERS: dict[str, Callable] = {
    "Activation": _activation,
    "Add": _sum,
    "AveragePooling2D": _average,
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenation,
    "Conv2D": _convolution,
    "Cropping2D": _crop,
    "CustomScaleLayer": _scaled_sum,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Dropout": _same,
    "Flatten": _flatten,
    "Flip": _flip,
    "GlobalAveragePooling2D": _global_average,
    "GlobalMaxPooling2D": _global_maximum,
    "Identity": _same,
    "LayerNormalization": _layer_norm,
    "LayerScale": _layer_scale,
    "MaxPooling2D": _maximum,
    "Multiply": _product,
    "Normalization": _normalization,
    "OpenVINONetwork": lambda layer, x: layer.splice(x),
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "SeparableConv2D": _separable,
    "ZeroPadding2D": _pad,
    **tokens_to_openvino.CONVERTERS,
}
ACTIVATIONS: dict[str, Callable[[Node], Node]] = {
    "gelu": partial(opset13.gelu, approximation_mode="erf"),
    "gelu_tanh": partial(opset13.gelu, approximation_mode="tanh"),
    "hard_sigmoid": opset13.hsigmoid,
    "hard_silu": opset13.hswish,
    "linear": lambda x: x,
    "relu": opset13.relu,
    "relu6": lambda x: opset13.clamp(x, 0.0, 6.0),
    "sigmoid": opset13.sigmoid,
    "silu": opset13.swish,
    "softmax": lambda x: opset13.softmax(x, axis=channel_axis(x)),
    "tanh": opset13.tanh,
}
