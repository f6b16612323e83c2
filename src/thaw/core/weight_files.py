"""The files that a file of weights consists of: some formats keep a part of their numbers beside it."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.core import hashes
from thaw.core.errors import ThawError

if TYPE_CHECKING:
    import onnx

FILE = "model.safetensors"  # in a folder of Hugging Face's or timm's


def main_file(path: Path) -> Path:
    """Return the file with weights that a path names: itself, or that of a folder as Hugging Face and timm write it."""
    return path / FILE if path.is_dir() else path


def parts(path: Path) -> list[Path]:
    """Return a file of weights, and the files beside it that hold a part of them.

    These are the `.bin` of an OpenVINO network in `.xml`, and the external data that an ONNX file names. Raises
    ThawError if one is missing.
    """
    others = []
    if path.suffix == ".xml":
        others = [path.with_suffix(".bin")]
    elif path.suffix == ".onnx":
        others = _external_data(path)
    for part in (path, *others):
        if not part.is_file():
            needed = f", which {path.name} needs" if part != path else ""
            others = sorted(other.name for other in part.parent.glob("*.bin")) if part.name == FILE else []
            instead = f"; {', '.join(others)} is in another format: save the network as safetensors" if others else ""
            raise ThawError(f"backbone.weights: there is no file {part}{needed}{instead}")
    return [path, *others]


def sha256(path: Path) -> str:
    """Return a hash of a file of weights with all its parts; raises ThawError if one is missing."""
    each = [hashes.sha256(part) for part in parts(path)]
    return each[0] if len(each) == 1 else hashlib.sha256(" ".join(each).encode()).hexdigest()


def _external_data(path: Path) -> list[Path]:
    """Return the files that an ONNX file names, in the order of their names; none if it is missing or damaged."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model(path, load_external_data=False).graph
    except (OSError, DecodeError):
        return []
    return sorted({path.parent / name for name in _locations(graph)})


def _locations(graph: "onnx.GraphProto") -> set[str]:
    import onnx

    tensors, found = list(graph.initializer), set()
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        tensors += [attribute.t, *attribute.tensors]
        for inner in (attribute.g, *attribute.graphs):
            found |= _locations(inner) if inner.node else set()
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            found |= {entry.value for entry in tensor.external_data if entry.key == "location"}
    return found
