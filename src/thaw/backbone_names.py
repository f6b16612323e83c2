"""The backbones by name and what each wants of its image; without TensorFlow, since every stage checks params.yaml."""

from typing import NamedTuple

FEATURES = "features"  # the layer whose output is the embedding, the last cut point of every backbone


class Input(NamedTuple):
    size: int  # pixels of the side that it was trained on
    least: int  # pixels below which its last map would vanish
    scaling: str  # of the pixels: a key of `thaw.backbones.preprocessing.SCALINGS`


LITE = {f"EfficientNetLite{number}": Input(size, 32, "lite") for number, size in enumerate((224, 240, 260))}

# Of keras.applications, every functional model; sizes as its sources have them.
KERAS = {
    "ConvNeXtTiny": Input(224, 32, "inside"),
    "ConvNeXtSmall": Input(224, 32, "inside"),
    "ConvNeXtBase": Input(224, 32, "inside"),
    "ConvNeXtLarge": Input(224, 32, "inside"),
    "ConvNeXtXLarge": Input(224, 32, "inside"),
    "DenseNet121": Input(224, 32, "torch"),
    "DenseNet169": Input(224, 32, "torch"),
    "DenseNet201": Input(224, 32, "torch"),
    "EfficientNetB0": Input(224, 32, "inside"),
    "EfficientNetB1": Input(240, 32, "inside"),
    "EfficientNetB2": Input(260, 32, "inside"),
    "EfficientNetB3": Input(300, 32, "inside"),
    "EfficientNetB4": Input(380, 32, "inside"),
    "EfficientNetB5": Input(456, 32, "inside"),
    "EfficientNetB6": Input(528, 32, "inside"),
    "EfficientNetB7": Input(600, 32, "inside"),
    "EfficientNetV2B0": Input(224, 32, "inside"),
    "EfficientNetV2B1": Input(240, 32, "inside"),
    "EfficientNetV2B2": Input(260, 32, "inside"),
    "EfficientNetV2B3": Input(300, 32, "inside"),
    "EfficientNetV2S": Input(384, 32, "inside"),
    "EfficientNetV2M": Input(480, 32, "inside"),
    "EfficientNetV2L": Input(480, 32, "inside"),
    "InceptionResNetV2": Input(299, 75, "tf"),
    "InceptionV3": Input(299, 75, "tf"),
    "MobileNet": Input(224, 32, "tf"),
    "MobileNetV2": Input(224, 32, "tf"),
    "MobileNetV3Large": Input(224, 32, "inside"),
    "MobileNetV3Small": Input(224, 32, "inside"),
    "NASNetLarge": Input(331, 32, "tf"),
    "NASNetMobile": Input(224, 32, "tf"),
    "ResNet50": Input(224, 32, "caffe"),
    "ResNet101": Input(224, 32, "caffe"),
    "ResNet152": Input(224, 32, "caffe"),
    "ResNet50V2": Input(224, 32, "tf"),
    "ResNet101V2": Input(224, 32, "tf"),
    "ResNet152V2": Input(224, 32, "tf"),
    "VGG16": Input(224, 32, "caffe"),
    "VGG19": Input(224, 32, "caffe"),
    "Xception": Input(299, 71, "tf"),
}

BACKBONES = LITE | KERAS

WEIGHT_FILES = (".weights.h5", ".keras", ".h5", ".pth")  # Keras 3, a whole Keras model, Keras 2, PyTorch (Lite alone)
