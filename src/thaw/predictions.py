"""What both models answer to every photograph of a run, as arrays and as a table to open."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl

from thaw import arrays, tables
from thaw.examples import Examples
from thaw.files import whole_folder


@dataclass(frozen=True)
class Photographs:
    """The photographs of all splits, sorted by id."""

    image_ids: np.ndarray  # (n,) str
    splits: np.ndarray  # (n,) str, of tables.SPLITS
    rows: np.ndarray  # (n,) int, where an extracted array shows each, plain
    labels: np.ndarray  # (n,) int, positions in the classes
    weights: np.ndarray  # (n,) float64, as the source gives them
    groups: np.ndarray  # (n,) str, near-duplicates share one

    def of(self, split: str) -> np.ndarray:
        """Return the positions, in order, of the photographs of a split."""
        return np.flatnonzero(self.splits == split)

    def take(self, positions: np.ndarray) -> "Photographs":
        """Return the photographs at these positions alone."""
        return Photographs(*(getattr(self, column.name)[positions] for column in fields(self)))


def gather(examples: Mapping[str, Examples]) -> Photographs:
    """Return the photographs of all splits as one."""
    parts = list(examples.values())
    image_ids = np.concatenate([part.image_ids for part in parts])
    order = np.argsort(image_ids)
    splits = np.repeat(list(examples), [len(part.image_ids) for part in parts])
    rows = np.concatenate([part.views[:, 0] for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    weights = np.concatenate([part.weights for part in parts])
    groups = np.concatenate([part.groups for part in parts])
    return Photographs(*(column[order] for column in (image_ids, splits, rows, labels, weights, groups)))


def write(
    folder: Path,
    photographs: Photographs,
    classes: tuple[str, ...],
    probabilities: Mapping[str, np.ndarray],
    self_confidence: np.ndarray,
) -> None:
    """Write `{model}.npy`, the (n, classes) probabilities as float32, and `predictions.csv` with the answer of each
    model and its probability; rows in the order of the photographs.

    Probabilities are the model's own, from which the metrics are: not calibrated. self_confidence (n,), in 0 … 1.
    """
    names = np.array(classes)
    columns = {
        "image_id": photographs.image_ids,
        "split": photographs.splits,
        "label": names[photographs.labels],
    }
    with whole_folder(folder) as temporary:
        for model, p in probabilities.items():
            arrays.write_rows(temporary / f"{model}.npy", [p.astype(np.float32)], len(p))
            columns[f"{model}_label"] = names[p.argmax(axis=1)]
            columns[f"{model}_probability"] = p.max(axis=1).round(6)
        columns["self_confidence"] = self_confidence.round(6)
        tables.write(pl.DataFrame(columns), temporary / "predictions.csv")
