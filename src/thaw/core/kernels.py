"""One baseline of the processor for all numerical libraries, so that their results are the same bytes: AVX2 and FMA.

These libraries choose their kernels by the processor that they find. Kernels of another width add in another order, so
last bits differ, and a solver or a training turns them into other models. `thaw/__init__.py` imports this module before
any other one, so that the choice is made before a module of Thaw imports one of these libraries.
"""

import os
import platform
import sys
from pathlib import Path
from typing import NamedTuple

BASELINE = "x86-64 with AVX2 and FMA"
NATIVE = "THAW_KERNELS"  # `native` leaves the choice to the libraries
STARTED_AGAIN = "THAW_STARTED_AGAIN"  # the process that `start_again` started
NEEDED = {"avx2", "fma"}  # flags of the processor
KERNELS = {
    "OPENBLAS_CORETYPE": "Haswell",  # products and solvers of NumPy and SciPy
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # OpenVINO and TensorFlow
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # NumPy's own functions
}
OPENCV = {"OPENCV_CPU_DISABLE": "AVX512-SKX"}  # only where the processor has it: OpenCV prints a warning elsewhere
LIBRARIES = ("numpy", "scipy", "cv2", "openvino", "tensorflow")  # read the variables when they are imported


class Choice(NamedTuple):
    """Which kernels the libraries of this process use."""

    baseline: bool  # those of BASELINE; False: those that each library chooses by itself
    reason: str  # for the person, where they are not those of the baseline; else empty
    replaced: dict[str, str]  # environment variables that had another value, and that value
    late: bool  # a library was imported before the variables were set: only a new start of the process helps
    unknown: str = ""  # a value of NATIVE that says nothing


def choose(environment: dict[str, str] | None = None, flags: set[str] | None = None) -> Choice:
    """Set the variables that make the libraries use the kernels of BASELINE, where the processor has these.

    Args:
        environment: Is changed. None: that of this process.
        flags: Of the processor. None: those of this machine.

    Returns:
        What was chosen, and what a person is told about it.
    """
    environment = os.environ if environment is None else environment
    if environment.get(NATIVE) == "native":
        return Choice(False, f"{NATIVE}=native: each library chooses its kernels by the processor", {}, False)
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return Choice(False, f"this processor ({platform.machine()}) is not {BASELINE}", {}, False)
    flags = processor_flags() if flags is None else flags
    if flags and not flags >= NEEDED:
        lacking = " and ".join(sorted(flag.upper() for flag in NEEDED - flags))
        return Choice(False, f"this processor has no {lacking}", {}, False)
    wanted = KERNELS | (OPENCV if "avx512f" in flags else {})
    changed = {name: value for name, value in wanted.items() if environment.get(name) != value}
    replaced = {name: environment[name] for name in changed if environment.get(name)}
    environment.update(changed)
    late = bool(changed) and any(library in sys.modules for library in LIBRARIES)
    return Choice(True, "", replaced, late, environment.get(NATIVE, ""))


def start_again() -> None:
    """Start this script again, under the same process id, once: its libraries then read the variables that are set.

    If that was done already, a plug-in of Python sets a variable itself: it is said.
    """
    if os.environ.get(STARTED_AGAIN) != str(os.getpid()):
        os.environ[STARTED_AGAIN] = str(os.getpid())
        os.execv(sys.executable, sys.orig_argv)
    print(
        "thaw: a plug-in of Python (sitecustomize, a .pth file) sets the kernels of libraries, and imports one before "
        f"this script: results may differ in their last digits from those on {BASELINE}",
        file=sys.stderr,
        flush=True,
    )


def processor_flags() -> set[str]:
    """Return the flags of the processor, such as `avx2`, as Linux lists them; an empty set on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return set(next(flags, "").split())


def notes(choice: Choice) -> list[str]:
    """Return what a person is told about a choice, a line each."""
    lines = [
        f"{name}={value} is replaced by {KERNELS.get(name, OPENCV.get(name))}, so that results are the same bytes on "
        f"every processor; {NATIVE}=native leaves the choice to the libraries"
        for name, value in choice.replaced.items()
    ]
    if choice.unknown:
        lines.append(f"{NATIVE}={choice.unknown} is ignored: `native` is its only value")
    if choice.reason:
        lines.append(f"{choice.reason}: results may differ in their last digits from those on {BASELINE}")
    return lines


CHOICE = choose()
