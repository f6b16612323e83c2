"""2,624 photographs of solar cells under electroluminescence, from the package `elpv-dataset`.

Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence
Imagery", EU PVSEC 2018; CC BY-NC-SA 4.0.
"""

import importlib.util
from pathlib import Path

from thaw.errors import ThawError
from thaw.params import Elpv
from thaw.sources.photographs import Photograph, Source

SOURCE = Source(
    name="elpv",
    license="CC BY-NC-SA 4.0",
    citation=(
        "C. Buerhop-Lutz, S. Deitsch, A. Maier, F. Gallwitz, S. Berger, B. Doll, J. Hauch, C. Camus, C. J. Brabec: "
        "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery. EU PVSEC 2018."
    ),
    classes=("functional", "defective"),
    strata=("meta_cell_type", "meta_probability"),
)


def find(params: Elpv) -> tuple[Source, list[Photograph]]:
    """List the cells; one whose probability of a defect lies above `params.threshold` is defective.

    The weight of a label is the distance of its probability from the threshold, 1 at the ends: |2p - 1| at 0.5; at
    0, the protocol of Deitsch et al. 2019, a cell of p > 0 weighs p and one of 0 weighs 1.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None:
        raise ThawError("download.source elpv wants the package elpv-dataset: run `make setup`")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    photographs = []
    for line in (folder / "labels.csv").read_text().splitlines():
        path, probability, cell_type = line.split()
        p = float(probability)
        photographs.append(
            Photograph(
                image_id=Path(path).stem,
                path=folder / path,
                label="defective" if p > params.threshold else "functional",
                weight=label_weight(p, params.threshold),
                author="ZAE Bayern",
                landing_url="https://github.com/zae-bayern/elpv-dataset",
                meta={"cell_type": cell_type, "probability": f"{p:.3f}"},
            )
        )
    return SOURCE, photographs


def label_weight(probability: float, threshold: float) -> float:
    """Return the distance of a probability from the threshold as a share of the largest one on its side, in [0, 1]."""
    if probability > threshold:
        return (probability - threshold) / (1 - threshold)
    return (threshold - probability) / threshold if threshold else 1.0
