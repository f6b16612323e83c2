"""The head as a network for several labels: the same layers, and a sigmoid for each class."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from thaw.core import arrays
from thaw.core.task import MULTI
from thaw.engines.keras_setup import keras
from thaw.features import label_pairs
from thaw.features.examples import MIN_PROBABILITY
from thaw.heads import network
from thaw.heads.network import NetworkHead
from thaw.heads.protocol import HeadData, Log, Trained
from thaw.training import temperatures

if TYPE_CHECKING:
    from thaw.parameters.head import Head as HeadParams


class SigmoidHead(NetworkHead):
    """A Keras model from features or maps to the probability of each class, (n, k): each class by itself."""

    task: ClassVar[str] = MULTI
    kind: ClassVar[str] = "network_multi"

    def output_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, k) float64 probabilities: see `NetworkHead.output_probabilities`."""
        return self.network_output(features)

    @staticmethod
    def build(shape: tuple[int, ...], classes: int, params: "HeadParams") -> keras.Model:
        """Return a new network: that of `network.build` with a sigmoid for each class, whatever `params.output` is."""
        inputs, x = network.hidden_layers(shape, params)
        outputs = keras.layers.Dense(classes, activation="sigmoid", name="probabilities")(x)
        return keras.Model(inputs, outputs, name="head")

    def calibrated_losses(self, data: HeadData) -> np.ndarray:
        """Return the loss (n,) of each image of validation over all of its known classes, at their temperatures."""
        validation = data.validation
        p = np.concatenate([self.probabilities(block) for block in arrays.blocks(data.features, validation.rows)])
        p = p.clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        fitted = temperatures.fit(p, validation.values, validation.value_weights, min_temperature=1.0)
        return label_pairs.losses(temperatures.apply(p, fitted), validation).sum(axis=1)


def load(folder: Path) -> SigmoidHead:
    """Return the head that was saved in a folder."""
    return network.load(folder, SigmoidHead)


def train(params: "HeadParams", data: HeadData, log: Log) -> list[Trained]:
    """Train a network for each variant of the training; see `thaw.heads.registry.train`."""
    return network.train(params, data, log, SigmoidHead)
