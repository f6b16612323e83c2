"""The networks of keras.applications up to their last map or to their classes, with their pre-processing as layers.

The ImageNet weights are downloaded by Keras, or lie in its folder already.
"""

import os
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.backbones.base import Family, InputSize
from thaw.backbones.cut_points import blocks_of
from thaw.core.errors import ThawError

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras

# Of ImageNet's training images: in 0-1 and RGB, as torchvision has them; in 0-255 and BGR, as Caffe had them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)

SCALINGS = {  # scale and offset of each channel
    "tf": (1 / 127.5, -1.0),
    "torch": ([1 / 255 / d for d in DEVIATION], [-m / d for m, d in zip(MEAN, DEVIATION, strict=True)]),
    "caffe": (1.0, [-m for m in CAFFE_MEAN]),
}

# Every functional model: the sizes of its images as its sources have them, and the scaling of their pixels. A model
# with the scaling `inside` scales them itself.
MODELS = {
    "ConvNeXtTiny": (InputSize(224, 32), "inside"),
    "ConvNeXtSmall": (InputSize(224, 32), "inside"),
    "ConvNeXtBase": (InputSize(224, 32), "inside"),
    "ConvNeXtLarge": (InputSize(224, 32), "inside"),
    "ConvNeXtXLarge": (InputSize(224, 32), "inside"),
    "DenseNet121": (InputSize(224, 32), "torch"),
    "DenseNet169": (InputSize(224, 32), "torch"),
    "DenseNet201": (InputSize(224, 32), "torch"),
    "EfficientNetB0": (InputSize(224, 32), "inside"),
    "EfficientNetB1": (InputSize(240, 32), "inside"),
    "EfficientNetB2": (InputSize(260, 32), "inside"),
    "EfficientNetB3": (InputSize(300, 32), "inside"),
    "EfficientNetB4": (InputSize(380, 32), "inside"),
    "EfficientNetB5": (InputSize(456, 32), "inside"),
    "EfficientNetB6": (InputSize(528, 32), "inside"),
    "EfficientNetB7": (InputSize(600, 32), "inside"),
    "EfficientNetV2B0": (InputSize(224, 32), "inside"),
    "EfficientNetV2B1": (InputSize(240, 32), "inside"),
    "EfficientNetV2B2": (InputSize(260, 32), "inside"),
    "EfficientNetV2B3": (InputSize(300, 32), "inside"),
    "EfficientNetV2S": (InputSize(384, 32), "inside"),
    "EfficientNetV2M": (InputSize(480, 32), "inside"),
    "EfficientNetV2L": (InputSize(480, 32), "inside"),
    "InceptionResNetV2": (InputSize(299, 75), "tf"),
    "InceptionV3": (InputSize(299, 75), "tf"),
    "MobileNet": (InputSize(224, 32), "tf"),
    "MobileNetV2": (InputSize(224, 32), "tf"),
    "MobileNetV3Large": (InputSize(224, 32), "inside"),
    "MobileNetV3Small": (InputSize(224, 32), "inside"),
    "NASNetLarge": (InputSize(331, 32), "tf"),
    "NASNetMobile": (InputSize(224, 32), "tf"),
    "ResNet50": (InputSize(224, 32), "caffe"),
    "ResNet101": (InputSize(224, 32), "caffe"),
    "ResNet152": (InputSize(224, 32), "caffe"),
    "ResNet50V2": (InputSize(224, 32), "tf"),
    "ResNet101V2": (InputSize(224, 32), "tf"),
    "ResNet152V2": (InputSize(224, 32), "tf"),
    "VGG16": (InputSize(224, 32), "caffe"),
    "VGG19": (InputSize(224, 32), "caffe"),
    "Xception": (InputSize(299, 71), "tf"),
}
FLATTENED = ("VGG16", "VGG19")  # their top reads each position of the last map by itself: it needs the trained size


