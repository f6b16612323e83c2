"""LiteRT (TensorFlow Lite): a `.tflite` file for one photograph at a time.

It carries its metadata as the field does (https://ai.google.dev/edge/litert/conversion/tensorflow/metadata): a
description in its table `TFLITE_METADATA`, read by MediaPipe, and a zip archive behind the model with `labels.txt`,
so that `unzip` and Python's `zipfile` open the file as well. There lies `metadata.json`, as in a `.keras` file.
"""

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from thaw.exports import graphs
from thaw.keras import keras
from thaw.tensorflow import tf

LABELS = "labels.txt"
SMALL = 4096  # numbers in a tensor; one of fewer stays float32 in a model of float16
ROUNDED = 1e-3  # relative error of a tensor in float16, else 2e-4; one of more has numbers beyond its range


def write(
    model: keras.Model, facts: dict, path: Path, precision: str = "float32", calibration: np.ndarray | None = None
) -> None:
    """Write a model in `float32`, with its large weights in `float16`, or in `int8`: weights and activations.

    The ranges of the activations are those of the photographs `calibration`, (n, size, size, 3) uint8. Input and
    output are float32 whatever the precision; what has no int8 form stays float32.
    """
    size = facts["image"]["size"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "saved_model.pb").write_bytes(graphs.saved_model(graphs.freeze(model, size, batch=1)))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([view[None].astype(np.float32)] for view in calibration)
        network = schema.ModelT.InitFromObj(schema.Model.GetRootAs(converter.convert()))
    if precision == "float16":
        _halve(network)
    _describe(network, facts)
    builder = _Aligned()
    builder.Finish(network.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()) + _archive(facts))


def load(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from (1, size, size, 3) float32 pixels to (1, classes) float32 probabilities."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    answer = interpreter.get_signature_runner()
    return lambda pixels: answer(**{graphs.IMAGE: pixels})[graphs.PROBABILITIES]


def _archive(facts: dict) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:  # stored: MediaPipe reads it where it lies
        for name, text in ((LABELS, labels(facts)), ("metadata.json", json.dumps(facts, ensure_ascii=False))):
            file.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), text)
    return archive.getvalue()


def labels(facts: dict) -> str:
    """Return the class names, one a line."""
    return "".join(f"{name}\n" for name in facts["class_names"])


class _Aligned(flatbuffers.Builder):
    """The schema wants each array of bytes to begin at a multiple of 16; its Python code does not see to it."""

    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803 - as flatbuffers calls it
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


def _halve(network: schema.ModelT) -> None:
    """Keep the large weights in float16, each behind a step that widens it, as TensorFlow's converter does with all.

    The converter halves biases and depthwise convolutions, too: a hundredth of the bytes and, where BatchNorm has
    been folded into them, most of the error.
    """
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # the first that takes float16
    for graph in network.subgraphs:
        widening = []
        for place, tensor in enumerate(list(graph.tensors)):
            data = network.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) < 4 * SMALL:
                continue
            values = np.asarray(data).view(np.float32)
            with np.errstate(over="ignore"):
                halved = values.astype(np.float16)
            if not np.linalg.norm(halved - values) < ROUNDED * np.linalg.norm(values):
                continue
            half, buffer, step = schema.TensorT(), schema.BufferT(), schema.OperatorT()
            buffer.data = np.frombuffer(halved.tobytes(), np.uint8)
            half.shape, half.type, half.name = tensor.shape, schema.TensorType.FLOAT16, tensor.name + b"/float16"
            half.buffer, tensor.buffer = len(network.buffers), 0  # 0 is the empty one: the tensor is computed
            step.opcodeIndex, step.inputs, step.outputs = len(network.operatorCodes), [len(graph.tensors)], [place]
            network.buffers.append(buffer)
            graph.tensors.append(half)
            widening.append(step)
        graph.operators = widening + graph.operators
    network.operatorCodes.append(code)
    read = {tensor.buffer for graph in network.subgraphs for tensor in graph.tensors}
    read |= {entry.buffer for entry in network.metadata or []}
    for number, buffer in enumerate(network.buffers):
        if number not in read:
            buffer.data = None


def _describe(network: schema.ModelT, facts: dict) -> None:
    """Add the table that describes a model."""
    table, entry = schema.BufferT(), schema.MetadataT()
    table.data = np.frombuffer(_description(facts), np.uint8)
    entry.name, entry.buffer = "TFLITE_METADATA", len(network.buffers)
    network.buffers.append(table)
    network.metadata = [*(network.metadata or []), entry]


def _description(facts: dict) -> bytes:
    """Return the flatbuffer of `metadata_schema.fbs` (tensorflow/tflite-support) that says: an image as RGB, scaled
    by nothing, to probabilities named in LABELS. Numbers in it are places of fields and members of its enumerations."""
    builder = flatbuffers.Builder()

    def table(fields: dict[int, int], small: dict[int, int] | None = None) -> int:
        builder.StartObject(8)
        for place, value in fields.items():
            builder.PrependUOffsetTRelativeSlot(place, value, 0)
        for place, value in (small or {}).items():
            builder.PrependUint8Slot(place, value, 0)
        return builder.EndObject()

    def several(*offsets: int) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def numbers(value: float) -> int:
        return builder.CreateNumpyVector(np.float32([value]))

    text = builder.CreateString
    size = facts["image"]["size"]
    builder.StartObject(2)
    builder.PrependUint32Slot(0, size, 0)
    builder.PrependUint32Slot(1, size, 0)
    properties = table({1: builder.EndObject()}, {0: 1})  # ImageProperties, RGB
    content = table({1: properties}, {0: 2})
    unscaled = several(table({1: table({0: numbers(0.0), 1: numbers(1.0)})}, {0: 1}))  # NormalizationOptions
    names = several(table({0: text(LABELS), 1: text("class names")}, {2: 2}))  # TENSOR_AXIS_LABELS
    image = table({0: text(graphs.IMAGE), 1: text(facts["input"]), 3: content, 4: unscaled})
    output = table({0: text(graphs.PROBABILITIES), 1: text(facts["output"]), 6: names})
    subgraph = table({2: several(image), 3: several(output)})
    whole = table({0: text("classifier"), 3: several(subgraph), 7: text("1.0.0")})
    builder.Finish(whole, b"M001")
    return bytes(builder.Output())
