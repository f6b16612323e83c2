"""What an export format is: `Format`, and what it writes: `ModelToExport`.

To add a format, write a module beside this one with a function that writes it, one that loads it and a `Format` that
binds them, and register it in `registry`. The help of `export.py` lists all formats, so a module imports TensorFlow and
other heavy packages only inside its functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras

Engine = Callable[[np.ndarray], np.ndarray]  # (1, size, size, 3) float32 pixels to (1, classes) float32 probabilities
IMAGE, PROBABILITIES = "image", "probabilities"  # names of the input and the output in every format


@dataclass(frozen=True)
class ModelToExport:
    """A Keras model, and what a format needs to write it."""

    model: "keras.Model"
    metadata: dict[str, object]  # of `metadata.describe`
    calibration: np.ndarray | None = None  # (n, size, size, 3) uint8 images, for formats that need them

    @property
    def size(self) -> int:
        """Pixels of each side of an image."""
        return self.metadata["image"]["size"]


@dataclass(frozen=True)
class Format:
    """An export format. Its path is a file, or a folder if it has no ending."""

    name: str  # in `--format`
    path: str  # in the folder of exports
    description: str
    write: Callable[[ModelToExport, Path], None]
    load: Callable[[Path], Engine]
    tolerance: float | None = 1e-4  # the largest difference of a probability from Keras'

    @property
    def is_quantised(self) -> bool:
        """Without a tolerance: it is calibrated on images, and checked by its labels, on more images."""
        return self.tolerance is None
