"""OpenVINO: a folder with `model.xml` and `model.bin`; the metadata are in the section `thaw` of `rt_info`."""

from pathlib import Path

from thaw.exports.base import IMAGE, PROBABILITIES, Engine, Format, ModelToExport
from thaw.exports.metadata import as_text

FILE = "model.xml"


def write(source: ModelToExport, folder: Path) -> None:
    """Write a model for batches of any length, in float32."""
    from thaw.engines import openvino_setup
    from thaw.engines.keras_setup import keras
    from thaw.engines.keras_to_openvino import convert

    model, size = source.model, source.size
    network = convert(keras.Model(model.input, {PROBABILITIES: model.output}, name=model.name))
    network.reshape([-1, size, size, 3])
    network.input().get_tensor().set_names({IMAGE})
    for key, text in as_text(source.metadata).items():
        network.set_rt_info(text, ["thaw", key])
    openvino_setup.write(network, folder / FILE)


def load(folder: Path) -> Engine:
    """Return a function from (n, size, size, 3) float32 pixels to (n, classes) float32 probabilities."""
    from thaw.engines.openvino_setup import ov

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(folder / FILE, "CPU", config)
    return lambda pixels: compiled({IMAGE: pixels})[PROBABILITIES]


FORMAT = Format("openvino", "openvino", "OpenVINO", write, load)
