"""OpenVINO, imported without its telemetry: without the package for it, it has nothing to report with."""

import sys
from pathlib import Path

sys.modules["openvino_telemetry"] = None  # importing it raises ImportError, which OpenVINO takes for "not installed"

import openvino as ov  # noqa: E402

from thaw.errors import ThawError  # noqa: E402

__all__ = ["ov", "write"]


def write(network: ov.Model, path: Path) -> None:
    """Write a network in float32: `path`, which ends in `.xml`, and its weights as `.bin` beside it.

    It is read back, since on a full disk OpenVINO's files may be cut short without an error; raises ThawError where
    that is so.
    """
    try:
        ov.save_model(network, path, compress_to_fp16=False)
        ov.Core().read_model(path)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise ThawError(f"{path.name} could not be written (is the disk full?): {reason}") from error
