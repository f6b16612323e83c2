"""One baseline of kernels, whatever the processor and the environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.core import kernels

SRC = Path(__file__).parents[1] / "src"
AVX2 = {"sse2", "avx", "avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512bw"}


@pytest.fixture(autouse=True)
def x86(monkeypatch):
    monkeypatch.setattr(kernels.platform, "machine", lambda: "x86_64")


@pytest.mark.parametrize("flags", [AVX2, AVX512, set()])
def test_every_processor_gets_the_kernels_of_the_baseline(flags):
    environment = {"HOME": "/"}
    choice = kernels.choose(environment, flags)
    assert choice.baseline and not choice.reason and not choice.replaced
    assert environment["OPENBLAS_CORETYPE"] == "Haswell" and environment["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert environment.get("OPENCV_CPU_DISABLE") == ("AVX512-SKX" if flags == AVX512 else None)


def test_a_kernel_that_a_person_set_is_replaced_and_said():
    environment = {"OPENBLAS_CORETYPE": "SkylakeX", "ONEDNN_MAX_CPU_ISA": ""}
    choice = kernels.choose(environment, AVX512)
    assert choice.replaced == {"OPENBLAS_CORETYPE": "SkylakeX"}
    assert environment["OPENBLAS_CORETYPE"] == "Haswell"
    (line,) = kernels.notes(choice)
    assert line.startswith("OPENBLAS_CORETYPE=SkylakeX is replaced by Haswell")


def test_native_kernels_are_left_alone_and_said():
    environment = {"THAW_KERNELS": "native", "OPENBLAS_CORETYPE": "SkylakeX"}
    choice = kernels.choose(environment, AVX512)
    assert not choice.baseline and environment == {"THAW_KERNELS": "native", "OPENBLAS_CORETYPE": "SkylakeX"}
    assert "THAW_KERNELS=native" in kernels.notes(choice)[0]


def test_a_value_that_says_nothing_is_said():
    (line,) = kernels.notes(kernels.choose({"THAW_KERNELS": "Native"}, AVX512))
    assert line == "THAW_KERNELS=Native is ignored: `native` is its only value"


@pytest.mark.parametrize("flags", [{"sse2", "avx"}, {"sse2", "avx", "avx2"}])
def test_a_processor_without_the_baseline_is_said(flags):
    environment = {}
    choice = kernels.choose(environment, flags)
    assert not choice.baseline and not environment
    (line,) = kernels.notes(choice)
    assert "this processor has no" in line and "last digits" in line


def test_another_architecture_is_said(monkeypatch):
    monkeypatch.setattr(kernels.platform, "machine", lambda: "aarch64")
    environment = {}
    choice = kernels.choose(environment)
    assert not choice.baseline and not environment and "aarch64" in kernels.notes(choice)[0]


def script(tmp_path: Path, start: str, **variables: str) -> subprocess.CompletedProcess:
    """Run a script that prints which kernels OpenBLAS uses, and how often it was started."""
    file = tmp_path / "script.py"
    file.write_text(
        f"{start}\nimport sys\nsys.path.insert(0, {str(SRC)!r})\nfrom thaw.core.errors import run\n\n"
        "def main():\n    import numpy, threadpoolctl\n"
        "    print({pool['architecture'] for pool in threadpoolctl.threadpool_info()})\nrun(main)\n",
        encoding="utf-8",
    )
    environment = {name: value for name, value in os.environ.items() if name not in kernels.KERNELS}
    return subprocess.run(
        [sys.executable, file], env=environment | variables, capture_output=True, text=True, check=True, timeout=60
    )


@pytest.mark.skipif(not kernels.processor_flags() >= kernels.NEEDED, reason="this processor lacks AVX2 or FMA")
@pytest.mark.parametrize("start", ["", "import numpy"], ids=["thaw first", "numpy first"])
@pytest.mark.parametrize("variables", [{}, {"OPENBLAS_CORETYPE": "Sandybridge"}], ids=["plain", "forced"])
def test_a_script_computes_with_the_baseline(tmp_path, start, variables):
    done = script(tmp_path, start, **variables)
    assert done.stdout == "{'Haswell'}\n"
    assert done.stderr.count("OPENBLAS_CORETYPE=Sandybridge is replaced by Haswell") == len(variables)


@pytest.mark.skipif(not kernels.processor_flags() >= kernels.NEEDED, reason="this processor lacks AVX2 or FMA")
def test_a_script_is_started_again_only_once(tmp_path):
    done = script(tmp_path, "import os\nos.environ['OPENBLAS_CORETYPE'] = 'Sandybridge'\nimport numpy")
    assert done.stdout == "{'Sandybridge'}\n"
    assert done.stderr.count("a plug-in of Python") == 1


def test_a_script_may_ask_for_native_kernels(tmp_path):
    done = script(tmp_path, "", THAW_KERNELS="native", OPENBLAS_CORETYPE="Sandybridge")
    assert done.stdout == "{'Sandybridge'}\n"
    assert "THAW_KERNELS=native" in done.stderr
