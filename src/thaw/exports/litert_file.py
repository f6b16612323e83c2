"""LiteRT (TensorFlow Lite): a `.tflite` file for one image at a time.

Its metadata follow TensorFlow Lite's convention (https://ai.google.dev/edge/litert/conversion/tensorflow/metadata): a
description in the table `TFLITE_METADATA`, which MediaPipe reads, and behind the model a zip archive with `labels.txt`.
So `unzip` and Python's `zipfile` can open the file too. The archive also has `metadata.json`, as a `.keras` file has.
"""

import io
import json
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np

from thaw.core.machine import usable_cores
from thaw.exports.base import IMAGE, PROBABILITIES, Engine, Format, ModelToExport
from thaw.exports.metadata import LABELS_FILE, label_lines


def write(source: ModelToExport, path: Path, precision: str) -> None:
    """Write a model in `float32`, with its large weights in `float16`, or with weights and activations in `int8`.

    The calibration images give the ranges of the int8 activations. Operations without an int8 form stay float32. Input
    and output are always float32.
    """
    from thaw.engines.tensorflow_setup import tf
    from thaw.exports import graphs, litert_flatbuffer

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "saved_model.pb").write_bytes(
            graphs.saved_model(graphs.freeze(source.model, source.size, batch=1))
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([view[None].astype(np.float32)] for view in source.calibration)
        network = converter.convert()
    network = litert_flatbuffer.rewrite(network, source.metadata, halves_weights=precision == "float16")
    path.write_bytes(network + _archive(source.metadata))


def load(path: Path) -> Engine:
    """Return a function from (1, size, size, 3) float32 pixels to (1, classes) float32 probabilities."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=usable_cores())
    signature = interpreter.get_signature_runner()
    return lambda pixels: signature(**{IMAGE: pixels})[PROBABILITIES]


def _archive(metadata: dict) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:  # not compressed: MediaPipe reads the files in place
        for name, text in (
            (LABELS_FILE, label_lines(metadata)),
            ("metadata.json", json.dumps(metadata, ensure_ascii=False)),
        ):
            file.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), text)
    return archive.getvalue()


FORMATS = (
    Format("tflite", "model.tflite", "LiteRT (TensorFlow Lite)", partial(write, precision="float32"), load),
    Format(
        "tflite-float16",
        "model-float16.tflite",
        "LiteRT, half the size",
        partial(write, precision="float16"),
        load,
        1e-2,
    ),
    Format(
        "tflite-int8",
        "model-int8.tflite",
        "LiteRT in 8 bits, calibrated on training photographs",
        partial(write, precision="int8"),
        load,
        tolerance=None,
    ),
)
