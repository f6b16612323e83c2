"""The head as a network: convolutions, pooling, hidden layers and dropout, trained with Keras."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from thaw.core import arrays
from thaw.core.errors import ThawError
from thaw.core.files import write_json
from thaw.engines import model_files
from thaw.engines.array_inference import predictor
from thaw.engines.keras_setup import keras
from thaw.features.examples import MIN_PROBABILITY, losses
from thaw.heads.protocol import Head, HeadData, Log, Setting, Trained, variant_text
from thaw.training.temperature import apply_temperature, fit_temperature

if TYPE_CHECKING:
    from thaw.parameters.head import Head as HeadParams
    from thaw.training.loop import TrainingData

Predictor = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class NetworkHead(Head):
    """A Keras model from (n, channels) features or (n, height, width, channels) maps to class probabilities."""

    network: keras.Model
    classes: tuple[str, ...]
    _predictors: dict[tuple, Predictor] = field(default_factory=dict, init=False, repr=False, compare=False)
    kind: ClassVar[str] = "network"  # in `registry.KINDS`

    def output_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, classes) float64 probabilities for features or maps; a memory map is read batch by batch.

        The network is compiled once for each shape and dtype of a row. Its weights must not change after that.
        """
        probabilities = self.network_output(features)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def network_output(self, features: np.ndarray) -> np.ndarray:
        """Return the output of the network as it is, (n, classes) float64: see `output_probabilities`."""
        row = (features.shape[1:], features.dtype)
        if row not in self._predictors:
            self._predictors[row] = predictor(self.network, np.empty((0, *features.shape[1:]), features.dtype))
        return self._predictors[row](np.arange(len(features)), features).astype(np.float64)

    @property
    def description(self) -> dict[str, object]:
        return {"kind": self.kind, "layers": len(self.network.layers), "parameters": self.network.count_params()}

    def attach(self, backbone: keras.Model, features: str) -> keras.Model:
        """Return `backbone` up to its layer `features` with this head behind it, whose weights are shared."""
        return keras.Model(backbone.input, self.network(backbone.get_layer(features).output), name=backbone.name)

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        model_files.save(self.network, folder / "head.keras", {"class_names": self.classes})
        write_json(folder / "head.json", {"kind": self.kind, "classes": self.classes})

    @staticmethod
    def build(shape: tuple[int, ...], classes: int, params: "HeadParams") -> keras.Model:
        """Return a new network; see `build`."""
        return build(shape, classes, params)

    def calibrated_losses(self, data: HeadData) -> np.ndarray:
        """Return the loss (n,) of each image of validation, at the temperature at which networks are compared."""
        return calibrated_losses(self, data)


def load(folder: Path, kind: type[NetworkHead] = NetworkHead) -> NetworkHead:
    """Return the head that was saved in a folder."""
    network, metadata = model_files.load(folder / "head.keras")
    return kind(network, tuple(metadata["class_names"]))


def train(params: "HeadParams", data: HeadData, log: Log, kind: type[NetworkHead] = NetworkHead) -> list[Trained]:
    """Train a network for each variant of the training; see `thaw.heads.registry.train`.

    The calibrated loss on validation chooses the epoch of a network, and between networks. `kind` builds them.
    """
    from thaw.training.loop import TrainingData

    trained = []
    for variant, images in data.training.items():
        history = []

        def log_epoch(scores: dict[str, float], variant: str = variant, history: list = history) -> None:
            log(variant, len(history), scores)
            history.append(scores)

        last_epoch = int(data.setting.values[0]) if data.setting else None
        training_data = TrainingData(data.features, images, data.validation, last_epoch=last_epoch)
        head, epoch = train_network(training_data, data.classes, params, log_epoch, kind)
        description = f"a network of {head.network.count_params():,} parameters after epoch {epoch}"
        description += f" on {variant_text(variant)}"
        loss = history[epoch]["validation_loss_calibrated"]
        setting = Setting("network", (epoch,))
        trained.append(Trained(head, variant, setting, head.calibrated_losses(data), loss, history[epoch], description))
    return trained


def calibrated_losses(head: NetworkHead, data: HeadData) -> np.ndarray:
    """Return the loss (n,) of each image of validation, at the temperature at which networks are compared."""
    validation = data.validation
    blocks = [head.probabilities(block) for block in arrays.blocks(data.features, validation.rows)]
    clipped = np.concatenate(blocks).clip(MIN_PROBABILITY)
    temperature = fit_temperature(clipped, validation.labels, validation.weights, min_temperature=1.0)
    return losses(apply_temperature(clipped, temperature), validation)


def train_network(
    data: "TrainingData",
    classes: tuple[str, ...],
    params: "HeadParams",
    log: Callable[[dict[str, float]], None],
    kind: type[NetworkHead] = NetworkHead,
) -> tuple[NetworkHead, int]:
    """Train one new head, as `training.loop.fit` does.

    Args:
        data: Its activations are the features or maps.
        classes: Names of the labels.
        params: The section `head` of params.yaml.
        log: Gets the scores of each epoch.
        kind: Of the head.

    Returns:
        The head, and the epoch that is kept.

    Raises:
        ThawError: The parameters do not fit the features or the classes, or a loss is not finite.
    """
    from thaw.training import loop

    loop.share_cores()
    network = kind.build(data.activations.shape[1:], len(classes), params)
    inputs = keras.Input(network.input.shape[1:])
    model = keras.Model(inputs, network(inputs))  # no body: the head is all that there is behind the input
    epoch = loop.fit(model, data, params, log)
    return kind(network, classes), epoch


def build(shape: tuple[int, ...], classes: int, params: "HeadParams") -> keras.Model:
    """Return a new network for features of shape (channels,), or for maps of (height, width, channels).

    Maps may have any size: each pooling halves the sides, rounded up. The output is (n, classes) probabilities,
    whatever the last layer. Raises ThawError if the parameters do not fit the features or the classes.
    """
    if params.output == "sigmoid" and classes != 2:
        raise ThawError(f"`head.output: sigmoid` needs two classes, but there are {classes}: set it to softmax")
    layers = keras.layers
    inputs, x = hidden_layers(shape, params)
    if params.output == "softmax":
        x = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    else:
        second = layers.Dense(1, activation="sigmoid", name="sigmoid")(x)
        first = layers.Rescaling(-1.0, offset=1.0, name="complement")(second)
        x = layers.Concatenate(name="probabilities")([first, second])
    return keras.Model(inputs, x, name="head")


def hidden_layers(shape: tuple[int, ...], params: "HeadParams") -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the input of a new network and what its last layer reads; see `build`."""
    if params.conv_blocks and len(shape) == 1:
        raise ThawError(
            f"head.conv_blocks needs maps, but these are features of {shape[0]} channels: set backbone.pooling to null "
            "if the backbone has maps, or head.conv_blocks to []"
        )
    keras.utils.set_random_seed(params.seed)
    layers = keras.layers
    maps = len(shape) == 3
    x = inputs = keras.Input((None, None, shape[-1]) if maps else shape, name="features")
    for number, channels in enumerate(params.conv_blocks, start=1):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{number}")(x)
    if maps:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    seed = params.seed % 2**30  # the Keras backend of OpenVINO, which reads the head, has room for 31 bits
    for number, units in enumerate(params.hidden, start=1):
        x = layers.Dropout(params.dropout, seed=seed + number, name=f"dropout{number}")(x)
        x = layers.Dense(units, activation="relu", name=f"hidden{number}")(x)
    return inputs, layers.Dropout(params.dropout, seed=seed, name="dropout")(x)
