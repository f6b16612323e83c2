"""What is labelled: the photographs of the finished run, and those that came back since and wait for the next one."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thaw.core import arrays, tables
from thaw.core.errors import ThawError
from thaw.core.files import read_json
from thaw.core.store import Photograph, Photographs
from thaw.features import examples


@dataclass(frozen=True)
class Artifacts:
    """What the stages wrote that labelling needs."""

    raw: Path
    split: Path
    features: Path


@dataclass(frozen=True)
class Known:
    """The labelled photographs of a run. All is empty where there is no run.

    Attributes:
        classes: their names, in the order of the model's outputs.
        images: images.csv, sorted by id.
        image_ids: (n,) of those that have features.
        groups: (n,) near-duplicates share one.
        paths: (n,) where they are.
        hashes: (n,) SHA-256 of these.
        labels: (n,) their positions in the classes.
        weights: (n,).
        features: (n, channels) float16, of the plain views.
    """

    classes: tuple[str, ...] = ()
    images: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=tables.IMAGES))
    image_ids: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, str))
    groups: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, str))
    paths: tuple[Photograph, ...] = ()
    hashes: tuple[str, ...] = ()
    labels: NDArray[np.integer] = field(default_factory=lambda: np.empty(0, int))
    weights: NDArray[np.floating] = field(default_factory=lambda: np.empty(0))
    features: NDArray[np.floating] = field(default_factory=lambda: np.empty((0, 0), np.float16))


def read(artifacts: Artifacts) -> Known:
    """Read the labelled photographs of a run that has features. Raises ThawError if an artifact is missing."""
    images = tables.read_images(artifacts.raw)
    used = examples.read(artifacts.features, artifacts.split).without_augmented_views()
    rows = {image_id: row for row, image_id in enumerate(images["image_id"])}
    try:
        order = [rows[image_id] for image_id in used.image_ids]
    except KeyError as error:
        raise ThawError(
            f"{artifacts.raw}/images.csv does not list the photograph {error.args[0]}: run `dvc repro`"
        ) from None
    features = arrays.open_rows(artifacts.features / "features.npy")
    photographs = Photographs(artifacts.raw)
    plain = [arrays.pooled(block) for block in arrays.blocks(features, used.rows)]
    return Known(
        classes=examples.read_classes(artifacts.features),
        images=images,
        image_ids=used.image_ids,
        groups=used.groups,
        paths=tuple(photographs[path] for path in images["path"][order]),
        hashes=tuple(images["sha256"][order]),
        labels=used.labels,
        weights=used.weights,
        features=np.concatenate(plain),
    )


def read_images(artifacts: Artifacts) -> Known:
    """Read the photographs and classes of a run, without features: `download` is enough."""
    classes = read_json(artifacts.raw / "source.json")["classes"]
    return Known(classes=tuple(classes), images=tables.read_images(artifacts.raw))
