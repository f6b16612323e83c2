"""The thawed layers as training computes them on a CPU: the same function of the same variables, in less time.

A batch normalisation that keeps its statistics is a factor and a shift for each channel. If it is folded into the
convolution before it, it costs nothing per pixel, forwards or backwards. TensorFlow then fuses convolution, shift and
activation into one pass over memory. Two gradients of kernels are also written in the form that TensorFlow computes
fastest. Those of 1x1 convolutions, most of the work, may be multiplied in bfloat16.
"""

from thaw.engines.keras_internals import producer
from thaw.engines.keras_setup import keras
from thaw.engines.tensorflow_setup import inverse_root, tf

Convolution = keras.layers.Conv2D | keras.layers.DepthwiseConv2D


def folded(part: keras.Model, gradients: str = "float32") -> keras.Model:
    """Return a model that computes `part`, a functional model, in inference mode, with the same variables.

    gradients float32 or bfloat16: the type in which gradients of 1x1 convolutions are multiplied; sums stay float32.
    """
    convolutions = {
        step.name: convolution
        for step in part.operations
        if isinstance(step, keras.layers.BatchNormalization) and (convolution := _convolution_before(step, part))
    }
    absorbed = {convolution.name for convolution in convolutions.values()}

    def call(step: keras.Operation, *inputs, **options):
        if step.name in absorbed:
            return inputs[0]
        if step.name in convolutions:
            return _Folded(convolutions[step.name], step, gradients)(*inputs)
        return step(*inputs, **options)

    return keras.models.clone_model(part, clone_function=lambda layer: layer, call_function=call)


def _convolution_before(norm: keras.layers.BatchNormalization, part: keras.Model) -> Convolution | None:
    """Return the convolution that a normalisation can be folded into: one of a plain kind that nothing else reads."""
    layer = producer(norm.input)
    is_inside = any(step is layer for step in part.operations)
    inputs = [tensor for step in part.operations if step is not layer for tensor in keras.tree.flatten(step.input)]
    is_read_once = sum(tensor is norm.input for tensor in (*inputs, *part.outputs)) == 1
    if not (is_inside and is_read_once and type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        return None
    is_linear = layer.activation is keras.activations.linear and layer.dilation_rate == (1, 1)
    is_square = layer.strides[0] == layer.strides[1] and getattr(layer, "groups", 1) == 1
    is_by_channel = layer.data_format == "channels_last" and norm.axis in (-1, 3)
    return layer if is_linear and is_square and is_by_channel else None


class _Folded(keras.layers.Layer):
    """A convolution and the batch normalisation behind it; both keep their variables."""

    def __init__(self, convolution: Convolution, norm: keras.layers.BatchNormalization, gradients: str):
        super().__init__()
        self.convolution, self.norm, self.gradients = convolution, norm, gradients

    def compute_output_spec(self, x):
        return self.convolution.compute_output_spec(x)

    def call(self, x):
        layer, norm = self.convolution, self.norm
        factor = inverse_root(norm.moving_variance + norm.epsilon)
        if norm.scale:
            factor *= norm.gamma
        shift = ((layer.bias if layer.use_bias else 0) - norm.moving_mean) * factor
        if norm.center:
            shift += norm.beta
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel = layer.kernel * tf.reshape(factor, layer.kernel.shape[2:])
            filtered = _depthwise(x, kernel, layer.strides[0], layer.padding.upper())
        elif layer.kernel_size == (1, 1) and layer.strides == (1, 1):
            filtered = _pointwise(x, layer.kernel * factor, self.gradients)
        else:
            filtered = tf.nn.conv2d(x, layer.kernel * factor, layer.strides, layer.padding.upper())
        return tf.nn.bias_add(filtered, shift)


def _pointwise(x, kernel, gradients: str):
    """Compute a 1x1 convolution.

    The gradient of its kernel is written as a matrix product. As the gradient of a convolution, TensorFlow would
    compute it together with that of the bias, in up to twice the time. In bfloat16, the gradient of the input is a
    matrix product too.
    """

    @tf.custom_gradient
    def convolve(x, kernel):
        def backward(upstream):
            inputs, outputs = (tf.cast(tf.reshape(t, (-1, t.shape[-1])), gradients) for t in (x, upstream))
            d_kernel = tf.reshape(tf.matmul(inputs, outputs, transpose_a=True), kernel.shape)
            if gradients == "float32":
                return tf.nn.conv2d_transpose(upstream, kernel, tf.shape(x), 1), d_kernel
            d_x = tf.matmul(outputs, tf.cast(kernel[0, 0], gradients), transpose_b=True)
            return tf.cast(tf.reshape(d_x, tf.shape(x)), tf.float32), tf.cast(d_kernel, tf.float32)

        return tf.nn.conv2d(x, kernel, 1, "SAME"), backward

    return convolve(x, kernel)


def _depthwise(x, kernel, stride: int, padding: str):
    """Compute a depthwise convolution.

    If the padding is given in numbers, TensorFlow computes the gradient of the kernel with Eigen. On a CPU, for
    kernels of 5x5 and more, this takes half as long as with oneDNN.
    """
    strides = [1, stride, stride, 1]
    if max(kernel.shape[:2]) < 5 or padding == "VALID" or tf.config.list_physical_devices("GPU"):
        return tf.nn.depthwise_conv2d(x, kernel, strides, padding)
    rows, columns = (_same(x.shape[axis], kernel.shape[axis - 1], stride) for axis in (1, 2))

    @tf.custom_gradient
    def convolve(x, kernel):
        def backward(upstream):
            d_x = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=strides, padding=padding
            )
            d_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=x, filter_sizes=kernel.shape, out_backprop=upstream, strides=strides,
                padding="EXPLICIT", explicit_paddings=[0, 0, *rows, *columns, 0, 0],
            )  # fmt: skip
            return d_x, d_kernel

        return tf.nn.depthwise_conv2d(x, kernel, strides, padding), backward

    return convolve(x, kernel)


def _same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many rows TensorFlow's padding `SAME` adds before and after."""
    total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    return total // 2, total - total // 2
