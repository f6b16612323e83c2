"""Out-of-distribution detection: how far an image lies from all training images, and beyond which limit that is far.

A classifier has only its classes: it calls an alpaca a solar cell, with a high probability. The frozen features tell
the two apart. An image's distance is 1 - the cosine similarity of its features and those of the k-th most similar
training image, k = NEIGHBOURS: 0 if both point in the same direction, 1 if they are at right angles, 2 at most (deep
nearest neighbours, Sun et al. 2022, arXiv 2204.06507). The limit is a quantile of the held-out images' distances: no
images of other kinds are needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from thaw.backbones.cut_points import FEATURES
from thaw.core import arrays, hashes
from thaw.core.errors import ThawError
from thaw.core.files import read_json
from thaw.engines import inference
from thaw.engines.inference import Batches, Run
from thaw.evaluation import comparison
from thaw.features import examples
from thaw.features.extraction import ImageSettings, resolved
from thaw.prediction.deployed_model import Description

NEIGHBOURS = 5  # the nearest alone may be an outlier among the training images, or another image of the same object
BLOCK_IMAGES = 32  # images compared at a time: all training features are scaled again for each block
UP_TO_THE_MODEL = ("split", "backbone", "extract_features", "train_head", "extract_activations", "fine_tune")
MAX_HELD_OUT = 2000  # validation images behind a limit; with more, a large run would wait minutes for little gain


# The features of held-out images (n, channels), and the positions of the training images to compare them with, or None
# for all of them.
HeldOut = tuple[NDArray[np.floating], NDArray[np.integer] | None]


@dataclass(frozen=True)
class TrainingRun:
    """The artifacts of the run that a model comes from."""

    features: Path
    split: Path
    backbone: Path
    lock: Path  # DVC's record of the run


def detector(run: TrainingRun, model: Path, description: Description, quantile: float) -> tuple[Run, float]:
    """Return a function from batches of views to arrays of distances, and the limit beyond which an image is far.

    About 1 - quantile of the images that are like the validation ones lie beyond the limit. Raises ThawError if an
    artifact of the run is missing, or does not belong to the model.
    """
    try:
        check_run(run, model, description)
        training, held_out = read_features(run.features, run.split)
        limit = distance_limit(held_out_distances(training, held_out), quantile)
    except ThawError as error:
        raise ThawError(f"--far: {error}") from None
    engine = inference.compile_openvino(run.backbone / "backbone.xml", FEATURES, description.size, np.float32)
    return distance_engine(engine, training), limit


def check_run(run: TrainingRun, model: Path, description: Description) -> None:
    """Raise ThawError if an artifact of the run is missing, or does not belong to the model, which has a description.

    DVC's record says which file is the model of the run, if a model was trained in it.
    """
    if not all(path.exists() for path in (run.features, run.split, run.backbone)):
        raise ThawError("what the model was trained on is missing: `dvc pull extract_features split backbone`")
    size, resize = _image_of_features(run)
    if (size, resize) != (description.size, description.resize):
        raise ThawError(
            f"{run.features} is of photographs of {size} pixels ({resize}), the model needs {description.size} "
            f"({description.resize}): use the model of this run"
        )
    _check_one_run(run)
    outs = _record(run).get("fine_tune", {}).get("outs", [])
    of_run = {out["md5"] for out in outs if Path(out["path"]).suffix == model.suffix}
    if of_run and hashes.md5(model) not in of_run:
        raise ThawError(f"{model} is not the model of this run, by {run.lock}: use that one, or this model in its run")
    classes = examples.read_classes(run.features)
    if not set(classes) & set(description.classes):
        raise ThawError(f"{run.features} is of another model, of {', '.join(classes[:5])}: use the model of this run")
    channels = inference.output_shapes(run.backbone / "backbone.xml", [FEATURES], size)[FEATURES][-1]
    if channels != arrays.open_rows(run.features / "features.npy").shape[-1]:
        raise ThawError(f"{run.features} and {run.backbone} are not of one run: use `dvc repro`, or `dvc checkout`")


def _check_one_run(run: TrainingRun) -> None:
    """Raise ThawError if, by DVC's record, the stages up to the model used another split, features or network.

    So it is where `dvc repro` ended before the model was trained again.
    """
    recorded: dict[Path, set[str]] = {}
    stages = _record(run)
    for stage in (stages.get(name, {}) for name in UP_TO_THE_MODEL):
        for entry in (*stage.get("deps", ()), *stage.get("outs", ())):
            path = run.lock.parent / entry["path"]
            if any(part in (path, *path.parents) for part in (run.split, run.features, run.backbone)):
                recorded.setdefault(path, set()).add(entry.get("md5"))
    other = [path for path, md5s in recorded.items() if len(md5s) > 1]
    if not other and run.split in recorded and hashes.md5(run.split) not in recorded[run.split]:
        other = [run.split]
    if other:
        raise ThawError(f"the model was trained with another {other[0]}: run `dvc repro`, or `dvc checkout`")


def _image_of_features(run: TrainingRun) -> tuple[int, str]:
    """Return the size and the resizing with which the features were computed.

    DVC's record alone has them. Where it says `auto`, the folder of the features says what was chosen.
    """
    try:
        stage = _record(run)["extract_features"]
        (values,) = stage["params"].values()  # one file of parameters
        size = values["image.size"] or read_json(run.backbone / "backbone.json")["size"]
        image = ImageSettings(size, values["image.resize"], values["image.engine"])
        return size, resolved(image, run.features).resize
    except (FileNotFoundError, KeyError, TypeError, ValueError, yaml.YAMLError):
        raise ThawError(
            f"{run.lock} does not say with which size and resizing {run.features} was computed: run `dvc repro`"
        ) from None


def _record(run: TrainingRun) -> dict[str, dict]:
    """Return what DVC has recorded of each stage."""
    return yaml.safe_load(run.lock.read_text(encoding="utf-8"))["stages"]


def read_features(folder: Path, split: Path) -> tuple[NDArray[np.floating], list[HeldOut]]:
    """Return the features of the training images (m, channels), and those of up to MAX_HELD_OUT held-out images.

    Validation is held out. With folds, each fold is, from the training images of the others.

    They are those of the plain views, not of augmented ones. Feature maps are pooled. `folder` is what
    `extract_features` wrote. Needs some 300 MB of memory beyond the result.
    """
    features, images = arrays.open_rows(folder / "features.npy"), examples.read(folder, split)
    training = _pool(features, images.split("train").rows)
    if images.folds is None:
        return training, [(_pool(features, _drawn(images.split("validation").rows)), None)]
    drawn = _drawn(np.arange(len(images)))
    folds = images.folds[:, 0]
    return training, [
        (training[drawn[folds[drawn] == fold]], np.flatnonzero(folds != fold)) for fold in np.unique(folds[drawn])
    ]


def _drawn(rows: NDArray[np.integer]) -> NDArray[np.integer]:
    if len(rows) <= MAX_HELD_OUT:
        return rows
    return np.sort(np.random.default_rng(1).choice(rows, MAX_HELD_OUT, replace=False))


def _pool(features: np.memmap, rows: NDArray[np.integer]) -> NDArray[np.floating]:
    result, done = np.empty((len(rows), features.shape[-1]), features.dtype), 0
    for block in arrays.blocks(features, rows):
        result[done : done + len(block)] = arrays.pooled(block)
        done += len(block)
        arrays.release(features)
    return result


def distances(training: NDArray[np.floating], features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return 1 - the cosine similarity (n,), 0 … 2, of each image to its NEIGHBOURS-th nearest training image."""
    _, similarities = comparison.nearest_training(training, features, NEIGHBOURS)
    return 1 - similarities[:, -1]


