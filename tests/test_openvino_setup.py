"""OpenVINO as Thaw imports it: it reports nothing, and a missing network is one line."""

import subprocess
import sys

import numpy as np
import pytest
from dependencies import ROOT

from thaw.core.errors import ThawError


def test_openvino_has_no_telemetry():
    """Its package is installed, since OpenVINO requires it."""
    code = """
import sys
from thaw.engines.openvino_setup import ov
from openvino.tools.ovc import telemetry_utils, convert
assert sys.modules["openvino_telemetry"] is None
print("stub" if "stub" in telemetry_utils.tm.Telemetry.__module__ else telemetry_utils.tm.Telemetry.__module__)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", capture_output=True, text=True)
    assert result.stdout.split() == ["stub"], result.stderr


def test_a_missing_network_says_how_to_make_it(tmp_path):
    from thaw.engines import openvino_setup

    with pytest.raises(ThawError, match=r"backbone\.xml is missing: run `dvc repro`"):
        openvino_setup.read(tmp_path / "backbone.xml")


def test_a_network_without_its_weights_is_one_line(tmp_path):
    from thaw.engines import openvino_setup
    from thaw.engines.openvino_setup import ov

    constant = ov.opset13.constant([[1.0, 2.0]], np.float32)
    image = ov.opset13.parameter([1, 2])
    openvino_setup.write(ov.Model([ov.opset13.add(image, constant)], [image]), tmp_path / "backbone.xml")
    (tmp_path / "backbone.bin").unlink()
    with pytest.raises(ThawError, match=r"backbone\.xml cannot be read: .*`dvc checkout`"):
        openvino_setup.read(tmp_path / "backbone.xml")
