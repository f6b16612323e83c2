"""Build the pre-trained network and keep it in `models/backbone`, in Keras' and in OpenVINO's format.

`backbone.keras` is the whole network with its 1000-class top; `backbone.xml` and `.bin` are the same for the engine,
with an output at every cut point; `backbone.json` lists the cut points and `classes.csv` the 1000 classes.
"""

import json
from pathlib import Path

import polars as pl

from thaw import models, openvino, params, tables
from thaw.backbones import registry
from thaw.backbones.cut_points import find_cut_points
from thaw.errors import run
from thaw.files import whole_folder
from thaw.tensorflow import keras

OUTPUT = Path("models/backbone")


def main() -> None:
    backbone = params.load(Path("params.yaml")).backbone
    model = registry.build(backbone.name, backbone.weights, backbone.seed)
    classes = pl.DataFrame(registry.imagenet_classes(), ["wordnet_id", "name"], orient="row")
    cuts = find_cut_points(model, registry.FEATURES)
    outputs = {cut.layer: model.get_layer(cut.layer).output for cut in cuts} | {"predictions": model.output}
    with whole_folder(OUTPUT) as folder:
        models.save(model, folder / "backbone.keras", {"class_names": classes["name"].to_list()})
        openvino.write(keras.Model(model.input, outputs), folder / "backbone.xml")
        tables.write(classes, folder / "classes.csv")
        description = {
            "name": backbone.name,
            "weights": backbone.weights,
            "cut_points": [cut.as_dict() for cut in cuts],
        }
        (folder / "backbone.json").write_text(json.dumps(description, indent=1) + "\n")
    parameters = model.count_params() / 1e6
    print(
        f"backbone: {backbone.name}, {parameters:.1f} M parameters, {len(cuts)} cut points, weights {backbone.weights}"
    )


if __name__ == "__main__":
    run(main)