def held_out_distances(training: NDArray[np.floating], held_out: Sequence[HeldOut]) -> NDArray[np.float32]:
    """Return the distances (n,) of held-out images from the training images, both as `read_features` returns them."""
    return np.concatenate(
        [distances(training if known is None else training[known], features) for features, known in held_out]
    )


def distance_limit(held_out: NDArray[np.floating], quantile: float) -> float:
    """Return the distance that at most 1 - quantile of new images exceed, if they are like the held-out ones.

    `held_out` (n,) are the distances of the held-out images. The limit is the one of rank ⌈quantile · (n + 1)⌉. A new
    image has each of the n + 1 ranks with the same probability, so the promise holds for small n too (split conformal;
    Bates et al. 2023, arXiv 2104.08279). Raises ThawError if n is too small for the quantile.
    """
    rank = ceil(round(quantile * (len(held_out) + 1), 6))
    if rank > len(held_out):
        largest = floor(10_000 * len(held_out) / (len(held_out) + 1)) / 10_000
        raise ThawError(
            f"{len(held_out):,} held-out photographs are too few to tell what lies beyond the share {quantile} of "
            f"them: take a share of at most {largest}"
        )
    return float(np.sort(held_out)[rank - 1])


def distance_engine(run: Run, training: NDArray[np.floating]) -> Run:
    """Return a function from batches of views to arrays of distances, in order. `run` maps them to features or maps."""

    def measure(batches: Batches) -> Iterator[NDArray[np.float32]]:
        for features in inference.rebatch(map(arrays.pooled, run(batches)), BLOCK_IMAGES):
            yield distances(training, features)

    return measure
