"""Where a network can be cut: the layers whose output alone determines the rest."""

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from thaw.core.errors import ThawError, did_you_mean

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras

FEATURES = "features"  # the layer whose output is the embedding, the last cut point of every backbone


@dataclass(frozen=True)
class CutPoint:
    layer: str
    parameters_before: int  # of this layer and all before it

    as_dict = asdict


def find_cut_points(model: "keras.Model", last: str) -> list[CutPoint]:
    """List the cut points of a functional model from the input to the layer `last`, in the order of computation.

    The layers are visited in that order. A layer is a cut point if its output is the only tensor so far that a later
    layer reads: no skip connection passes it. Before the first layer with weights there is no cut point: there lies the
    pre-processing, and to keep its output would be to keep the images. In a network without weights of Keras, `last` is
    the only one.
    """
    steps = model.operations  # layers, and the bare additions and products that some networks have between them
    inputs = [{id(tensor) for tensor in _as_list(step.input)} for step in steps]
    outputs = [{id(tensor) for tensor in _as_list(step.output)} for step in steps]
    last_use = {tensor: position for position, tensors in enumerate(inputs) for tensor in tensors}
    last_use |= {id(tensor): len(steps) for tensor in model.outputs}
    cut_points, open_tensors, parameters, has_weights = [], set(), 0, False
    for position, step in enumerate(steps):
        open_tensors = {t for t in open_tensors | outputs[position] if last_use.get(t, -1) > position}
        if hasattr(step, "count_params"):  # a layer
            parameters += step.count_params()
            has_weights = has_weights or bool(step.trainable_weights)
            if (has_weights or step.name == last) and len(open_tensors) == 1 and open_tensors == outputs[position]:
                cut_points.append(CutPoint(step.name, parameters))
        if step.name == last:
            break
    return cut_points


def resolve(
    depth: str, layers: list[str], behind_cut: list[str] = (), parameter: str = "fine_tune.freeze_depth"
) -> str | None:
    """Return the layer that a depth stands for.

    Args:
        depth: a cut point, a block (its last cut point), `all` (the last cut point of all) or `none`.
        layers: the cut points of the backbone, in order.
        behind_cut: the cut points that `backbone.cut` left out.
        parameter: what error messages call the depth.

    Returns:
        One of `layers`, or None for `none`.

    Raises:
        ThawError: `depth` is no cut point, with the nearest valid values; or `backbone.cut` left it out.
    """
    if depth == "all":
        return layers[-1]
    if depth == "none":
        return None
    if matching := [layer for layer in layers if layer == depth or within_block(layer, depth)]:
        return depth if depth in matching else matching[-1]
    if any(layer == depth or within_block(layer, depth) for layer in behind_cut):
        raise ThawError(f"{parameter} {depth!r} lies behind backbone.cut: the last that is left is {layers[-2]}")
    keywords = ["all", "none"] if parameter == "fine_tune.freeze_depth" else []
    names = dict.fromkeys([*keywords, *(block for layer in layers for block in blocks_of(layer)), *layers])
    raise ThawError(f"{parameter} {depth!r} is no cut point of this backbone{did_you_mean(depth, names)}")


def resolve_depths(freeze_depth: str | list[str], backbone: dict) -> list[str | None]:
    """Return the layer that each depth of `fine_tune.freeze_depth` stands for, as `resolve` does.

    `backbone` is the content of backbone.json.
    """
    layers = [point["layer"] for point in backbone["cut_points"]]
    depths = [freeze_depth] if isinstance(freeze_depth, str) else freeze_depth
    return [resolve(depth, layers, backbone["behind_cut"]) for depth in depths]


def blocks_of(layer: str) -> list[str]:
    """List the blocks that a layer belongs to by its name, the innermost first.

    `block5b_add` belongs to `block5b` and `block5`, `conv4_block2_out` to `conv4_block2` and `conv4`.
    """
    ends = [match.end() for match in re.finditer(r"\d+(?=[_/a-z]|$)|(?<=\d)[a-z](?=[_/]|$)", layer)]
    return [layer[:end] for end in reversed(ends)] or [re.split("[_/]", layer)[0]]


def within_block(layer: str, block: str) -> bool:
    """Return whether a layer belongs to a block by its name: `block5b_add` to `block5` and `block5b`, not `block`."""
    return re.match(rf"{re.escape(block)}((?<=\d)[a-z])?([_/]|$)", layer) is not None


def _as_list(tensors) -> list:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]
