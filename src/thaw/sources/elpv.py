"""2,624 photographs of solar cells under electroluminescence, from the package `elpv-dataset`.

Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence
Imagery", EU PVSEC 2018; CC BY-NC-SA 4.0.
"""

import importlib.util
from pathlib import Path
from typing import Annotated

from pydantic import Field

from thaw.core.errors import ThawError
from thaw.core.section import Section
from thaw.sources.base import DatasetInfo, Listing, Source, SourceImage

INFO = DatasetInfo(
    name="elpv",
    license="CC BY-NC-SA 4.0",
    citation=(
        "C. Buerhop-Lutz, S. Deitsch, A. Maier, F. Gallwitz, S. Berger, B. Doll, J. Hauch, C. Camus, C. J. Brabec: "
        "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery. EU PVSEC 2018."
    ),
    classes=("functional", "defective"),
    strata=("meta_cell_type", "meta_probability"),
)


class Elpv(Section):
    threshold: Annotated[float, Field(ge=0, lt=1)]


def find(params: Elpv) -> Listing:
    """List the cells. A cell is defective if its probability of a defect is above `params.threshold`."""
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None:
        raise ThawError("download.source: elpv needs the package elpv-dataset: run `make setup`")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    images = []
    for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines():
        path, text, cell_type = line.split()
        probability = float(text)
        images.append(
            SourceImage(
                image_id=Path(path).stem,
                path=folder / path,
                label="defective" if probability > params.threshold else "functional",
                weight=label_weight(probability, params.threshold),
                author="ZAE Bayern",
                landing_url="https://github.com/zae-bayern/elpv-dataset",
                meta={"cell_type": cell_type, "probability": f"{probability:.3f}"},
            )
        )
    return Listing(INFO, images)


def label_weight(probability: float, threshold: float) -> float:
    """Return how sure a label is, in [0, 1]: the distance of its probability from the threshold, divided by the largest
    distance on that side.

    At a threshold of 0.5 it is |2p - 1|. At 0 it is the protocol of Deitsch et al. 2019: a cell with p > 0 has the
    weight p, one with p = 0 has the weight 1.
    """
    if probability > threshold:
        return (probability - threshold) / (1 - threshold)
    return (threshold - probability) / threshold if threshold else 1.0


SOURCE = Source("elpv", Elpv, find)
