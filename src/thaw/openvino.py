"""OpenVINO, imported without its telemetry: without the package for it, it has nothing to report with."""

import sys
from pathlib import Path

sys.modules["openvino_telemetry"] = None  # importing it raises ImportError, which OpenVINO takes for "not installed"

import openvino as ov  # noqa: E402

from thaw.errors import ThawError  # noqa: E402

__all__ = ["ov", "write"]


def write(model, path: Path) -> None:
    """Write a Keras model as an OpenVINO network: `path`, which ends in `.xml`, and its weights as `.bin` beside it.

    The outputs keep the names of the model's output dictionary. The network is read back, since on a full disk
    OpenVINO's files may be cut short without an error; raises ThawError where that is so.
    """
    try:
        model.export(str(path), format="openvino", verbose=False)
        ov.Core().read_model(path)
    except RuntimeError as error:
        raise ThawError(
            f"{path.name} could not be written (is the disk full?): {str(error).splitlines()[-1]}"
        ) from error
