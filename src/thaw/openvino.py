"""OpenVINO, imported without its telemetry: without the package for it, it has nothing to report with."""

import sys
from pathlib import Path

sys.modules["openvino_telemetry"] = None  # importing it raises ImportError, which OpenVINO takes for "not installed"

import openvino as ov  # noqa: E402

__all__ = ["ov", "write"]


def write(model, path: Path) -> None:
    """Write a Keras model as an OpenVINO network: `path`, which ends in `.xml`, and its weights as `.bin` beside it.

    The outputs keep the names of the model's output dictionary.
    """
    model.export(str(path), format="openvino", verbose=False)
