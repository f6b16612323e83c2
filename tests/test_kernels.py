"""One baseline of kernels, whatever the processor and the environment."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
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


@pytest.mark.parametrize("environment", [{}, {"THAW_KERNELS": "native"}], ids=["plain", "native"])
@pytest.mark.parametrize("flags", [{"sse2", "avx"}, {"sse2", "avx", "avx2"}])
def test_a_processor_without_the_baseline_is_refused(flags, environment):
    """Polars and TensorFlow end there with an illegal instruction, and say nothing."""
    before = dict(environment)
    choice = kernels.choose(environment, flags)
    assert not choice.usable and not choice.baseline and environment == before
    (line,) = kernels.notes(choice)
    assert line.startswith("this processor has no") and line.endswith("Thaw needs x86-64 with AVX2 and FMA, or ARM")


def test_another_architecture_is_said(monkeypatch):
    monkeypatch.setattr(kernels.platform, "machine", lambda: "aarch64")
    environment = {}
    choice = kernels.choose(environment)
    assert environment == {"OPENBLAS_NUM_THREADS": "1"}  # it is no kernel: with it, cores change nothing
    assert not choice.baseline and "aarch64" in kernels.notes(choice)[0]


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


LISTINGS = {  # as Linux and macOS list the flags
    "linux": "processor : 0\nflags\t\t: fpu sse2 avx fma avx2\n",
    "darwin": "FPU SSE2 AVX1.0 FMA\nBMI1 AVX2 BMI2\n",
}


class WithoutFunctions:
    """A C library that has none, as `ctypes.CDLL` answers."""

    def __init__(self, _):
        pass

    def __getitem__(self, name):
        raise AttributeError(name)


@pytest.mark.parametrize("system", LISTINGS)
def test_flags_come_from_the_system_where_glibc_has_none(monkeypatch, tmp_path, system):
    (tmp_path / "cpuinfo").write_text(LISTINGS[system])
    monkeypatch.setattr(kernels.ctypes, "CDLL", WithoutFunctions)
    monkeypatch.setattr(kernels.sys, "platform", system)
    monkeypatch.setattr(kernels, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(subprocess, "check_output", lambda *_, **__: LISTINGS["darwin"])
    assert kernels.processor_flags() >= kernels.NEEDED


@pytest.mark.skipif(sys.platform != "linux", reason="the two are compared on Linux only")
def test_glibc_and_linux_name_the_same_flags():
    listed = kernels._listed_flags()
    assert not listed or kernels.processor_flags() == {flag for flag in kernels.FLAGS if flag in listed}


def test_what_computed_is_named_alike_on_all_processors_with_the_baseline():
    choices = kernels.choose({}, AVX2), kernels.choose({"OPENBLAS_CORETYPE": "SkylakeX"}, AVX512)
    assert {kernels.describe(choice._replace(late=())) for choice in choices} == {kernels.BASELINE}
    assert "THAW_KERNELS=native" in kernels.describe(kernels.choose({"THAW_KERNELS": "native"}, AVX2))
    assert kernels.describe(kernels.Choice(True, "", {}, ("numpy",))) != kernels.BASELINE


def test_openblas_computes_on_one_thread_whatever_a_person_set():
    code = "import thaw, numpy, threadpoolctl as t; print({pool['num_threads'] for pool in t.threadpool_info()})"
    command, environment = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(SRC)}
    environment |= {"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "{1}\n"
    assert done.stderr.startswith("thaw: OPENBLAS_NUM_THREADS=4 is replaced by 1, so that results are the same bytes")
    assert done.stderr.count("\n") == 1  # OMP_NUM_THREADS is left alone, since it changes no byte


def test_opencv_scales_floats_with_the_kernels_of_the_baseline():
    """OpenCV leaves this to a library of Intel's, which chooses by the processor and knows only this variable."""
    scaled = "cv2.resize(np.linspace(0, 1, 49, dtype='f4').reshape(7, 7), (64, 64), interpolation=cv2.INTER_CUBIC)"
    code = f"import thaw, cv2, numpy as np; print({scaled}.tobytes().hex())"
    command, environment = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(SRC), "OPENCV_IPP": "sse42"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == eval(scaled, {"cv2": cv2, "np": np}).tobytes().hex()


@pytest.mark.parametrize("start", ["import numpy, ", "import "], ids=["numpy first", "thaw first"])
def test_a_notebook_is_told_that_thaw_comes_too_late(start):
    environment = {name: value for name, value in os.environ.items() if name not in kernels.KERNELS | kernels.OPENCV}
    command = [sys.executable, "-c", f"{start}thaw"]
    environment |= {"PYTHONPATH": str(SRC)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.count("\n") == ("numpy" in start)
    assert ("numpy chose kernels before `import thaw`" in done.stderr) == ("numpy" in start)


@pytest.mark.parametrize("script", sorted(SRC.glob("*.py")), ids=lambda script: script.stem)
def test_a_script_imports_thaw_before_all_libraries(script):
    """Else it would be started twice, or crash without a line where Polars does not run."""
    lines = [node for node in ast.parse(script.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [getattr(node, "module", None) or node.names[0].name for node in lines]
    roots = [name.partition(".")[0] for name in names]
    assert not {*kernels.LIBRARIES, "keras", "PIL", "polars", "sklearn"} & set(roots[: roots.index("thaw")])


needs_qemu = pytest.mark.skipif(
    not shutil.which("qemu-x86_64"), reason="qemu-x86_64 is missing: install qemu-user to emulate processors"
)


def emulated(processor: str, *command: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["qemu-x86_64", "-cpu", processor, sys.executable, *map(str, command)],
        env=os.environ | {"PYTHONPATH": str(SRC)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@needs_qemu
def test_a_stage_on_a_processor_without_avx2_ends_in_one_line():
    done = emulated("Nehalem", SRC / "split.py")
    (line,) = [line for line in done.stderr.splitlines() if "TCG" not in line]
    assert done.returncode == 1
    assert line.startswith("thaw: this processor has no AVX2 and FMA, without which Polars")
