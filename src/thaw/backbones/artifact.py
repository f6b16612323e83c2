"""The folder of a backbone: its network in Keras' and in OpenVINO's format, its cut points and its classes."""

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from thaw.backbones import building, registry
from thaw.backbones.cut_points import FEATURES, find_cut_points
from thaw.backbones.imagenet import imagenet_classes
from thaw.core import tables, weight_files
from thaw.core.files import write_json
from thaw.engines import model_files, openvino_setup
from thaw.engines.keras_setup import keras
from thaw.engines.keras_to_openvino import convert

if TYPE_CHECKING:
    from thaw.parameters.backbone import Backbone


def write(backbone: "Backbone", folder: Path) -> keras.Model:
    """Build a backbone and write all its files into `folder`; return the network."""
    source, weights, licence = _source(backbone)
    model, behind_cut = building.build(
        backbone.name, source, backbone.seed, backbone.cut, backbone.pooling, backbone.has_top, backbone.preprocess
    )
    cut_points = find_cut_points(model, FEATURES)
    outputs = {point.layer: model.get_layer(point.layer).output for point in cut_points}
    classes, metadata = [], {}
    if model.output is not outputs[FEATURES]:
        classes = imagenet_classes()
        metadata["class_names"] = [name for _, name in classes]
        outputs["predictions"] = model.output
    table = pl.DataFrame(classes, {"wordnet_id": pl.String, "name": pl.String}, orient="row")
    tables.write(table, folder / "classes.csv")
    model_files.save(model, folder / "backbone.keras", metadata)
    openvino_setup.write(convert(keras.Model(model.input, outputs, name=model.name)), folder / "backbone.xml")
    description = {
        "name": backbone.name,
        "size": model.input.shape[1] or registry.input_size(backbone.name).trained,
        "only_size": model.input.shape[1],
        "weights": weights,
        "licence": licence,
        "cut_points": [point.as_dict() for point in cut_points],
        "behind_cut": behind_cut,
        "classes": len(classes),
        "has_maps": len(model.get_layer(FEATURES).output.shape) == 4,
    }
    if registry.BACKBONES[backbone.name].read:
        description["own_network"] = model.get_layer("network").about
    write_json(folder / "backbone.json", description)
    return model


def _source(backbone: "Backbone") -> tuple[str | None, str | None, str | None]:
    """Return where the weights are, as `building.build` takes it; what they are called; and their licence, if known.

    A file is called by its name and content, not by its folder on this machine.
    """
    family, weights = registry.BACKBONES[backbone.name], backbone.weights
    is_published = weights in family.published
    licence = family.licence if is_published else None
    if weights is None or (is_published and not family.fetch):
        return weights, weights, licence
    path = family.fetch(backbone.name, weights) if is_published else weight_files.main_file(Path(weights))
    return str(path), f"{weights if is_published else path.name} sha256:{weight_files.sha256(path)}", licence
