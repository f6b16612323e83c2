"""Build the pre-trained network and keep it in `models/backbone`, in Keras' and in OpenVINO's format.

`backbone.keras` is the network, an EfficientNet-Lite's with its 1000-class top; `backbone.xml` and `.bin` are the same
for the engine, with an output at every cut point; `backbone.json` lists the cut points and `classes.csv` the classes.

`python src/backbone.py --list` builds nothing that lasts: it prints what each cut point costs, from what it takes to
keep its output to what it takes to train the rest.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from math import prod
from pathlib import Path

import polars as pl

if __name__ == "__main__" and "--list" not in sys.argv:  # which times how long training takes
    import thaw.keras_alone  # noqa: F401

from thaw import inference, models, openvino, params, tables
from thaw.backbone_names import BACKBONES, FEATURES
from thaw.backbones import costs, registry
from thaw.backbones.cut_points import find_cut_points
from thaw.conversion import convert
from thaw.errors import ThawError, run
from thaw.files import whole_folder
from thaw.keras import keras
from thaw.params import Backbone

PARAMS = Path("params.yaml")
OUTPUT = Path("models/backbone")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the backbone of params.yaml.", allow_abbrev=False)
    parser.add_argument("--list", action="store_true", help="print what each cut point costs, and build nothing")
    parser.add_argument("--size", type=int, help="of the photographs for --list; else what it was trained on")
    arguments = parser.parse_args()
    backbone = params.load(PARAMS).backbone
    if arguments.size is not None and not arguments.list:
        parser.error("--size wants --list: image.size is that of the pipeline")
    if arguments.list:
        list_cut_points(backbone, BACKBONES[backbone.name].size if arguments.size is None else arguments.size)
        return
    if backbone.weights and Path(backbone.weights).resolve() == OUTPUT.with_name("model.keras").resolve():
        raise ThawError(f"backbone.weights: this pipeline writes {backbone.weights} itself: copy it elsewhere first")
    with whole_folder(OUTPUT) as folder:
        model = write(backbone, folder)
    cuts = json.loads((OUTPUT / "backbone.json").read_text())["cut_points"]
    parameters = f"{model.count_params() / 1e6:.1f} M parameters"
    print(f"backbone: {backbone.name}, {parameters}, {len(cuts)} cut points, weights {backbone.weights}")


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
    openvino.write(convert(keras.Model(model.input, outputs, name=model.name)), folder / "backbone.xml")
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


def list_cut_points(backbone: Backbone, size: int) -> None:
    if size < BACKBONES[backbone.name].least:
        raise ThawError(f"--size should be at least {BACKBONES[backbone.name].least} for {backbone.name}, not {size}")
    backbone = backbone.model_copy(update={"weights": None})  # whatever they are, they cost the same
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "backbone.xml"
        model = write(backbone, Path(folder))
        cuts = find_cut_points(model, FEATURES)
        shapes = inference.output_shapes(network, [cut.layer for cut in cuts], size)
        work = costs.multiply_adds(network, size)
    learnt = {None: 0} | {cut.layer: cut.parameters_before for cut in cuts}
    done = {None: 0} | {cut.layer: work[cut.layer] for cut in cuts}
    behind = [work[FEATURES] - before for before in done.values()]
    seconds = costs.training_seconds(model, {layer: shapes[layer] for layer in done}, behind)

    print(f"{backbone.name} at {size} pixels: what lies before and behind each cut point, the size of its output, and")
    print("about how long an epoch of 1,000 photographs takes on this machine that trains what lies behind it.\n")
    print(f"{'':40}{'parameters, M':>16}{'multiply-adds, M':>18}{'output':>10}{'epoch':>9}")
    for (layer, before), additions, rest, epoch in zip(learnt.items(), done.values(), behind, seconds, strict=True):
        kilobytes = prod(shapes[layer]) * (2 if layer else 1) / 1000
        of_parameters = f"{before / 1e6:.2f} {(learnt[FEATURES] - before) / 1e6:7.2f}"
        print(f"{layer or 'none':40}{of_parameters:>16}{f'{additions / 1e6:,.0f} {rest / 1e6:8,.0f}':>18}"
              f"{kilobytes:7,.0f} kB{1000 * epoch:7,.1f} s")  # fmt: skip


if __name__ == "__main__":
    run(main)
