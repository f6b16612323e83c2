"""OpenVINO, imported without its telemetry; and how its networks are read and written."""

import contextlib
import locale
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# Private. Why: no public setting turns the telemetry off. Without its package, OpenVINO works and reports nothing.
# Test: test_openvino_setup.py.
sys.modules["openvino_telemetry"] = None

import openvino as ov  # noqa: E402
from openvino import opset13 as opset  # noqa: E402

from thaw.core.errors import ThawError, missing  # noqa: E402

__all__ = ["compile_for_cpu", "ov", "read", "reason", "write"]

MAP_AXES = 4  # of maps: images, channels, height and width


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


def compile_for_cpu(network: ov.Model, config: Mapping[str, object]) -> ov.CompiledModel:
    """Compile a network so that the caches of the processor change no byte. Its outputs come first; others follow.

    OpenVINO computes a 1x1 convolution and the depthwise one behind it in one step, if their images fill more than half
    of the third cache. That step adds in another order. It is not taken where something else reads the images between
    the two, as a number of each does here.
    """
    between = [op.input_value(0) for op in network.get_ordered_ops() if op.get_type_name() == "GroupConvolution"]
    first = [[0] * MAP_AXES, [1] * MAP_AXES, [1] * MAP_AXES]
    read = [opset.slice(image, *first) for image in between if image.get_partial_shape().rank == MAP_AXES]
    outputs = [*network.outputs, *(number.output(0) for number in read)]
    network = ov.Model(outputs, network.get_parameters(), network.get_friendly_name())
    return ov.Core().compile_model(network, "CPU", config)


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
