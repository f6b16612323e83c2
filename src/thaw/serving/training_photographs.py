"""The photographs of the run that a model comes from: how far a new one lies from them, and which are the nearest."""

import functools
from dataclasses import dataclass
from math import floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.backbones.cut_points import FEATURES
from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.core.store import Photographs
from thaw.engines import openvino_setup
from thaw.evaluation import comparison, review
from thaw.features import examples
from thaw.prediction import ood
from thaw.prediction.deployed_model import Description
from thaw.serving.shared_network import SharedNetwork

FAR = 0.99  # share of the validation photographs beyond which a photograph is far; less where they are too few
SHOWN = 4  # nearest photographs
SIDE = 168  # pixels of their pictures
MAX_KEPT = 512  # pictures, of some 5 KB each


@dataclass(frozen=True)
class Neighbour:
    """A training photograph near to a new one."""

    image_id: str
    label: str
    similarity: float  # cosine of the angle between their features, -1 … 1
    picture: bytes | None  # JPEG; None where the file is gone or damaged


@dataclass(frozen=True)
class Place:
    """Where a photograph lies among the training photographs."""

    distance: float
    neighbours: list[Neighbour]  # the nearest first


@dataclass(frozen=True)
class Twin:
    """The photograph of the run that has the same bytes as a new one."""

    image_id: str
    label: str
    split: str


class TrainingPhotographs:
    """The photographs of a run, by their features.

    Args:
        run: its artifacts.
        raw: the folder of its photographs.
        model: that was trained on them.
        description: of the model.

    Raises:
        ThawError: an artifact is missing, or does not belong to the model.
    """

    def __init__(self, run: ood.TrainingRun, raw: Path, model: Path, description: Description):
        ood.check_run(run, model, description)
        self._training, held_out = ood.read_features(run.features, run.split)
        distances = ood.held_out_distances(self._training, held_out)
        if not len(distances):
            raise ThawError(f"{run.split} has no photographs of validation")
        self.far = min(FAR, floor(10_000 * len(distances) / (len(distances) + 1)) / 10_000)
        self.limit = ood.distance_limit(distances, self.far)
        self._photographs, self._description = Photographs(raw), description
        self._ids = examples.read(run.features, run.split).split("train").image_ids
        split = tables.read(run.split, tables.SPLIT)
        labels = dict(split.select("image_id", "label").iter_rows())
        self._labels = [labels[image_id] for image_id in self._ids]
        self._twins, self._paths = {}, {}
        if (raw / "images.csv").exists():
            photographs = tables.read_images(raw)
            self._paths = dict(photographs.select("image_id", "path").iter_rows())
            used = photographs.join(split.select("image_id", "split"), on="image_id")
            self._twins = {sha: Twin(*rest) for sha, *rest in used["sha256", "image_id", "label", "split"].iter_rows()}
        network = openvino_setup.read(run.backbone / "backbone.xml")
        features = network.output(FEATURES).get_node().input_value(0)
        self._network = SharedNetwork([features], network.get_parameters(), description.size)
        self._picture = functools.lru_cache(MAX_KEPT)(self._read_picture)

    def __len__(self) -> int:
        return len(self._training)

    def twin(self, sha256: str) -> Twin | None:
        """Return the photograph of the run whose file has this hash, in hexadecimal digits."""
        return self._twins.get(sha256)

    def distance(self, view: NDArray[np.uint8]) -> float:
        """Return the distance of a view (size, size, 3) from the training photographs; see `prediction.ood`."""
        return float(ood.distances(self._training, self._features(view))[0])

    def place(self, view: NDArray[np.uint8], twin: Twin | None) -> Place:
        """Return where a view (size, size, 3) lies. `twin` is not among the neighbours."""
        count = max(ood.NEIGHBOURS, SHOWN + 1)
        rows, similarities = comparison.nearest_training(self._training, self._features(view), count)
        neighbours = [
            Neighbour(str(self._ids[row]), self._labels[row], float(similarity), self._picture(self._ids[row]))
            for row, similarity in zip(rows[0], similarities[0], strict=True)
            if twin is None or self._ids[row] != twin.image_id
        ]
        return Place(float(1 - similarities[0, : ood.NEIGHBOURS][-1]), neighbours[:SHOWN])

    def _features(self, view: NDArray[np.uint8]) -> NDArray[np.float32]:
        (features,) = self._network(view)
        return features[None] if features.ndim == 1 else features.mean(axis=(0, 1), dtype=np.float32)[None]

    def _read_picture(self, image_id: str) -> bytes | None:
        path = self._paths.get(image_id)
        pixels = path and review.load_image(self._photographs[path], SIDE, self._description.resize)
        return review.jpeg(pixels, SIDE)
