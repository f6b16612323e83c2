"""A backbone as files: what `models/backbone` holds."""

import hashlib
import json
from pathlib import Path

import polars as pl

from thaw import models, openvino, tables
from thaw.backbone_names import BACKBONES, FEATURES
from thaw.backbones import registry
from thaw.backbones.cut_points import find_cut_points
from thaw.keras import keras
from thaw.params import Backbone


def write(backbone: Backbone, folder: Path) -> keras.Model:
    """Write all that `models/backbone` holds into `folder`; return the model."""
    model, behind_cut = registry.build(backbone.name, backbone.weights, backbone.seed, backbone.cut, backbone.pooling)
    cuts = find_cut_points(model, FEATURES)
    outputs = {cut.layer: model.get_layer(cut.layer).output for cut in cuts}
    metadata = {}
    if model.output is not outputs[FEATURES]:
        classes = pl.DataFrame(registry.imagenet_classes(), ["wordnet_id", "name"], orient="row")
        tables.write(classes, folder / "classes.csv")
        metadata["class_names"] = classes["name"].to_list()
        outputs["predictions"] = model.output
    models.save(model, folder / "backbone.keras", metadata)
    openvino.write(keras.Model(model.input, outputs), folder / "backbone.xml")
    description = {
        "name": backbone.name,
        "size": BACKBONES[backbone.name].size,
        "weights": fingerprint(backbone.weights),
        "cut_points": [cut.as_dict() for cut in cuts],
        "behind_cut": behind_cut,
    }
    (folder / "backbone.json").write_text(json.dumps(description, indent=1) + "\n")
    return model


def fingerprint(weights: str | None) -> str | None:
    """Name the weights; those of a file by what is in it, not by where it lies on this machine."""
    if weights in (None, "imagenet"):
        return weights
    with Path(weights).open("rb") as file:
        return f"{Path(weights).name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
