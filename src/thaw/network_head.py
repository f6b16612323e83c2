"""The head as a network: convolutions, pooling, hidden layers, dropout; trained like the layers it stands on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw import models
from thaw.array_inference import predictor
from thaw.errors import ThawError
from thaw.examples import Examples
from thaw.keras import keras
from thaw.params import Head


@dataclass(frozen=True)
class NetworkHead:
    """A Keras model from (n, channels) features or (n, height, width, channels) maps to class probabilities."""

    network: keras.Model
    classes: tuple[str, ...]

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return (n, classes) float64 probabilities of features or maps; a memory map is read batch by batch."""
        predict = predictor(self.network, features)
        probabilities = predict(np.arange(len(features))).astype(np.float64)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs."""
        return self.classes

    @property
    def description(self) -> dict[str, object]:
        """What the report says of it."""
        return {"kind": "network", "layers": len(self.network.layers), "parameters": self.network.count_params()}

    def attach(self, backbone: keras.Model, features: str) -> keras.Model:
        """Return `backbone` up to its layer `features` with this head behind it, whose weights are shared."""
        return keras.Model(backbone.input, self.network(backbone.get_layer(features).output), name=backbone.name)

    def save(self, folder: Path) -> None:
        """Write the head into a folder, which is made where there is none."""
        folder.mkdir(exist_ok=True)
        models.save(self.network, folder / "head.keras", {"class_names": self.classes})
        description = json.dumps({"kind": "network", "classes": self.classes}, ensure_ascii=False, indent=1)
        (folder / "head.json").write_text(description + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "NetworkHead":
        network, metadata = models.load(folder / "head.keras")
        return cls(network, tuple(metadata["class_names"]))


def train(
    features: np.ndarray,
    train: Examples,
    validation: Examples,
    classes: tuple[str, ...],
    params: Head,
    log: Callable[[dict[str, float]], None],
) -> tuple[NetworkHead, int]:
    """Train a new head on features (rows, channels) or maps (rows, height, width, channels) float16, as
    `training.fit` does; return it and the epoch that is kept."""
    from thaw import training

    training.share_cores()
    network = build(features.shape[1:], len(classes), params)
    inputs = keras.Input(network.input.shape[1:])
    model = keras.Model(inputs, network(inputs))  # there is no body: the head stands on the input
    epoch = training.fit(model, None, [None], features, train, validation, params, log)
    return NetworkHead(network, classes), epoch


def build(shape: tuple[int, ...], classes: int, params: Head) -> keras.Model:
    """Return a head for features of shape (channels,), or for maps of (height, width, channels) of any size.

    Whatever its last layer, it answers (n, classes) probabilities. Each pooling halves the sides, rounded up, so that
    a map may be as small as it likes. Raises ThawError where the parameters do not fit the features or the classes.
    """
    if params.conv_blocks and len(shape) == 1:
        raise ThawError(
            f"head.conv_blocks wants maps and these are pooled features of {shape[0]} channels: set backbone.pooling "
            "to null, or head.conv_blocks to []"
        )
    if params.output == "sigmoid" and classes != 2:
        raise ThawError(f"head.output sigmoid is for two classes and these are {classes}: set it to softmax")
    keras.utils.set_random_seed(params.seed)
    layers = keras.layers
    maps = len(shape) == 3
    x = inputs = keras.Input((None, None, shape[-1]) if maps else shape, name="features")
    for number, channels in enumerate(params.conv_blocks, start=1):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{number}")(x)
    if maps:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    seed = params.seed % 2**30  # Keras on OpenVINO has room for 31 bits
    for number, units in enumerate(params.hidden, start=1):
        x = layers.Dropout(params.dropout, seed=seed + number, name=f"dropout{number}")(x)
        x = layers.Dense(units, activation="relu", name=f"hidden{number}")(x)
    x = layers.Dropout(params.dropout, seed=seed, name="dropout")(x)
    if params.output == "softmax":
        x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    else:
        second = layers.Dense(1, activation="sigmoid", name="sigmoid")(x)
        first = layers.Rescaling(-1.0, offset=1.0, name="complement")(second)
        x = layers.Concatenate(name="probabilities")([first, second])
    return keras.Model(inputs, x, name="head")
