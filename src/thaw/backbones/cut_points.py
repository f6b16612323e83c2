"""Where a network can be cut: the layers whose output alone determines the rest."""

import re
from dataclasses import asdict, dataclass

from thaw.errors import ThawError, nearest


@dataclass(frozen=True)
class CutPoint:
    layer: str
    shape: tuple[int | None, ...]  # of one activation, without the batch; None where it follows the image's size
    parameters_before: int
    parameters_behind: int

    as_dict = asdict


def find_cut_points(model, last: str) -> list[CutPoint]:
    """List the cut points of a functional Keras model from the input to the layer `last`, in order of computation.

    Walking the graph in topological order, a layer is a cut point where its output is the only tensor computed so
    far that a later one still needs: no skip connection passes it. The pre-processing, ahead of the first layer that
    learns, has none: to keep its output would be to keep the photographs.
    """
    steps = (
        model.operations
    )  # the layers, and the bare additions and products that stand between those of some networks
    inputs = [{id(tensor) for tensor in _as_list(step.input)} for step in steps]
    outputs = [{id(tensor) for tensor in _as_list(step.output)} for step in steps]
    last_use = {tensor: position for position, tensors in enumerate(inputs) for tensor in tensors}
    last_use |= {id(tensor): len(steps) for tensor in model.outputs}
    total = model.count_params()
    cuts, open_tensors, before, learnt = [], set(), 0, False
    for position, step in enumerate(steps):
        open_tensors = {t for t in open_tensors | outputs[position] if last_use.get(t, -1) > position}
        if hasattr(step, "count_params"):  # a layer
            before += step.count_params()
            learnt = learnt or bool(step.trainable_weights)
            if learnt and len(open_tensors) == 1 and open_tensors == outputs[position]:
                cuts.append(CutPoint(step.name, tuple(step.output.shape[1:]), before, total - before))
        if step.name == last:
            break
    return cuts


def resolve(
    depth: str, layers: list[str], behind_cut: list[str] = (), parameter: str = "fine_tune.freeze_depth"
) -> str | None:
    """Return the layer that a depth names: a cut point, a block (its last cut point), `all` (the last of all), or
    `none` (None). Raises ThawError that names the wrong `parameter` otherwise, and the nearest right values, or that
    the depth is one of those that `backbone.cut` left out."""
    if depth == "all":
        return layers[-1]
    if depth == "none":
        return None
    if within := [layer for layer in layers if layer == depth or within_block(layer, depth)]:
        return depth if depth in within else within[-1]
    if any(layer == depth or within_block(layer, depth) for layer in behind_cut):
        raise ThawError(f"{parameter} {depth!r} lies behind backbone.cut: the last that is left is {layers[-2]}")
    whole = ["all", "none"] if parameter == "fine_tune.freeze_depth" else []
    names = dict.fromkeys([*whole, *(block for layer in layers for block in blocks_of(layer)), *layers])
    raise ThawError(f"{parameter} {depth!r} is no cut point of this backbone{nearest(depth, names)}")


def blocks_of(layer: str) -> list[str]:
    """List the blocks that a layer belongs to by its name, the innermost first: `block5b_add` to `block5b` and
    `block5`, `conv4_block2_out` to `conv4_block2` and `conv4`."""
    ends = [match.end() for match in re.finditer(r"\d+(?=[_/a-z]|$)|(?<=\d)[a-z](?=[_/]|$)", layer)]
    return [layer[:end] for end in reversed(ends)] or [re.split("[_/]", layer)[0]]


def within_block(layer: str, block: str) -> bool:
    """Say whether a layer belongs to a block by its name: `block5b_add` to `block5` and `block5b`, not to `block`."""
    return re.match(rf"{re.escape(block)}((?<=\d)[a-z])?([_/]|$)", layer) is not None


def _as_list(tensors) -> list:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]
