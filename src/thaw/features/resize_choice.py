"""`image.resize: auto`: whether photographs are cropped or squashed to squares, as a linear head on each decides."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from thaw.backbones.cut_points import FEATURES
from thaw.core import arrays, progress, tables
from thaw.engines import inference
from thaw.features import extraction
from thaw.features.examples import Examples, losses, training_weights
from thaw.features.extraction import Dataset, ImageSettings, PlannedViews
from thaw.features.linear_probe import fit_path, read_samples, until_worse
from thaw.features.paired import paired_change

SQUARE = 1.02  # up to this ratio of its sides, a photograph counts as square: both ways are nearly the same
# Of the linear head. They do not follow `head.strengths`: a change of the head is not to extract all features again.
STRENGTHS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


@dataclass(frozen=True)
class Choice:
    """How photographs are made square, and why."""

    resize: str  # crop or squash
    reason: str
    # By value: the mean loss on validation (nats, by weight) of the best head; empty if nothing was compared.
    validation_loss: dict[str, float]
    change: float | None = None  # of the loss, from crop to squash
    standard_error: float | None = None  # of the change; None if validation is one group too

    @property
    def text(self) -> str:
        """For the terminal."""
        return f"; image.resize {self.resize} is chosen ({self.reason})"


def choose(dataset: Dataset, images: Examples, image: ImageSettings, backbone: Path) -> Choice:
    """Choose crop, unless squash lowers the loss on validation by more than one standard error.

    Within noise, crop is safer: it does not distort what it shows.

    Args:
        dataset: Where the images are.
        images: All images of the run; their views are rows of all that is planned for the dataset.
        image: Size and engine; its `resize` is not used.
        backbone: Folder of the network.

    Raises:
        ThawError: An image cannot be read, or all weights of a class in training or of validation are 0.
    """
    if len(inference.output_shapes(backbone / "backbone.xml", [FEATURES], image.size)[FEATURES]) > 1:
        return Choice("crop", "without backbone.pooling no linear head can compare", {})
    if not has_oblong(dataset):
        return Choice("crop", "all photographs are square", {})
    images, run = images.without_augmented_views(), extraction.engine(backbone, FEATURES, image)
    parts = images.rounds()  # with folds, each image is validated once
    used = np.unique(np.concatenate([np.flatnonzero(part.splits != "test") for part in parts]))
    validation = images.take(np.concatenate([part.positions("validation") for part in parts]))
    each = {}
    for resize in ("crop", "squash"):
        resized = replace(image, resize=resize)
        kept = extraction.kept_outputs(dataset, backbone, FEATURES, resized)
        others = extraction.elsewhere(dataset, backbone, FEATURES, resized)
        batches = extraction.outputs(PlannedViews(dataset, resized), run, kept, images.rows[used], others)
        features = _features(batches, len(used), resize)
        each[resize] = np.concatenate([_best_losses(part.take(used), features, resize) for part in parts])
    change = paired_change(each["squash"], each["crop"], validation)
    means = {resize: float(np.average(values, weights=validation.weights)) for resize, values in each.items()}
    reason = f"squash against crop: {change.text}"
    return Choice("squash" if change.is_gain else "crop", reason, means, change.loss, change.standard_error)


def has_oblong(dataset: Dataset) -> bool:
    """Return whether any image that is used is not square."""
    used = tables.read_images(dataset.raw).join(tables.read(dataset.split, tables.SPLIT), on="image_id", how="semi")
    longer, shorter = pl.max_horizontal("width", "height"), pl.min_horizontal("width", "height")
    return used.select((longer > SQUARE * shorter).any()).item()


def _features(batches: Iterator[np.ndarray], rows: int, resize: str) -> np.ndarray:
    """Return the pooled features of these many views, (rows, channels) float16."""
    features, done = np.empty((rows, 0), np.float16), 0
    with progress.bar(f"comparing image.resize, {resize}", rows, leave=False) as bar:
        for batch in batches:
            arrays.check_finite(batch, "features")
            if not done:
                features = np.empty((rows, batch.shape[1]), batch.dtype)
            features[done : done + len(batch)] = batch
            done += len(batch)
            bar.update(len(batch))
    return features


def _best_losses(images: Examples, features: np.ndarray, resize: str) -> np.ndarray:
    """Return the losses (v,) on validation of the best linear head, for images (n,) with features (n, channels)."""
    training, validation = images.split("train"), images.split("validation")
    rows, weights = images.positions("train"), training_weights(training, None)
    samples, unseen = read_samples(features, rows, training.labels, weights), features[images.positions("validation")]
    path = until_worse(fit_path(samples, STRENGTHS), unseen, validation)
    fits = progress.track(path, f"comparing image.resize, {resize}", "head", len(STRENGTHS))
    best, _, _ = min(fits, key=lambda step: step[1])
    return losses(best.probabilities(unseen), validation)
