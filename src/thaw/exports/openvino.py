"""OpenVINO: a folder with `model.xml` and `model.bin`, its metadata in the section `thaw` of the model's `rt_info`."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from thaw.errors import ThawError
from thaw.exports import graphs
from thaw.exports.formats import as_text
from thaw.openvino import ov
from thaw.tensorflow import keras

FILE = "model.xml"


def write(model: keras.Model, facts: dict, folder: Path) -> None:
    """Write a model for batches of any length, in float32."""
    with tempfile.TemporaryDirectory() as temporary:
        graph = graphs.freeze(model, facts["image"]["size"])
        Path(temporary, "saved_model.pb").write_bytes(graphs.saved_model(graph))
        converted = ov.convert_model(temporary)
    # A new model: that of the converter remembers the path that it came from.
    network = ov.Model(converted.outputs, converted.get_parameters(), model.name)
    for number, step in enumerate(network.get_ordered_ops()):  # else with a counter of the process in it
        step.set_friendly_name(re.sub(r"_\d+$", f"_{number}", step.get_friendly_name()))
    for key, text in as_text(facts).items():
        network.set_rt_info(text, ["thaw", key])
    try:
        ov.save_model(network, folder / FILE, compress_to_fp16=False)
        ov.Core().read_model(folder / FILE)  # on a full disk, what is written may be cut short without an error
    except RuntimeError as error:
        raise ThawError("its files could not be written (is the disk full?)") from error


def load(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from (n, size, size, 3) float32 pixels to (n, classes) float32 probabilities."""
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(folder / FILE, "CPU", config)
    return lambda pixels: compiled({graphs.IMAGE: pixels})[graphs.PROBABILITIES]
