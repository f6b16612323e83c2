"""What is known of several labels of each image: which classes it shows, which it does not, and which nobody knows.

The table `labels.csv` has a row for each pair of an image and a class of which something is known.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thaw.core.errors import ThawError

UNKNOWN, ABSENT, PRESENT = -1, 0, 1
SEPARATOR = " + "  # between the classes of an image, where they are one text for people


class LabelValues(NamedTuple):
    """What is known of (n,) images and (k,) classes."""

    values: np.ndarray  # (n, k) int8: PRESENT, ABSENT or UNKNOWN
    weights: np.ndarray  # (n, k) float64, 0 where unknown


def as_text(present: Iterable[str]) -> str:
    """Return the classes that an image shows as one text: sorted, joined by SEPARATOR; empty without any."""
    return SEPARATOR.join(sorted(present))


def read(path: Path, image_ids: Sequence[str], classes: Sequence[str]) -> LabelValues | None:
    """Read what `labels.csv` says of images, or None if it has no row: then each image has one label, elsewhere.

    Args:
        path: of the table.
        image_ids: (n,), each once; rows of other images are left out.
        classes: (k,) names, in the order of the columns of the result.

    Raises:
        ThawError: The table is missing or damaged, has another class, or knows nothing of an image.
    """
    import polars as pl  # not at the top: predictions need the constants alone

    from thaw.core import tables

    table = tables.read(path, tables.LABELS, key=("image_id", "label"))
    if table.is_empty():
        return None
    if others := sorted(set(table["label"]) - set(classes)):
        raise ThawError(f"{path} has the class {others[0]!r}, which this run does not have: run `dvc repro`")
    if table.null_count().sum_horizontal().item():
        raise ThawError(f"{path} has an empty cell: run `dvc repro`")
    if not (table["value"].is_in([ABSENT, PRESENT]).all() and (table["weight"] >= 0).all()):
        raise ThawError(f"{path} has a value other than {ABSENT} and {PRESENT}, or a weight below 0: run `dvc repro`")
    rows = {image_id: row for row, image_id in enumerate(image_ids)}
    columns = {name: column for column, name in enumerate(classes)}
    table = table.filter(pl.col("image_id").is_in(list(rows)))
    at = [rows[image_id] for image_id in table["image_id"]], [columns[label] for label in table["label"]]
    values = np.full((len(rows), len(columns)), UNKNOWN, np.int8)
    weights = np.zeros(values.shape)
    values[at], weights[at] = table["value"].to_numpy(), table["weight"].to_numpy()
    if not (known := (values != UNKNOWN).any(axis=1)).all():
        raise ThawError(f"{path} says nothing of the photograph {image_ids[int(known.argmin())]}: run `dvc repro`")
    return LabelValues(values, weights)


def lacking(values: np.ndarray, weights: np.ndarray, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (class, `present` or `absent`) of which no image with a weight is known.

    Args:
        values: (n, k), as in `LabelValues`.
        weights: (n, k).
        classes: (k,) names.
    """
    for column, name in enumerate(classes):
        counted = values[weights[:, column] > 0, column]
        for value, word in ((PRESENT, "present"), (ABSENT, "absent")):
            if not (counted == value).any():
                yield name, word
