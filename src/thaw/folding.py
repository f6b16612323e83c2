"""The thawed layers as training computes them on a CPU: the same function of the same variables, in less time.

A batch normalisation that keeps its statistics is a factor and a shift for each channel. Folded into the convolution
before it, it costs nothing for each pixel, forwards or backwards, and TensorFlow fuses convolution, shift and
activation into one pass over memory. Besides, two gradients of kernels are put in the form that TensorFlow is quick at,
and those of 1x1 convolutions, most of the work, may be multiplied in a shorter type.
"""

from thaw.keras import keras
from thaw.tensorflow import tf

Convolution = keras.layers.Conv2D | keras.layers.DepthwiseConv2D


def folded(part: keras.Model, gradients: str = "float32") -> keras.Model:
    """Return what computes `part`, a functional model, in inference mode, from its own variables.

    gradients float32 or bfloat16: the type in which those of 1x1 convolutions are multiplied; sums stay float32.
    """
    pairs = {
        step.name: convolution
        for step in part.operations
        if isinstance(step, keras.layers.BatchNormalization) and (convolution := _convolution_before(step, part))
    }
    absorbed = {convolution.name for convolution in pairs.values()}

    def call(step: keras.Operation, *inputs, **options):
        if step.name in absorbed:
            return inputs[0]
        if step.name in pairs:
            return _Folded(pairs[step.name], step, gradients)(*inputs)
        return step(*inputs, **options)

    return keras.models.clone_model(part, clone_function=lambda layer: layer, call_function=call)


def _convolution_before(norm: keras.layers.BatchNormalization, part: keras.Model) -> Convolution | None:
    """Return the layer that a normalisation can be folded into: a plain convolution that nothing else reads."""
    layer = norm.input._keras_history.operation
    inside = [step for step in part.operations if step is layer]
    read = [tensor for step in part.operations if step is not layer for tensor in keras.tree.flatten(step.input)]
    alone = sum(tensor is norm.input for tensor in (*read, *part.outputs)) == 1
    if not (inside and alone and type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        return None
    plain = layer.activation is keras.activations.linear and layer.dilation_rate == (1, 1)
    whole = getattr(layer, "groups", 1) == 1 and layer.strides[0] == layer.strides[1]
    return layer if plain and whole and layer.data_format == "channels_last" and norm.axis in (-1, 3) else None


class _Folded(keras.layers.Layer):
    """A convolution and the batch normalisation behind it; both keep their variables."""

    def __init__(self, convolution: Convolution, norm: keras.layers.BatchNormalization, gradients: str):
        super().__init__()
        self.convolution, self.norm, self.gradients = convolution, norm, gradients

    def compute_output_spec(self, x):
        return self.convolution.compute_output_spec(x)

    def call(self, x):
        layer, norm = self.convolution, self.norm
        factor = tf.math.rsqrt(norm.moving_variance + norm.epsilon)
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
    """A 1x1 convolution. The gradient of its kernel is a matrix product: as that of a convolution, TensorFlow would
    compute it together with the bias', in up to twice the time. In bfloat16, that of its input is one, too."""

    @tf.custom_gradient
    def convolve(x, kernel):
        def of_both(upstream):
            inputs, outputs = (tf.cast(tf.reshape(t, (-1, t.shape[-1])), gradients) for t in (x, upstream))
            of_kernel = tf.reshape(tf.matmul(inputs, outputs, transpose_a=True), kernel.shape)
            if gradients == "float32":
                return tf.nn.conv2d_transpose(upstream, kernel, tf.shape(x), 1), of_kernel
            of_x = tf.matmul(outputs, tf.cast(kernel[0, 0], gradients), transpose_b=True)
            return tf.cast(tf.reshape(of_x, tf.shape(x)), tf.float32), tf.cast(of_kernel, tf.float32)

        return tf.nn.conv2d(x, kernel, 1, "SAME"), of_both

    return convolve(x, kernel)


def _depthwise(x, kernel, stride: int, padding: str):
    """A depthwise convolution. With its padding in numbers, the gradient of a kernel of 5x5 and more is Eigen's on a
    CPU, which takes half as long as oneDNN's."""
    strides = [1, stride, stride, 1]
    if max(kernel.shape[:2]) < 5 or padding == "VALID" or tf.config.list_physical_devices("GPU"):
        return tf.nn.depthwise_conv2d(x, kernel, strides, padding)
    rows, columns = (_same(x.shape[axis], kernel.shape[axis - 1], stride) for axis in (1, 2))

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradients(upstream):
            of_x = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=strides, padding=padding
            )
            of_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=x, filter_sizes=kernel.shape, out_backprop=upstream, strides=strides,
                padding="EXPLICIT", explicit_paddings=[0, 0, *rows, *columns, 0, 0],
            )  # fmt: skip
            return of_x, of_kernel

        return tf.nn.depthwise_conv2d(x, kernel, strides, padding), gradients

    return convolve(x, kernel)


def _same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many rows TensorFlow's padding SAME adds before and behind."""
    total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    return total // 2, total - total // 2
