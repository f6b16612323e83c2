"""The photographs of a split as rows of an extracted array: which rows show each, its label, weight and group."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw import tables
from thaw.errors import ThawError
from thaw.files import read_json

LEAST = 1e-7  # the smallest probability that a loss counts with


@dataclass(frozen=True)
class Examples:
    image_ids: np.ndarray  # (n,) str, sorted
    views: np.ndarray  # (n, 1 + copies) int rows of the array, the plain photograph first
    labels: np.ndarray  # (n,) int, positions in the classes
    weights: np.ndarray  # (n,) float64, as the source gives them
    groups: np.ndarray  # (n,) str, near-duplicates share one


def read_classes(folder: Path) -> tuple[str, ...]:
    """Return the class names, in the order of the model's outputs, of a folder that an extraction wrote."""
    return tuple(read_json(folder / "classes.json"))


def read(folder: Path, split: Path) -> dict[str, Examples]:
    """Return the examples of each split for the array in a folder that an extraction wrote."""
    rows = tables.read(folder / "rows.csv", tables.ROWS).with_row_index("row")
    rows = rows.join(tables.read(split, tables.SPLIT), on="image_id", how="left", maintain_order="left")
    if rows["split"].null_count():
        raise ThawError(f"{folder}/rows.csv and {split} do not list the same photographs: run `dvc repro`")
    classes = read_classes(folder)
    examples = {}
    for part in tables.SPLITS:
        of_part = rows.filter(split=part)
        plain = of_part.filter(copy=0)
        examples[part] = Examples(
            image_ids=plain["image_id"].to_numpy(),
            views=of_part["row"].to_numpy().astype(np.int64).reshape(len(plain), -1),
            labels=np.array([classes.index(label) for label in plain["label"]]),
            weights=plain["weight"].to_numpy(),
            groups=plain["group"].to_numpy(),
        )
    return examples


def training_weights(examples: Examples, class_weight: str | None) -> np.ndarray:
    """Return the (n,) weights scaled to a mean of 1; with `balanced`, every class has the same sum.

    Raises ThawError where a class weighs nothing.
    """
    sums = np.bincount(examples.labels, examples.weights)
    if not sums.all():
        raise ThawError("all training photographs of a class have the weight 0: nothing could be learnt of it")
    weights = examples.weights / sums[examples.labels] if class_weight == "balanced" else examples.weights
    return weights / weights.mean()


def weighted_scores(probabilities: np.ndarray, examples: Examples) -> tuple[float, float]:
    """Return the weighted cross-entropy (nats) and accuracy of (n, classes) probabilities.

    Raises ThawError where no example weighs anything.
    """
    if not examples.weights.any():
        raise ThawError("all validation photographs have the weight 0: nothing could be chosen on them")
    likelihoods = probabilities[np.arange(len(examples.labels)), examples.labels].astype(np.float64)
    loss = np.average(-np.log(likelihoods.clip(LEAST)), weights=examples.weights)
    accuracy = np.average(probabilities.argmax(axis=1) == examples.labels, weights=examples.weights)
    return float(loss), float(accuracy)
