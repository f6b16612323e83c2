"""OpenVINO, imported without its telemetry: without the package for it, it has nothing to report with."""

import contextlib
import locale
import sys
from collections.abc import Iterator
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
        with _english_letters():
            ov.save_model(network, path, compress_to_fp16=False)
        ov.Core().read_model(path)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise ThawError(f"{path.name} could not be written (is the disk full?): {reason}") from error


@contextlib.contextmanager
def _english_letters() -> Iterator[None]:
    """OpenVINO writes names of types in lower case as the person's language has it: in Turkish, `I64` stays `I64`."""
    before = locale.setlocale(locale.LC_CTYPE)
    with contextlib.suppress(locale.Error):  # not every system has it
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
