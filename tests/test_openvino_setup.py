"""OpenVINO as Thaw imports it: it reports nothing, and a missing network is one line."""

import subprocess
import sys

import numpy as np
import pytest
from dependencies import ROOT

from thaw.core import kernels
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


def large_maps(side):
    """A 1x1 convolution and the depthwise one behind it, whose maps have 8 channels and these many pixels on a side."""
    from thaw.engines.openvino_setup import opset as ops
    from thaw.engines.openvino_setup import ov

    draw = np.random.default_rng(0)
    image = ops.parameter([1, 8, side, side], np.float32)
    pointwise = ops.convolution(
        image, draw.normal(size=(8, 8, 1, 1)).astype(np.float32), [1, 1], [0, 0], [0, 0], [1, 1]
    )
    pointwise = ops.clamp(ops.add(pointwise, draw.normal(size=(1, 8, 1, 1)).astype(np.float32)), 0.0, 6.0)
    depthwise = ops.group_convolution(
        pointwise, draw.normal(size=(8, 1, 1, 3, 3)).astype(np.float32), [1, 1], [1, 1], [1, 1], [1, 1]
    )
    depthwise = ops.add(depthwise, draw.normal(size=(1, 8, 1, 1)).astype(np.float32))
    return ov.Model([depthwise], [image], "large")


def kernels_of(compiled):
    return [node.get_rt_info()["primitiveType"].astype(str) for node in compiled.get_runtime_model().get_ops()]


@pytest.mark.skipif("avx2" not in kernels.processor_flags(), reason="OpenVINO takes the step only on AVX2")
def test_no_cache_of_the_processor_chooses_the_kernels():
    """The maps of 268 MB are more than half of any third cache. Nothing is computed, so that they take no memory."""
    from thaw.engines import openvino_setup
    from thaw.engines.openvino_setup import ov

    config = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    chosen_by_cache = kernels_of(ov.Core().compile_model(large_maps(2896), "CPU", config))
    assert any("dw_1x1" in kernel for kernel in chosen_by_cache)
    compiled = openvino_setup.compile_for_cpu(large_maps(2896), config)
    assert not any("dw_1x1" in kernel for kernel in kernels_of(compiled))
    assert compiled.output(0).shape == [1, 8, 2896, 2896]


def test_a_network_compiled_for_any_cache_computes_the_same():
    from thaw.engines import openvino_setup
    from thaw.engines.openvino_setup import ov

    config, network = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}, large_maps(32)
    pixels = np.random.default_rng(1).normal(size=(1, 8, 32, 32)).astype(np.float32)
    plain, compiled = ov.Core().compile_model(network, "CPU", config), openvino_setup.compile_for_cpu(network, config)
    assert (compiled(pixels)[0] == plain(pixels)[0]).all() and len(network.outputs) == 1
