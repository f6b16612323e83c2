"""OpenVINO, imported without its telemetry; and how its networks are read and written."""

import contextlib
import locale
import sys
from collections.abc import Iterator
from pathlib import Path

# Private. Why: no public setting turns the telemetry off. Without its package, OpenVINO works and reports nothing.
# Test: test_openvino_setup.py.
sys.modules["openvino_telemetry"] = None

import openvino as ov  # noqa: E402

from thaw.core.errors import ThawError, missing  # noqa: E402

__all__ = ["ov", "read", "reason", "write"]


def read(path: Path) -> ov.Model:
    """Read an OpenVINO network; raises ThawError if it is missing or damaged: OpenVINO's own error hardly says it."""
    if not path.exists():
        raise missing(path)
    try:
        return ov.Core().read_model(path)
    except RuntimeError as error:
        raise ThawError(f"{path} cannot be read: {reason(error)}: make it anew, or run `dvc checkout`") from error


def write(network: ov.Model, path: Path) -> None:
    """Write a network in float32: `path`, which ends in `.xml`, and its weights as `.bin` beside it.

    On a full disk OpenVINO writes incomplete files without an error. So the network is read back; ThawError is raised
    if this fails.
    """
    try:
        with _english_letters():
            ov.save_model(network, path, compress_to_fp16=False)
        ov.Core().read_model(path)
    except RuntimeError as error:
        raise ThawError(f"{path.name} could not be written (is the disk full?): {reason(error)}") from error


def reason(error: RuntimeError) -> str:
    """Return the last line of a message of OpenVINO's, which has the reason."""
    return [line for line in str(error).splitlines() if line.strip()][-1].removeprefix("-- ")


@contextlib.contextmanager
def _english_letters() -> Iterator[None]:
    """OpenVINO writes the names of types in lower case, by the rules of the user's language: in Turkish, `I64` stays
    `I64`."""
    before = locale.setlocale(locale.LC_CTYPE)
    with contextlib.suppress(locale.Error):  # some systems do not have it
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
