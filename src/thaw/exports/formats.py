"""The formats by name, and how one is written, checked and kept; this module alone needs no TensorFlow."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from thaw.deployed import Decision, Description
from thaw.errors import ThawError
from thaw.files import whole_file, whole_folder

Engine = Callable[[np.ndarray], np.ndarray]  # (1, size, size, 3) float32 pixels to (1, classes) float32 probabilities
Checked = TypeVar("Checked")


@dataclass(frozen=True)
class Format:
    place: str  # of the file, or of the folder where there is no ending
    words: str
    tolerance: float | None = None  # difference of a probability from Keras'; None: measured by its answers


FORMATS = {
    "tflite": Format("model.tflite", "LiteRT (TensorFlow Lite)", 1e-4),
    "tflite-float16": Format("model-float16.tflite", "LiteRT, half the size", 1e-2),
    "tflite-int8": Format("model-int8.tflite", "LiteRT in 8 bits, calibrated on training photographs"),
    "onnx": Format("model.onnx", "ONNX", 1e-4),
    "openvino": Format("openvino", "OpenVINO", 1e-4),
    "saved_model": Format("saved_model", "TensorFlow's SavedModel", 1e-4),
}

RESIZED = {
    "crop": "scaled by area (linearly where it grows) until the short side fits, then the middle square of it",
    "pad": "scaled by area (linearly where it grows) until the long side fits, in the middle of a black square",
    "squash": "both sides scaled by area (linearly where one grows)",
}


def describe(description: Description, decision: Decision | None) -> dict[str, object]:
    """Return what is written into an export: what `metadata.json` of the model says, and how to use it."""
    size, (first, *others) = description.size, description.classes
    use, chosen = "", {}
    if decision is not None:
        chosen = {"temperature": decision.temperature, "threshold": decision.threshold}
        if decision.test_time_flips:
            chosen["test_time_flips"] = decision.test_time_flips
            use = "; p is the mean of those of a photograph and of its mirror images"
        use += "; p^(1 / temperature), scaled to sum to 1, are the calibrated ones"
        if decision.threshold is not None:
            use += f", and {others[0]!r} is the answer where its own lies above threshold, else {first!r}"
    return {
        "class_names": list(description.classes),
        "image": {"size": size, "resize": description.resize},
        "input": f"image: float32, {size} x {size} pixels of RGB, 0 to 255, of an upright photograph, "
        + RESIZED[description.resize],
        "output": f"probabilities: float32, in the order of class_names{use}",
    } | chosen


def as_text(facts: dict[str, object]) -> dict[str, str]:
    """Return the facts for a format whose metadata are text: what is not text is JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in facts.items()}  # fmt: skip


def export(
    name: str,
    model,
    facts: dict[str, object],
    place: Path,
    calibration: np.ndarray | None,
    check: Callable[[Engine], Checked],
) -> Checked:
    """Write a Keras model to `place` in the format `name`, unless `check`, given the engine that runs it, raises.

    calibration (n, size, size, 3) uint8, for int8 alone. Returns what `check` does. What the converters and engines
    say stays off the terminal; raises ThawError where one fails.
    """
    from thaw.exports import graphs, onnx, openvino, saved_model, tflite

    write, load = {
        "tflite": (tflite.write, tflite.load),
        "tflite-float16": (partial(tflite.write, precision="float16"), tflite.load),
        "tflite-int8": (partial(tflite.write, precision="int8", calibration=calibration), tflite.load),
        "onnx": (onnx.write, onnx.load),
        "openvino": (openvino.write, openvino.load),
        "saved_model": (saved_model.write, saved_model.load),
    }[name]
    whole = whole_file if place.suffix else whole_folder
    with whole(place) as temporary, graphs.silence():
        try:
            write(model, facts, temporary)
            engine = load(temporary)
        except (ThawError, OSError):
            raise
        except Exception as error:  # each converter has its own
            words = " ".join(str(error).split())[:200]
            raise ThawError(f"this network cannot be written so ({type(error).__name__}: {words})") from error
        return check(engine)
