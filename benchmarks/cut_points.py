"""Measure two errors at every cut point of a backbone.

    python benchmarks/cut_points.py [BACKBONE …]

The first is the difference between the full network and its frozen part followed by its thawed part. The second is the
difference between OpenVINO and Keras. Without names, twelve backbones of different families are measured. They have
random weights, and batch normalisation with statistics other than the initial ones.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from test_building import FAMILIES, Family, relative_error  # noqa: E402

from thaw.engines import model_files, openvino_setup  # noqa: E402
from thaw.engines.keras_setup import keras  # noqa: E402
from thaw.engines.keras_to_openvino import convert  # noqa: E402
from thaw.engines.openvino_setup import ov  # noqa: E402


def main() -> None:
    print(f"{'backbone':20}{'cut points':>11}{'frozen, then thawed':>21}{'engine against Keras':>22}")
    for name in sys.argv[1:] or FAMILIES:
        family = Family(name)
        parts = [
            relative_error(
                np.asarray(model_files.thawed_part(family.model, layer)(output, training=False)), family.output
            )
            for layer, output in family.outputs.items()
            if layer != family.model.layers[-1].name
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "backbone.xml"
            openvino_setup.write(convert(keras.Model(family.model.input, family.tensors)), path)
            network = ov.Core().read_model(path)
            network.reshape(list(family.pixels.shape))
            compiled = ov.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            outputs = compiled(family.pixels)
        engine = [relative_error(outputs[compiled.output(layer)], output) for layer, output in family.outputs.items()]
        print(f"{name:20}{len(family.cuts):11}{max(parts):21.1e}{max(engine):22.1e}", flush=True)


if __name__ == "__main__":
    main()
