"""The images that an export is checked on, and those that calibrate 8 bits: from a split, or named by the user."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.core.store import Photographs
from thaw.core.task import MULTI
from thaw.exports.base import Format
from thaw.heads.protocol import is_negative
from thaw.prediction import stream
from thaw.prediction.deployed_model import Description

MAX_CALIBRATION = 200  # images that give the ranges of the activations: more change little
MAX_COMPARED = 200  # images on which probabilities are compared with Keras'
MAX_QUANTISED = 1000  # images on which an accuracy is measured, which needs many
SEED = 1  # of the order in which images are drawn from a split


@dataclass(frozen=True)
class CheckImages:
    """Images as the network receives them. Labels, weights and groups are there if the images come from a split.

    `trained` says whether the model was trained on them, as with folds.
    """

    views: NDArray[np.uint8]  # (n, size, size, 3)
    labels: NDArray[np.integer] | None = None  # (n,), positions in the classes
    weights: NDArray[np.float64] | None = None  # (n,)
    groups: NDArray[np.str_] | None = None  # (n,)
    trained: bool = False

    def __len__(self) -> int:
        return len(self.views)

    def count(self, export_format: Format) -> int:
        """Return on how many of the images a format is checked: the first ones."""
        return len(self) if export_format.is_quantised else min(MAX_COMPARED, len(self))


def from_split(
    raw: Path, split: Path, description: Description, is_quantised: bool
) -> tuple[NDArray[np.uint8] | None, CheckImages]:
    """Draw the images that calibrate from the training split, and those that check from the test split.

    With folds, the model was trained on all images: half of them, at most MAX_CALIBRATION, calibrate; the others check.

    Args:
        raw: Folder of the images and their table.
        split: Path of split.csv.
        description: Classes, image size and resizing of the model.
        is_quantised: Whether a format in 8 bits is among those to check.

    Returns:
        The (n, size, size, 3) uint8 images that calibrate 8 bits, or None without such a format; and the images that
        check. With 8 bits there are more of these, to measure an accuracy.

    Raises:
        ThawError: The files are missing, an image is missing or cannot be read, or the model does not have its class.
    """
    if not split.exists() or not raw.exists():
        missing = raw if split.exists() else split
        raise ThawError(
            f"there are no photographs to check with: {missing} is missing; name some with --photographs, or run "
            "`dvc pull download split`"
        )
    checked = read_split(raw, split, "test", description, MAX_QUANTISED if is_quantised else MAX_COMPARED)
    if not is_quantised:
        return None, checked
    return read_split(raw, split, "train", description, MAX_CALIBRATION).views, checked


def from_names(
    names: Iterable[str], description: Description, is_quantised: bool
) -> tuple[NDArray[np.uint8] | None, CheckImages, list[stream.LoadedImage]]:
    """Return images that calibrate and images that check, as `from_split` does, and those that cannot be read.

    The names are those of `stream.expand`. If 8 bits are to be checked, every second image calibrates them. Raises
    ThawError if there are too few images.
    """
    if not is_quantised:
        images, unread = read_names(names, description, MAX_COMPARED)
        return None, images, unread
    images, unread = read_names(names, description, MAX_CALIBRATION + MAX_QUANTISED)
    if len(images) < 2:
        raise ThawError("one photograph is not enough for 8 bits: one half calibrates them, the other checks")
    return images.views[::2][:MAX_CALIBRATION], CheckImages(images.views[1::2][:MAX_QUANTISED]), unread


def read_split(raw: Path, split: Path, part: str, description: Description, limit: int) -> CheckImages:
    """Return at most `limit` images of one split, in the random order in which they are drawn.

    For a model that was extended they have no labels: the class of an image without a new class is not recorded. Nor
    have they for a model of several labels, whose predictions alone are compared.

    Args:
        raw: Folder of the images and their table.
        split: Path of split.csv.
        part: `train`, `validation` or `test`.
        description: Classes, image size and resizing of the model.
        limit: How many images at most.

    Raises:
        ThawError: An image is missing or cannot be read, or the model does not have its class.
    """
    table = tables.read(split, tables.SPLIT).sort("image_id")
    has_folds = "fold" in table.columns
    table = table if has_folds else table.filter(split=part)
    other_labels = set(table["label"]) - set(description.classes)
    several = description.task == MULTI
    if not several and (unknown := sorted(label for label in other_labels if not is_negative(label))):
        raise ThawError(f"{split} has the class {unknown[0]!r}, which the model does not know")
    table = table[np.random.default_rng(SEED).permutation(len(table))]
    if has_folds:
        place = pl.int_range(pl.len())
        calibrates = (place % 2 == 1) & (place < 2 * MAX_CALIBRATION)
        table = table.filter(calibrates == (part == "train"))
    table = table[:limit]
    paths = tables.read_images(raw).select("image_id", "path")
    table = table.join(paths, on="image_id", how="left", maintain_order="left")
    if lost := table.filter(pl.col("path").is_null())["image_id"].to_list():
        raise ThawError(f"{split} has {lost[0]}, which is not among the photographs of {raw}: run `dvc repro`")
    photographs = Photographs(raw)
    items = [photographs[path] for path in table["path"]]
    images = list(stream.load_images(items, description.size, description.resize))
    for image in images:
        if image.error:
            raise ThawError(f"{image.path}: {image.error}")
    if not images:
        raise ThawError(f"{split} has no photograph of {part}")
    views = np.stack([image.view for image in images])
    trained = has_folds or part == "train"
    if other_labels or several:
        return CheckImages(views, trained=trained)
    labels = np.array([description.classes.index(label) for label in table["label"]])
    weights, groups = table["weight"].to_numpy(), table["group"].to_numpy().astype(str)
    return CheckImages(views, labels, weights, groups, trained)


def read_names(
    names: Iterable[str], description: Description, limit: int
) -> tuple[CheckImages, list[stream.LoadedImage]]:
    """Return the first `limit` images of `names`, and those before them that cannot be read.

    The names are those of `stream.expand`. Raises ThawError if no image can be read.
    """
    views, unread = [], []
    for image in stream.load_images(stream.expand(names), description.size, description.resize):
        if image.error:
            unread.append(image)
        else:
            views.append(image.view)
        if len(views) == limit:
            break
    if not views:
        raise ThawError(f"no photograph to check with: {unread[0].path}: {unread[0].error}")
    return CheckImages(np.stack(views)), unread
