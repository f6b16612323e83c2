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

    Walking the layers in topological order, a layer is a cut point where its output is the only tensor computed so
    far that a later layer still needs: no skip connection passes it.
    """
    layers = [layer for layer in model.layers if layer.output is not None]
    inputs = {layer.name: [id(t) for t in _as_list(layer.input)] for layer in layers}
    outputs = {layer.name: [id(t) for t in _as_list(layer.output)] for layer in layers}
    last_use = {tensor: position for position, layer in enumerate(layers) for tensor in inputs[layer.name]}
    total = model.count_params()
    cuts, open_tensors, before = [], set(), 0
    for position, layer in enumerate(layers):
        open_tensors = {
            tensor for tensor in open_tensors | set(outputs[layer.name]) if last_use.get(tensor, -1) > position
        }
        before += layer.count_params()
        if open_tensors == set(outputs[layer.name]) and len(open_tensors) == 1 and position > 0:
            cuts.append(CutPoint(layer.name, tuple(layer.output.shape[1:]), before, total - before))
        if layer.name == last:
            break
    return cuts


def resolve(freeze_depth: str, layers: list[str]) -> str | None:
    """Return the last frozen layer that `freeze_depth` names: a cut point, a block (its last cut point), `all`
    (the last of all), or `none` (None). Raises ThawError that names the nearest ones otherwise."""
    if freeze_depth == "all":
        return layers[-1]
    if freeze_depth == "none":
        return None
    if freeze_depth in layers:
        return freeze_depth
    within = [layer for layer in layers if block_of(layer, freeze_depth)]
    if within:
        return within[-1]
    blocks = sorted({match[0] for layer in layers if (match := re.match(r"[a-z]+\d*", layer))})
    raise ThawError(
        f"fine_tune.freeze_depth {freeze_depth!r} is no cut point of this backbone"
        f"{nearest(freeze_depth, ['all', 'none', *blocks, *layers])}"
    )


def block_of(layer: str, block: str) -> bool:
    """Say whether a layer belongs to a block by its name: `block5b_add` to `block5` and `block5b`, not to `block`."""
    return re.match(rf"{re.escape(block)}((?<=\d)[a-z])?(_|$)", layer) is not None


def _as_list(tensors) -> list:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]
