"""A table of what freezing up to each cut point of a backbone costs, for `python src/backbone.py --list`."""

import tempfile
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from thaw.backbones import artifact, costs
from thaw.backbones.cut_points import FEATURES, find_cut_points
from thaw.backbones.registry import BACKBONES, input_size
from thaw.core.errors import ThawError
from thaw.engines import inference

if TYPE_CHECKING:
    from thaw.parameters.backbone import Backbone


def cost_table(backbone: "Backbone", size: int | None) -> tuple[int, pl.DataFrame]:
    """Return a size in pixels, and a table for images of this size: a row for the input, `none`, and each cut point.

    With None, it is the size that the network was trained with. A network that cannot thaw has no row `none`.

    The columns are `layer`, `parameters_before`, `parameters_behind`, `multiply_adds_before` and `multiply_adds_behind`
    (of one image), `output_bytes` (of one image) and `training_seconds` (of one image, for all behind the layer).
    Raises ThawError if the network takes no images of `size` pixels.
    """
    can_thaw = BACKBONES[backbone.name].read is None
    if can_thaw:
        backbone = backbone.model_copy(update={"weights": None})  # the costs do not depend on the weights
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "backbone.xml"
        model = artifact.write(backbone, Path(folder))
        only = model.input.shape[1]
        size = size or only or input_size(backbone.name).trained
        if only not in (None, size):
            raise ThawError(f"--size should be {only}, not {size}: {model.name} takes images of this size alone")
        cut_points = find_cut_points(model, FEATURES)
        shapes = inference.output_shapes(network, [point.layer for point in cut_points], size)
        counts = costs.multiply_adds(network, size)
    layers = [None, *(point.layer for point in cut_points)]
    parameters = [0, *(point.parameters_before for point in cut_points)]
    before = [0, *(counts[point.layer] for point in cut_points)]
    behind = [counts[FEATURES] - count for count in before]
    seconds = [0.0] * len(layers)
    if can_thaw:
        seconds = costs.training_seconds(model, {layer: shapes[layer] for layer in layers}, behind)
    table = pl.DataFrame(
        {
            "layer": ["none", *layers[1:]],
            "parameters_before": parameters,
            "parameters_behind": [parameters[-1] - count for count in parameters],
            "multiply_adds_before": before,
            "multiply_adds_behind": behind,
            "output_bytes": [prod(shapes[layer]) * (2 if layer else 1) for layer in layers],  # float16; uint8 pixels
            "training_seconds": seconds,
        }
    )
    return size, table if can_thaw else table[1:]
