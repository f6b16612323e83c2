"""The pre-processing of each family of backbones, as layers inside the model: RGB pixels 0-255 in.

The same arithmetic as `preprocess_input` of the family in keras.applications. `inside` families bring their own.
"""

from thaw.keras import keras

# Of ImageNet's training photographs: in 0-1 and RGB, as torchvision has them; in 0-255 and BGR, as Caffe had them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)

SCALINGS = {  # scale and offset of each channel
    "lite": (1 / 128, -127 / 128),
    "tf": (1 / 127.5, -1.0),
    "torch": ([1 / 255 / d for d in DEVIATION], [-m / d for m, d in zip(MEAN, DEVIATION, strict=True)]),
    "caffe": (1.0, [-m for m in CAFFE_MEAN]),
}


def preprocess(image, scaling: str):
    """Return what a family's first convolution wants of `image`, a Keras tensor of (n, h, w, 3) RGB pixels 0-255."""
    if scaling == "inside":
        return image
    if scaling == "caffe":
        image = keras.ops.flip(image, axis=-1)  # to BGR
    scale, offset = SCALINGS[scaling]
    return keras.layers.Rescaling(scale, offset, name="preprocess")(image)
