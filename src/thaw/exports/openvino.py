"""OpenVINO: a folder with `model.xml` and `model.bin`, its metadata in the section `thaw` of the model's `rt_info`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from thaw import openvino
from thaw.conversion import convert
from thaw.exports import graphs
from thaw.exports.formats import as_text
from thaw.keras import keras
from thaw.openvino import ov

FILE = "model.xml"


def write(model: keras.Model, facts: dict, folder: Path) -> None:
    """Write a model for batches of any length, in float32."""
    size = facts["image"]["size"]
    network = convert(keras.Model(model.input, {graphs.PROBABILITIES: model.output}, name=model.name))
    network.reshape([-1, size, size, 3])
    network.input().get_tensor().set_names({graphs.IMAGE})
    for key, text in as_text(facts).items():
        network.set_rt_info(text, ["thaw", key])
    openvino.write(network, folder / FILE)


def load(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from (n, size, size, 3) float32 pixels to (n, classes) float32 probabilities."""
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(folder / FILE, "CPU", config)
    return lambda pixels: compiled({graphs.IMAGE: pixels})[graphs.PROBABILITIES]
