"""What the bytes of the results rest on: the libraries that compute, and which of their kernels.

The processor itself is not among it: on all that have the baseline, the results are the same.
"""

import importlib.metadata

from thaw.core import kernels

LIBRARIES = (  # those that compute or decode; their packages as pip names them
    *("keras", "numpy", "opencv-python-headless", "openvino", "pillow", "polars", "scikit-learn", "scipy"),
    "tensorflow",
)


def computed_with() -> dict[str, object]:
    """Return the `kernels` that this process uses, in words, and the version of each of `libraries`."""
    return {
        "kernels": kernels.describe(kernels.CHOICE),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # such as OpenCV from another package
        return "not from this package"
