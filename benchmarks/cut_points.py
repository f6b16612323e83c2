"""How far the frozen and the thawed part, put together, are from the whole, and OpenVINO from Keras: every cut point.

`python benchmarks/cut_points.py [BACKBONE …]`; without names, twelve backbones of different families, with random
weights and batch norms that are not fresh.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from test_families import FAMILIES, Family, relative_error  # noqa: E402

from thaw import models, openvino  # noqa: E402
from thaw.conversion import convert  # noqa: E402
from thaw.keras import keras  # noqa: E402
from thaw.openvino import ov  # noqa: E402


def main() -> None:
    print(f"{'backbone':20}{'cut points':>11}{'frozen, then thawed':>21}{'engine against Keras':>22}")
    for name in sys.argv[1:] or FAMILIES:
        family = Family(name)
        parts = [
            relative_error(np.asarray(models.thawed_part(family.model, layer)(output, training=False)), family.whole)
            for layer, output in family.outputs.items()
            if layer != family.model.layers[-1].name
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "backbone.xml"
            openvino.write(convert(keras.Model(family.model.input, family.tensors)), path)
            network = ov.Core().read_model(path)
            network.reshape(list(family.pixels.shape))
            compiled = ov.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            found = compiled(family.pixels)
        engine = [relative_error(found[compiled.output(layer)], output) for layer, output in family.outputs.items()]
        print(f"{name:20}{len(family.cuts):11}{max(parts):21.1e}{max(engine):22.1e}", flush=True)


if __name__ == "__main__":
    main()
