"""OpenVINO, imported without its telemetry: without the package for it, it has nothing to report with."""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.modules["openvino_telemetry"] = None  # importing it raises ImportError, which OpenVINO takes for "not installed"

import openvino as ov  # noqa: E402

from thaw.errors import ThawError  # noqa: E402

__all__ = ["ov", "write"]

TRACED = 256  # pixels: no network is too small for it, and any other size may follow


def write(model, path: Path) -> None:
    """Write a Keras model as an OpenVINO network: `path`, which ends in `.xml`, and its weights as `.bin` beside it.

    The model takes (n, h, w, 3) of any size. The outputs keep the names of its output dictionary. The network is read
    back, since on a full disk OpenVINO's files may be cut short without an error; raises ThawError where that is so.
    """
    from thaw.keras import ON_OPENVINO

    try:
        if ON_OPENVINO:
            _write_traced(model, path)
        else:
            model.export(str(path), format="openvino", verbose=False)
        ov.Core().read_model(path)
    except RuntimeError as error:
        raise ThawError(
            f"{path.name} could not be written (is the disk full?): {str(error).splitlines()[-1]}"
        ) from error


def _write_traced(model, path: Path) -> None:
    """Write what Keras on OpenVINO does with one photograph of TRACED pixels, for any number of any size, and with the
    names of the outputs: Keras' own file has none of these."""
    from thaw.keras import keras

    outputs = model.output
    listed = keras.Model(model.input, list(outputs.values()))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        traced = Path(folder) / "traced.xml"
        photograph = keras.InputSpec(shape=(None, TRACED, TRACED, 3), dtype="float32")
        listed.export(str(traced), format="openvino", verbose=False, input_signature=[photograph])
        network = ov.Core().read_model(traced)
        for output, name in zip(network.outputs, outputs, strict=True):
            output.tensor.add_names({name})
        for step in network.get_ops():
            shape = step.input_value(1).get_node() if step.get_type_name() == "Reshape" else None
            if shape and shape.get_type_name() == "Constant" and shape.data[0] == 1 and -1 not in shape.data:
                step.input(1).replace_source_output(ov.op.Constant(np.array([-1, *shape.data[1:]])).output(0))
        network.reshape([-1, -1, -1, 3])
        ov.serialize(network, path)