def build(name: str, imagenet: bool, top: bool = False) -> "keras.Model":
    """Return a network up to its last map, or with its top, the layers behind it that make its 1000 classes.

    It takes images of any size, except for the top of a network of FLATTENED. Random weights come from Keras' global
    generator. Some networks depend on the size while they are built: where the padding goes, whether a branch is
    halved. So each is built for the size that it was trained on, and its layers are then applied to an input of any
    size. Raises ThawError if the ImageNet weights cannot be loaded.
    """
    from thaw.engines.keras_setup import keras

    (size, *_), scaling = MODELS[name]
    image = keras.Input((size, size, 3), name="image")
    pixels = preprocess(image, scaling)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MobileNet warns about sizes that it has no own weights for
            network = getattr(keras.applications, name)(
                include_top=top, weights="imagenet" if imagenet else None, input_tensor=pixels
            )
    except Exception as error:  # Keras raises a plain Exception if a download fails
        raise ThawError(_unreachable(name, str(error))) from error
    network = keras.Model(image, network.output, name=name)  # some come with a list of one input
    shape = image.shape[1:] if top and name in FLATTENED else (None, None, 3)
    free_network = keras.models.clone_model(
        network, keras.Input(shape, name="image"), call_function=_call_with_named_sums
    )
    for layer in network.layers:
        _set_weights(free_network.get_layer(layer.name), layer.get_weights())
    return free_network


def preprocess(image, scaling: str):
    """Return the pixels that a network needs, from `image`, a Keras tensor of (n, h, w, 3) RGB pixels 0-255.

    The arithmetic is that of the network's `preprocess_input` in keras.applications.
    """
    from thaw.engines.keras_setup import keras

    if scaling == "inside":
        return image
    if scaling == "caffe":
        image = keras.ops.flip(image, axis=-1)  # to BGR
    scale, offset = SCALINGS[scaling]
    return keras.layers.Rescaling(scale, offset, name="preprocess")(image)


def _call_with_named_sums(step: "keras.Operation", *tensors, **options):
    """Call a step of a network. The bare sums at the end of ConvNeXt's blocks become layers, so they can be cut at."""
    from thaw.engines.keras_internals import producer
    from thaw.engines.keras_setup import keras

    bare_sum = type(step).__name__ == "Add" and not isinstance(step, keras.Layer)
    if bare_sum and all(isinstance(tensor, keras.KerasTensor) for tensor in tensors):
        block = blocks_of(producer(tensors[1]).name)[0]
        return keras.layers.Add(name=f"{block}_add")(tensors)
    return step(*tensors, **options)


def _unreachable(name: str, message: str) -> str:
    address = next((word.rstrip(":") for word in message.split() if word.startswith("https://")), None)
    if address is None:
        return f"the ImageNet weights of {name} could not be loaded: {' '.join(message.split())}"
    own = os.path.expanduser("~")  # noqa: PTH111 - as Keras does it, where there is no home, too
    home = Path(os.environ.get("KERAS_HOME") or Path(own if os.access(own, os.W_OK) else "/tmp", ".keras"))
    path = home / "models" / address.rpartition("/")[2]
    reason = message.rpartition("-- ")[2].strip() or "no answer"
    return (
        f"the ImageNet weights of {name} were not reached at {address} ({reason}): put that file at {path}, run "
        f"`dvc pull` if a teammate pushed models/backbone, or set backbone.weights to a file or to null"
    )


def _normalise_as_keras(network: "keras.Model") -> None:
    """Keras divides the input of an EfficientNet by the root of the deviation once more, but only if it loads the
    ImageNet weights itself.

    The statistics in a file show whether its weights are these. Fresh statistics are all 1, and in a network that was
    built here they include the division.
    """
    import numpy as np

    from thaw.engines.keras_setup import keras

    if not network.name.startswith("EfficientNetB"):
        return
    layer = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, count = layer.get_weights()
    if np.allclose(variance, np.square(DEVIATION), rtol=1e-2):
        _set_weights(layer, [mean, variance * DEVIATION, count])


def _set_weights(layer: "keras.Layer", values: list) -> None:
    from thaw.engines.keras_setup import keras

    layer.set_weights(values)
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()  # it computes with a copy of its weights


FAMILY = Family(
    name="keras.applications",
    input_sizes={name: input_size for name, (input_size, _) in MODELS.items()},
    build=build,
    build_with_top=partial(build, top=True),
    after_loading=_normalise_as_keras,
)
