"""What an export is checked with: photographs that the model has not learnt from, and the Keras model's answers."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thaw import answers, comparison, metrics, tables
from thaw.deployed import Description
from thaw.errors import ThawError
from thaw.exports.formats import Engine
from thaw.extension import NONE

BINS = 15  # of a calibration error that is not looked at
WORSE = -0.02  # accuracy; an int8 model that is surely worse by more is broken
ALIKE = 0.7  # share of answers; where no labels are known, one that surely has fewer like Keras' is broken


@dataclass(frozen=True)
class Photographs:
    """Photographs as the network sees them; what is known of each, where they come from a split."""

    views: NDArray[np.uint8]  # (n, size, size, 3)
    labels: NDArray[np.integer] | None = None  # positions in the classes
    weights: NDArray[np.float64] | None = None
    groups: NDArray[np.str_] | None = None


def of_split(raw: Path, split: Path, part: str, description: Description, most: int, seed: int) -> Photographs:
    """Return at most `most` photographs of a part of the split, drawn from `seed` and in the order in which they are
    drawn. Of a model that was extended they come without labels: for photographs without a new class it knows none.
    Raises ThawError where one is missing or has a class that is not the model's."""
    table = tables.read(split, tables.SPLIT).filter(split=part).sort("image_id")
    strangers = set(table["label"]) - set(description.classes)
    if named := [label for label in sorted(strangers) if not label.startswith(NONE)]:
        raise ThawError(f"{split} has the class {named[0]!r}, which the model does not know")
    table = table[np.random.default_rng(seed).permutation(len(table))[:most]]
    paths = tables.read_images(raw).select("image_id", "path")
    table = table.join(paths, on="image_id", how="left", maintain_order="left")
    if lost := table.filter(pl.col("path").is_null())["image_id"].to_list():
        raise ThawError(f"{split} has {lost[0]}, which is not among the photographs of {raw}: run `dvc repro`")
    seen = list(answers.look([raw / path for path in table["path"]], description.size, description.resize))
    for one in seen:
        if one.error:
            raise ThawError(f"{one.path}: {one.error}")
    if not seen:
        raise ThawError(f"{split} has no photograph of {part}")
    views = np.stack([one.view for one in seen])
    if strangers:
        return Photographs(views)
    labels = np.array([description.classes.index(label) for label in table["label"]])
    return Photographs(views, labels, table["weight"].to_numpy(), table["group"].to_numpy().astype(str))


def of_paths(names: Iterable[str], description: Description, most: int) -> tuple[Photographs, list[answers.Seen]]:
    """Return the first `most` photographs that names stand for, as for predict, and what cannot be read on the way."""
    views, refused = [], []
    for one in answers.look(answers.expand(names), description.size, description.resize):
        if one.error:
            refused.append(one)
        else:
            views.append(one.view)
        if len(views) == most:
            break
    if not views:
        raise ThawError(f"no photograph to check with: {refused[0].path}: {refused[0].error}")
    return Photographs(np.stack(views)), refused


def ask(engine: Engine, views: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Return the probabilities (n, classes) that an engine gives photographs, and its rate in images a second.

    One photograph at a time, as whoever embeds a model asks; the rate is that of the median.
    """
    engine(views[:1].astype(np.float32))  # the first answer waits for memory
    probabilities, seconds = [], []
    for view in views:
        pixels = view[None].astype(np.float32)
        start = time.perf_counter()
        probabilities.append(engine(pixels))
        seconds.append(time.perf_counter() - start)
    return np.concatenate(probabilities), 1 / float(np.median(seconds))


def largest_difference(a: NDArray[np.float32], b: NDArray[np.float32], tolerance: float | None) -> float:
    """Return the largest difference of two models' probabilities; raises ThawError where it is above `tolerance`."""
    difference = float(np.abs(a - b).max())
    if not np.isfinite(a).all() or (tolerance is not None and difference > tolerance):
        raise ThawError(f"its probabilities differ from Keras' by up to {difference:.1e}, over {tolerance or 1:.0e}")
    return difference


def quantised(
    ours: NDArray[np.float32], of_keras: NDArray[np.float32], photographs: Photographs, bootstrap: int, seed: int
) -> str:
    """Return in words how the answers of a model in 8 bits compare with those of Keras.

    Raises ThawError where it is plainly broken: its accuracy surely lower by more than 2 points, or where no labels
    are known, its answers surely like Keras' for less than 70 % of the photographs.
    """
    same = ours.argmax(axis=1) == of_keras.argmax(axis=1)
    low, high = metrics.wilson(int(same.sum()), len(same))
    words = f"the same answer as Keras to {same.mean():.1%} of {len(same):,} photographs ({low:.1%} to {high:.1%})"
    if photographs.labels is None:
        broken = high < ALIKE
    else:
        compared = comparison.paired_difference(
            *(p.astype(np.float64) for p in (ours, of_keras)),
            photographs.labels, photographs.weights, photographs.groups, bins=BINS, bootstrap=bootstrap, seed=seed,
        )["accuracy_weighted"]  # fmt: skip
        value, low, high = (compared[key] for key in ("difference", "low", "high"))
        within = "" if low is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
        words += f"; weighted accuracy {100 * (value or 0):+.1f} points{within}"
        broken = (value or 0 if high is None else high) < WORSE
    if broken:
        raise ThawError(f"8 bits are not enough for this network: {words}")
    return words
