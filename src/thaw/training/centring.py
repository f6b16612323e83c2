"""Centred gradients: no step of the optimizer moves all inputs of an output in the same direction.

Behind a ReLU all inputs of a kernel are positive. If all weights of one output rise together, it rises by their sum: a
step of 5e-4 on 1,152 weights moves it as far as the signal itself. Adam makes such steps, because it scales small
gradients up. Batch normalisation would take the shift back, but its statistics are frozen here. So the mean over the
inputs is taken out of each gradient (gradient centralization, Yong et al. 2020, arXiv 2004.01461).
"""

from thaw.engines.keras_setup import keras
from thaw.engines.tensorflow_setup import tf


def centre(gradient: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """Return a gradient without its mean over `axes`; with none, the gradient itself."""
    return gradient - tf.reduce_mean(gradient, axes, keepdims=True) if axes else gradient


def input_axes(layers: list[keras.layers.Layer]) -> dict[str, tuple[int, ...]]:
    """Return the axes of each kernel of the layers that run over the inputs of one output, by the variable's path.

    They are all axes but the last. A depthwise kernel, (height, width, channels, multiplier), has a channel for each
    output, so they are height and width. Variables that are no kernels have none.
    """
    axes = {}
    for layer in layers:
        depthwise = getattr(layer, "depthwise_kernel", None)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            depthwise = layer.kernel
        for variable in layer.trainable_variables:
            count = len(variable.shape) if is_kernel(variable) else 0
            axes[variable.path] = tuple(range(count - (2 if variable is depthwise else 1)))
    return axes


def is_kernel(variable: keras.Variable) -> bool:
    """Return whether a variable multiplies inputs: it is no bias, scale, token or position."""
    return variable.name.endswith("kernel")
