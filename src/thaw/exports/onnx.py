"""ONNX: a `.onnx` file, its metadata in `metadata_props`."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from thaw.exports import graphs
from thaw.exports.formats import as_text
from thaw.keras import keras
from thaw.tensorflow import tf

OPSET = 18  # of December 2022: what is newer adds nothing to these networks, and older runtimes read it


def write(model: keras.Model, facts: dict, path: Path) -> None:
    """Write a model for batches of any length."""
    from tf2onnx import convert

    graph = graphs.freeze(model, facts["image"]["size"])
    _without_erfc(graph)
    names = [f"{graphs.IMAGE}:0"], [f"{graphs.PROBABILITIES}:0"]
    converted, _ = convert.from_graph_def(graph, input_names=names[0], output_names=names[1], opset=OPSET)
    _name(converted.graph)
    onnx.helper.set_model_props(converted, as_text(facts))
    onnx.checker.check_model(converted)
    path.write_bytes(converted.SerializeToString(deterministic=True))


def load(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from (n, size, size, 3) float32 pixels to (n, classes) float32 probabilities."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run([graphs.PROBABILITIES], {graphs.IMAGE: pixels})[0]


def _without_erfc(graph: tf.compat.v1.GraphDef) -> None:
    """Write erfc(x), which GELU is made of and tf2onnx does not know, as 1 - erf(x)."""
    for node in [node for node in graph.node if node.op == "Erfc"]:
        one = graph.node.add(name=f"{node.name}/one", op="Const")
        one.attr["dtype"].type = tf.float32.as_datatype_enum
        one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0))
        erf = graph.node.add(name=f"{node.name}/erf", op="Erf", input=node.input)
        erf.attr["T"].CopyFrom(node.attr["T"])
        node.op, node.input[:] = "Sub", [one.name, erf.name]


def _name(graph: onnx.GraphProto) -> None:
    """Name everything by its place: tf2onnx numbers with a counter of the process, and of equal constants keeps any.

    Nodes keep the names of the layers they come from; constants are named after the first node that reads them.
    """
    new = {graph.input[0].name: graphs.IMAGE, graph.output[0].name: graphs.PROBABILITIES}
    constants = {constant.name: constant for constant in graph.initializer}
    used: dict[str, int] = {}
    for node in graph.node:
        stem = re.sub(r"__\d+", "", node.name)
        used[stem] = used.get(stem, 0) + 1
        node.name = stem if used[stem] == 1 else f"{stem}__{used[stem]}"
        for place, name in enumerate(node.input):
            if name in constants:
                new.setdefault(name, f"{node.name}/{place}")
        for place, name in enumerate(node.output):
            new.setdefault(name, f"{node.name}:{place}")
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
