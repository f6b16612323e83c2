"""A head that is one dense layer: how linear heads stand behind a backbone, and what their folders hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thaw.core import arrays
from thaw.core.files import read_json, write_json

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras


def attach(
    backbone: "keras.Model", features: str, kernel: np.ndarray, bias: np.ndarray, *, activation: str
) -> "keras.Model":
    """Return `backbone` up to its layer `features`, with a dense layer behind it.

    Args:
        backbone: The network.
        features: The name of a layer.
        kernel: (channels, outputs) float32.
        bias: (outputs,) float32.
        activation: Of the layer.
    """
    from thaw.engines.keras_setup import keras

    dense = keras.layers.Dense(len(bias), activation=activation, name="probabilities")
    model = keras.Model(backbone.input, dense(backbone.get_layer(features).output), name=backbone.name)
    dense.set_weights([kernel, bias])
    return model


def save(folder: Path, kernel: np.ndarray, bias: np.ndarray, description: Mapping[str, object]) -> None:
    """Write the arrays of the layer, and `head.json` with the description."""
    folder.mkdir(exist_ok=True)
    for name, array in (("kernel", kernel), ("bias", bias)):
        arrays.write_rows(folder / f"{name}.npy", [array], len(array))
    write_json(folder / "head.json", description)


def load(folder: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    """Return kernel, bias and description, as `save` wrote them."""
    return np.load(folder / "kernel.npy"), np.load(folder / "bias.npy"), read_json(folder / "head.json")
