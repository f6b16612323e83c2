"""ONNX: a `.onnx` file with the metadata in `metadata_props`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.exports.base import IMAGE, PROBABILITIES, Engine, Format, ModelToExport
from thaw.exports.metadata import as_text

if TYPE_CHECKING:
    import onnx


OPSET = 18  # of December 2022: newer ones add nothing to these networks, and older runtimes can read it


def write(source: ModelToExport, path: Path) -> None:
    """Write a model for batches of any length."""
    import onnx
    from tf2onnx import convert

    from thaw.exports import graphs

    graph = graphs.freeze(source.model, source.size)
    names = {"input_names": [f"{IMAGE}:0"], "output_names": [f"{PROBABILITIES}:0"]}
    converted, _ = convert.from_graph_def(graph, **names, opset=OPSET)
    _rename(converted.graph)
    onnx.helper.set_model_props(converted, as_text(source.metadata))
    onnx.checker.check_model(converted)
    path.write_bytes(converted.SerializeToString(deterministic=True))


def load(path: Path) -> Engine:
    """Return a function from (n, size, size, 3) float32 pixels to (n, classes) float32 probabilities."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run([PROBABILITIES], {IMAGE: pixels})[0]


def _rename(graph: "onnx.GraphProto") -> None:
    """Give names that are the same in every process.

    tf2onnx numbers them with a counter of the process, and keeps any one of equal constants.

    Nodes keep the names of their layers. Constants are named after the first node that reads them.
    """
    new = {graph.input[0].name: IMAGE, graph.output[0].name: PROBABILITIES}
    constants = {constant.name: constant for constant in graph.initializer}
    used: dict[str, int] = {}
    for node in graph.node:
        stem = re.sub(r"__\d+", "", node.name)
        used[stem] = used.get(stem, 0) + 1
        node.name = stem if used[stem] == 1 else f"{stem}__{used[stem]}"
        for position, name in enumerate(node.input):
            if name in constants:
                new.setdefault(name, f"{node.name}/{position}")
        for position, name in enumerate(node.output):
            new.setdefault(name, f"{node.name}:{position}")
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    for constant in constants.values():
        constant.name = new[constant.name]
    ordered = sorted(graph.initializer, key=lambda constant: constant.name)
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(ordered)
    for value in (graph.input[0], graph.output[0]):
        value.name = new[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "n"


FORMAT = Format("onnx", "model.onnx", "ONNX", write, load)
