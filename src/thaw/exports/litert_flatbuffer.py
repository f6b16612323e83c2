"""Changes in the flatbuffer of a LiteRT model: its description, and weights in float16."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from thaw.exports.base import IMAGE, PROBABILITIES
from thaw.exports.metadata import LABELS_FILE

MIN_HALVED_NUMBERS = 4096  # a tensor of fewer stays float32 in a float16 model
MAX_ROUNDING_ERROR = 1e-3  # relative, of a tensor in float16; usual is 2e-4, more means numbers beyond its range


def rewrite(model: bytes, metadata: dict, halves_weights: bool) -> bytes:
    """Return a model of TensorFlow's converter with the table TFLITE_METADATA, and with large weights in float16."""
    network = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    if halves_weights:
        _halve(network)
    _describe(network, metadata)
    builder = _Aligned()
    builder.Finish(network.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Aligned(flatbuffers.Builder):
    """Aligns each array of bytes to 16, as the schema requires; the generated Python code does not do so."""

    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803 - as flatbuffers calls it
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


def _halve(network: schema.ModelT) -> None:
    """Store the large weights in float16, each followed by an operator that widens it to float32.

    TensorFlow's converter does so with all weights. Biases and depthwise convolutions are a hundredth of the bytes, but
    cause most of the error if BatchNorm was folded into them.
    """
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # the first that takes float16
    for graph in network.subgraphs:
        widen = []
        for position, tensor in enumerate(list(graph.tensors)):
            data = network.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) < 4 * MIN_HALVED_NUMBERS:
                continue
            values = np.asarray(data).view(np.float32)
            with np.errstate(over="ignore"):
                halved = values.astype(np.float16)
            if not np.linalg.norm(halved - values) < MAX_ROUNDING_ERROR * np.linalg.norm(values):
                continue
            half, buffer, step = schema.TensorT(), schema.BufferT(), schema.OperatorT()
            buffer.data = np.frombuffer(halved.tobytes(), np.uint8)
            half.shape, half.type, half.name = tensor.shape, schema.TensorType.FLOAT16, tensor.name + b"/float16"
            half.buffer, tensor.buffer = len(network.buffers), 0  # buffer 0 is empty: the tensor is computed
            step.opcodeIndex, step.inputs, step.outputs = len(network.operatorCodes), [len(graph.tensors)], [position]
            network.buffers.append(buffer)
            graph.tensors.append(half)
            widen.append(step)
        graph.operators = widen + graph.operators
    network.operatorCodes.append(code)
    read = {tensor.buffer for graph in network.subgraphs for tensor in graph.tensors}
    read |= {entry.buffer for entry in network.metadata or []}
    for number, buffer in enumerate(network.buffers):
        if number not in read:
            buffer.data = None


def _describe(network: schema.ModelT, metadata: dict) -> None:
    """Add the table TFLITE_METADATA."""
    table, entry = schema.BufferT(), schema.MetadataT()
    table.data = np.frombuffer(_description(metadata), np.uint8)
    entry.name, entry.buffer = "TFLITE_METADATA", len(network.buffers)
    network.buffers.append(table)
    network.metadata = [*(network.metadata or []), entry]


def _description(metadata: dict) -> bytes:
    """Return a flatbuffer of `metadata_schema.fbs` (tensorflow/tflite-support).

    It says: the input is an RGB image without scaling, the output is probabilities of the classes in LABELS_FILE. The
    numbers below are positions of fields, and members of the enumerations, of that schema.
    """
    builder = flatbuffers.Builder()

    def table(fields: dict[int, int], small: dict[int, int] | None = None) -> int:
        builder.StartObject(8)
        for slot, value in fields.items():
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        for slot, value in (small or {}).items():
            builder.PrependUint8Slot(slot, value, 0)
        return builder.EndObject()

    def vector(*offsets: int) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def numbers(value: float) -> int:
        return builder.CreateNumpyVector(np.float32([value]))

    text = builder.CreateString
    size = metadata["image"]["size"]
    builder.StartObject(2)
    builder.PrependUint32Slot(0, size, 0)
    builder.PrependUint32Slot(1, size, 0)
    properties = table({1: builder.EndObject()}, {0: 1})  # ImageProperties, RGB
    content = table({1: properties}, {0: 2})
    unscaled = vector(table({1: table({0: numbers(0.0), 1: numbers(1.0)})}, {0: 1}))  # NormalizationOptions
    names = vector(table({0: text(LABELS_FILE), 1: text("class names")}, {2: 2}))  # TENSOR_AXIS_LABELS
    image = table({0: text(IMAGE), 1: text(metadata["input"]), 3: content, 4: unscaled})
    output = table({0: text(PROBABILITIES), 1: text(metadata["output"]), 6: names})
    subgraph = table({2: vector(image), 3: vector(output)})
    model = table({0: text("classifier"), 3: vector(subgraph), 7: text("1.0.0")})
    builder.Finish(model, b"M001")
    return bytes(builder.Output())
