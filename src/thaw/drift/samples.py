"""The two samples that are compared: photographs of the run that its model was not trained on, and new ones."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, tee
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from thaw.backbones.cut_points import FEATURES
from thaw.core import arrays, hashes, progress, store, tables
from thaw.core.errors import ThawError, missing
from thaw.core.files import read_json
from thaw.core.metrics_file import FINE_TUNED
from thaw.core.store import Photograph, Photographs
from thaw.core.task import SINGLE
from thaw.engines import flips, inference
from thaw.features import examples
from thaw.images import views
from thaw.prediction import deployed_model, ood, stream
from thaw.prediction.deployed_model import Decision, Description
from thaw.prediction.stream import LoadedImage
from thaw.splitting import duplicates, thumbnails

MIN_PHOTOGRAPHS = 10  # of each sample: of fewer, only photographs of another kind would be noticed
MAX_COMPARED = 2000  # photographs of each sample that the test compares; its work grows with their cube


@dataclass(frozen=True)
class Files:
    """Where a run keeps what new photographs are compared with."""

    run: ood.TrainingRun
    raw: Path
    predictions: Path
    model: Path
    cache: Path  # of converted networks


@dataclass(frozen=True)
class Measures:
    """What is measured of the pixels of photographs, each (n,) float64."""

    brightness: NDArray[np.float64]  # mean of the view, 0 … 1
    sharpness: NDArray[np.float64]  # how much of the view's contrast is fine detail: see `sharpness`
    side: NDArray[np.float64]  # the shorter one of the file, in pixels


@dataclass(frozen=True)
class Sample:
    """Photographs, by what is compared."""

    paths: Sequence[Photograph]
    features: NDArray[np.floating]  # (n, channels)
    groups: NDArray[np.integer]  # (n,) int: near-duplicates share one
    measures: Measures
    probabilities: NDArray[np.float64] | None  # (n, classes), calibrated; None: see `held_out` and `new`
    labels: NDArray[np.integer] | None = None  # (n,) int, of photographs of the run
    bits: int | None = None  # of values in 16 bits, where a file does not say it

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class LeftOut:
    """What of the new files was not compared."""

    known: Mapping[str, int]  # split → photographs of the run
    unread: Sequence[LoadedImage]  # each with its error
    others: Mapping[Path, str]  # files that are no pictures, with the reason


def held_out(files: Files, description: Description, decision: Decision | None) -> Sample:
    """Return the test split; with folds, all photographs: each was tested by a model that had not seen it.

    Without a decision, or where the predictions of the run are not those of the model's classes, there are no
    probabilities. Raises ThawError if an artifact of the run is missing, or does not belong to the model.
    """
    ood.check_run(files.run, files.model, description)
    if not (files.raw / "images.csv").exists():
        raise missing(files.raw / "images.csv")
    images = examples.read(files.run.features, files.run.split)
    images = images if images.folds is not None else images.split("test")
    if len(images) < MIN_PHOTOGRAPHS:
        raise ThawError(
            f"{files.run.split} has {len(images)} photographs of test, at least {MIN_PHOTOGRAPHS} are needed"
        )
    known = dict(tables.read_images(files.raw).select("image_id", "path").iter_rows())
    photographs = Photographs(files.raw)
    paths = [photographs[known[image_id]] for image_id in images.image_ids]
    features = arrays.pooled(arrays.open_rows(files.run.features / "features.npy")[images.rows])
    _, groups = np.unique(images.groups, return_inverse=True)
    with progress.bar("held out", len(paths)) as bar:
        measured = []
        for path, view in zip(paths, views.draw(paths, [[None]] * len(paths), description.size, description.resize),
                              strict=True):  # fmt: skip
            measured.append(measure(view[0], path))
            bar.update()
    probabilities = _predictions(files, images.image_ids, description, decision)
    return Sample(paths, features, groups, _stacked(measured), probabilities, images.labels)


def _predictions(
    files: Files, image_ids: NDArray, description: Description, decision: Decision | None
) -> NDArray[np.float64] | None:
    if decision is None or not (files.predictions / "predictions.csv").exists():
        return None
    saved = read_json(files.model.with_name("decision.json")).get("model", FINE_TUNED)
    table = tables.read(files.predictions / "predictions.csv", {"image_id": tables.IMAGES["image_id"]})
    probabilities = arrays.open_rows(files.predictions / f"{saved}.npy")
    rows = {image_id: row for row, image_id in enumerate(table["image_id"])}
    is_same = examples.read_classes(files.run.features) == description.classes
    if not is_same or probabilities.shape[1] != len(description.classes) or not rows.keys() >= set(image_ids):
        return None
    return decision.calibrate(probabilities[[rows[image_id] for image_id in image_ids]])


def new(
    path: Path, files: Files, description: Description, decision: Decision | None, bits: int | None
) -> tuple[Sample, LeftOut]:
    """Return the photographs that are not of the run, and what was left out.

    Args:
        path: a folder, a file or a pattern.
        files: of the run.
        description: of the model.
        decision: of the model; None for one of several labels, for which there are no probabilities.
        bits: of values in 16 bits, where a file does not say it.

    Raises:
        ThawError: Fewer than MIN_PHOTOGRAPHS can be read, or all are photographs of the run.
    """
    others: dict[Path, str] = {}
    items = list(stream.expand([str(path)], others))
    known, items = _without_known(items, files)
    unread, taken, measured = [], [], []

    def read_views() -> Iterator[NDArray[np.uint8]]:
        for image in stream.load_images(items, description.size, description.resize, bits):
            if image.view is None:
                unread.append(image)
                continue
            taken.append(image.source)
            measured.append(measure(image.view, taken[-1]))
            yield image.view[None]

    runs = _runs(files, description, decision)
    batches = tee(inference.rebatch(read_views()), len(runs))
    outputs = zip(*(chain.from_iterable(run(part)) for run, part in zip(runs, batches, strict=True)), strict=True)
    with progress.bar("new", len(items)) as bar:
        rows = []
        for row in outputs:
            rows.append(row)
            bar.update()
    left_out = LeftOut(known, unread, others)
    _check_count(path, len(taken), left_out)
    features, *probabilities = (np.array(column) for column in zip(*rows, strict=True))
    calibrated = (decision or Decision()).calibrate(probabilities[0]) if probabilities else None
    return Sample(taken, features, near_duplicates(taken, bits), _stacked(measured), calibrated, bits=bits), left_out


def _runs(files: Files, description: Description, decision: Decision | None) -> list[inference.Run]:
    """Return what computes features (n, channels) of views and, for one label each, probabilities (n, classes)."""
    backbone, dtype = files.run.backbone / "backbone.xml", _dtype(files.run.features)
    run = inference.compile_openvino(backbone, FEATURES, description.size, dtype)
    runs = [lambda batches: map(arrays.pooled, run(batches))]
    if description.task == SINGLE:
        network = deployed_model.converted_network(files.model, files.cache)
        model = inference.compile_openvino(network, deployed_model.OUTPUT, description.size, np.float32)
        runs.append(flips.average_flips(model, decision and decision.test_time_flips))
    return runs


def _dtype(features: Path) -> type[np.floating]:
    """Return the type of the stored features, so that those of new photographs are rounded alike."""
    return arrays.open_rows(features / "features.npy").dtype.type


def _without_known(
    items: Sequence[LoadedImage | Photograph], files: Files
) -> tuple[Counter[str], list[LoadedImage | Photograph]]:
    """Return how many items are photographs of the run, by split, and the other items."""
    images = tables.read_images(files.raw).select("image_id", "sha256")
    split = tables.read(files.run.split, tables.SPLIT).select("image_id", "split")
    splits = dict(images.join(split, on="image_id").select("sha256", "split").iter_rows())
    known, rest = Counter(), []
    for item in items:
        split = splits.get(_sha256(item)) if isinstance(item, Photograph) else None
        if split is None:
            rest.append(item)
        else:
            known[split] += 1
    return known, rest


def _sha256(path: Photograph) -> str | None:
    try:
        if isinstance(path, Path) and not path.is_file():
            return None
        return hashes.sha256(path)
    except OSError:
        return None  # reading it as an image says why


def _check_count(path: Path, count: int, left_out: LeftOut) -> None:
    if count >= MIN_PHOTOGRAPHS:
        return
    known = sum(left_out.known.values())
    unread = ""
    if left_out.unread:
        first = left_out.unread[0]
        unread = f", {len(left_out.unread):,} cannot be read (the first: {first.path}: {first.error})"
    if known and not count:
        splits = ", ".join(f"{left_out.known[split]:,} of {split}" for split in tables.SPLITS if left_out.known[split])
        raise ThawError(
            f"all {known:,} photographs of {path}{' that can be read' * bool(unread)} are photographs of this run "
            f"({splits}){unread}: there is nothing new"
        )
    if not count and len(left_out.unread) == 1:
        raise ThawError(f"{left_out.unread[0].path}: {left_out.unread[0].error}")
    of_run = f", {known:,} are of this run" if known else ""
    raise ThawError(
        f"{path}: {count} new photographs{unread}{of_run}; at least {MIN_PHOTOGRAPHS} are needed to compare"
    )


def near_duplicates(paths: Sequence[Photograph], bits: int | None = None) -> NDArray[np.integer]:
    """Return the group (n,) int of each photograph: near-duplicates share one. `bits`: see `new`."""
    with tempfile.TemporaryDirectory() as scratch:
        small = thumbnails.read(paths, Path(scratch), bits=bits)
        groups = duplicates.group_near_duplicates([f"{number:09}" for number in range(len(paths))], small)
    return np.array([int(group) for group in groups])


def measure(view: NDArray[np.uint8], path: Photograph) -> tuple[float, float, float]:
    """Return brightness, sharpness and the shorter side of a photograph; see `Measures`.

    Args:
        view: (size, size, 3), as the network receives it.
        path: the photograph, which can be read.
    """
    grey = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY).astype(np.float64)
    with store.open_image(path) as image:
        return float(grey.mean() / 255), sharpness(grey), float(min(image.size))


def sharpness(grey: NDArray[np.float64]) -> float:
    """Return the deviation of the Laplacian of a grey view over that of its brightness.

    Darker pixels, or less contrast, do not change it; blur makes it smaller, noise larger. It is 0 for an even view.
    """
    contrast = float(grey.std())
    return float(cv2.Laplacian(grey, cv2.CV_64F).std() / contrast) if contrast > 1e-9 else 0.0


def _stacked(measured: Sequence[tuple[float, float, float]]) -> Measures:
    return Measures(*np.array(measured, np.float64).reshape(-1, 3).T)
