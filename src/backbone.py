"""Build the pre-trained network and keep it in `models/backbone`, in Keras' and in OpenVINO's format.

`backbone.keras` is the network; with `backbone.top: true` it has its 1000 classes too. `backbone.xml` and `.bin` are
the same for OpenVINO, with an output at every cut point. `backbone.json` lists the cut points, `classes.csv` the
classes, if the network has them.

`python src/backbone.py --list` writes nothing. It prints what freezing up to each cut point costs: in disk to keep its
output, and in time to train the layers behind it.
"""

import argparse
from pathlib import Path

from thaw.backbones import registry
from thaw.core import params
from thaw.core.errors import ThawError, run
from thaw.core.files import atomic_files, read_json
from thaw.core.paths import named_path
from thaw.core.section import as_written
from thaw.core.words import plural
from thaw.parameters.backbone import Backbone

PARAMS = Path("params.yaml")
OUTPUT = Path("models/backbone")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Build the backbone of params.yaml.", epilog="example: python src/backbone.py --list --size 300",
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print what each cut point costs, and build nothing")
    parser.add_argument("--size", type=int, help="of the photographs for --list; default: that of the ImageNet weights")
    arguments = parser.parse_args()
    backbone = params.load(PARAMS).backbone
    if arguments.size is not None and not arguments.list:
        parser.error("--size needs --list: the pipeline uses image.size")
    located = backbone
    if backbone.weights and backbone.weights not in registry.PUBLISHED_WEIGHTS:
        located = backbone.model_copy(update={"weights": str(named_path(backbone.weights, "backbone.weights"))})
    if arguments.list:
        print_costs(located, arguments.size)
        return
    import thaw.engines.keras_without_tensorflow  # noqa: F401 - --list times training, which needs TensorFlow

    # isort: split
    from thaw.backbones import artifact

    if backbone.weights and Path(backbone.weights).resolve() == OUTPUT.with_name("model.keras").resolve():
        raise ThawError(f"backbone.weights: this pipeline writes {backbone.weights} itself: copy it elsewhere first")
    with atomic_files(OUTPUT) as folder:
        model = artifact.write(located, folder)
        description = read_json(folder / "backbone.json")
        params.check_backbone(PARAMS, description)  # a wrong freeze depth is an error now, before the work
    if about := description.get("own_network"):
        print(f"backbone: {backbone.weights}: {about}")
    size = f"{sum(layer.count_params() for layer in model.layers) / 1e6:.1f} M parameters"
    points = plural(len(description["cut_points"]), "cut point")
    licence = f", whose licence is {description['licence']}" if description["licence"] else ""
    print(f"backbone: {backbone.name}, {size}, {points}, weights {as_written(backbone.weights)}{licence}")


def print_costs(backbone: Backbone, size: int | None) -> None:
    from thaw.backbones.cost_table import cost_table

    if size is not None and (problem := registry.size_problem(backbone.name, size)):
        raise ThawError(f"--size {problem}")
    size, table = cost_table(backbone, size)
    print(f"{backbone.name} at {size} pixels: the cost before and behind each cut point, the size of its output, and")
    print("about how long an epoch of 1,000 photographs takes on this machine that trains the layers behind it.\n")
    print(f"{'':40}{'parameters, M':>16}{'multiply-adds, M':>18}{'output':>10}{'epoch':>9}")
    for row in table.iter_rows(named=True):
        parameters = f"{row['parameters_before'] / 1e6:.2f} {row['parameters_behind'] / 1e6:7.2f}"
        work = f"{row['multiply_adds_before'] / 1e6:,.0f} {row['multiply_adds_behind'] / 1e6:8,.0f}"
        print(f"{row['layer']:40}{parameters:>16}{work:>18}{row['output_bytes'] / 1000:7,.0f} kB"
              f"{1000 * row['training_seconds']:7,.1f} s")  # fmt: skip


if __name__ == "__main__":
    run(main)
