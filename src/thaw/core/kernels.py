"""One baseline of the processor for all numerical libraries, so that their results are the same bytes: AVX2 and FMA.

These libraries choose their kernels by the processor that they find. Kernels of another width add in another order, so
last bits differ, and a solver or a training turns them into other models. `thaw/__init__.py` imports this module before
any other one, so that the choice is made before a module of Thaw imports one of these libraries.
"""

import ctypes
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
    "OPENBLAS_CORETYPE": "Haswell",  # products and solvers of NumPy, SciPy and, on these, scikit-learn
    "OPENBLAS_NUM_THREADS": "1",  # with more, sums depend on how many cores there are; it stands above OMP_NUM_THREADS
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # OpenVINO and TensorFlow, whose other kernels are compiled for one processor
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # NumPy's own functions
    "OPENCV_IPP": "avx2",  # Intel's part of OpenCV: it scales floats
}
# Leaf, register and bit. Every x86-64 processor has SSE2: where no flag is found, none is known.
FLAGS = {"sse2": (0, 3, 26), "fma": (0, 2, 12), "avx2": (1, 1, 5), "avx512f": (1, 1, 16)}
MACOS = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
OPENCV = {"OPENCV_CPU_DISABLE": "AVX512-SKX"}  # only where the processor has it: OpenCV prints a warning elsewhere
LIBRARIES = ("numpy", "scipy", "cv2", "openvino", "tensorflow")  # read the variables when they are imported


class Choice(NamedTuple):
    """Which kernels the libraries of this process use."""

    baseline: bool  # those of BASELINE; False: those that each library chooses by itself
    reason: str  # for the person, where they are not those of the baseline; else empty
    replaced: dict[str, str]  # environment variables that had another value, and that value
    late: tuple[str, ...] = ()  # libraries that were imported before the variables were set, so they did not read them
    unknown: str = ""  # a value of NATIVE that says nothing
    usable: bool = True  # False: Polars would crash on this processor


def choose(environment: dict[str, str] | None = None, flags: set[str] | None = None) -> Choice:
    """Set the variables that make the libraries use the kernels of BASELINE, where the processor has these.

    Args:
        environment: Is changed. None: that of this process.
        flags: Of the processor. None: those of this machine.

    Returns:
        What was chosen, and what a person is told about it.
    """
    environment = os.environ if environment is None else environment
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    flags = processor_flags() if flags is None and x86 else flags
    if x86 and flags and not flags >= NEEDED:
        lacking = " and ".join(sorted(flag.upper() for flag in NEEDED - flags))
        return Choice(False, f"this processor has no {lacking}", {}, usable=False)
    if environment.get(NATIVE) == "native":
        return Choice(False, f"{NATIVE}=native: each library chooses its kernels by the processor", {})
    if not x86:
        environment["OPENBLAS_NUM_THREADS"] = KERNELS["OPENBLAS_NUM_THREADS"]
        return Choice(False, f"this processor ({platform.machine()}) is not {BASELINE}", {})
    wanted = KERNELS | (OPENCV if "avx512f" in flags else {})
    changed = {name: value for name, value in wanted.items() if environment.get(name) != value}
    replaced = {name: environment[name] for name in changed if environment.get(name)}
    environment.update(changed)
    late = tuple(library for library in LIBRARIES if changed and library in sys.modules)
    return Choice(True, "", replaced, late, environment.get(NATIVE, ""))


def start_again() -> None:
    """Start this script again, under the same process id, once: its libraries then read the variables that are set.

    If that was done already, a plug-in of Python sets a variable itself: it is said.
    """
    if os.environ.get(STARTED_AGAIN) != str(os.getpid()):
        os.environ[STARTED_AGAIN] = str(os.getpid())
        os.execv(sys.executable, sys.orig_argv)
    say(
        "a plug-in of Python (sitecustomize, a .pth file) sets the kernels of libraries, and imports one before this "
        f"script: results may differ in their last digits from those on {BASELINE}"
    )


def processor_flags() -> set[str]:
    """Return those flags of the processor that the choice depends on, such as `avx2`; an empty set where none is known.

    glibc asks the processor itself, also an emulated one, for which Linux lists the flags of the machine.
    """
    try:
        leaf = ctypes.CDLL(None)["__x86_get_cpuid_feature_leaf"]  # <sys/platform/x86.h>, glibc 2.33 and later
    except (AttributeError, OSError):
        return _listed_flags()
    leaf.restype = ctypes.POINTER(ctypes.c_uint32 * 8)  # what the processor has in 4 registers; what can be used
    return {flag for flag, (number, register, bit) in FLAGS.items() if leaf(number).contents[4 + register] >> bit & 1}


def _listed_flags() -> set[str]:
    """Return the flags of the processor as Linux or macOS lists them."""
    import subprocess  # takes time that every start would pay

    try:
        if sys.platform == "darwin":
            text = subprocess.check_output(["/usr/sbin/sysctl", "-n", *MACOS], text=True, stderr=subprocess.DEVNULL)
            return set(text.lower().replace("avx1.0", "avx").split())
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except (OSError, subprocess.CalledProcessError):
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
    if not choice.usable:
        lines.append(f"{choice.reason}, without which Polars and other libraries crash: Thaw needs {BASELINE}, or ARM")
    elif choice.reason:
        kept = "; DVC keeps them: `dvc repro --force` replaces them" if choice.reason.startswith(NATIVE) else ""
        lines.append(f"{choice.reason}: results may differ in their last digits from those on {BASELINE}{kept}")
    return lines


def describe(choice: Choice) -> str:
    """Return which kernels the libraries use, in words that are the same on every processor with the baseline."""
    if not choice.baseline:
        return f"chosen by each library ({choice.reason})"
    return f"chosen by each library ({', '.join(choice.late)} was imported first)" if choice.late else BASELINE


def say(*lines: str) -> None:
    """Print lines for the person, each once in a process."""
    for line in lines:
        if line not in _said:
            _said.add(line)
            print(f"thaw: {line}", file=sys.stderr, flush=True)


def _is_own_script() -> bool:
    """Whether a script of Thaw is running: `errors.run` says then what is to be said, and can start it again."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    source = Path(__file__).resolve().parents[2]
    return main is not None and Path(main).resolve().parent in (source, source.with_name("benchmarks"))


_said: set[str] = set()
CHOICE = choose()
if not CHOICE.usable:  # now, before a crash
    if _is_own_script():
        sys.exit("".join(f"thaw: {note}" for note in notes(CHOICE)))
    raise ImportError(*notes(CHOICE))
if not _is_own_script():  # a notebook, a test or a program that imports Thaw
    say(*notes(CHOICE))
    if CHOICE.late:
        say(
            f"{' and '.join(CHOICE.late)} chose kernels before `import thaw`: results may differ in their last digits "
            f"from those on {BASELINE}; in a new process, import thaw first"
        )
