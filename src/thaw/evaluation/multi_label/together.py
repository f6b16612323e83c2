"""Which classes occur together, counted on the images of which both are known."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thaw.core.label_values import PRESENT, UNKNOWN
from thaw.evaluation.scored import Row


def count_together(values: NDArray[np.int8], classes: Sequence[str]) -> list[Row]:
    """Return a row for each ordered pair of classes of which an image with the first is known for the second too.

    Columns: `class`, `other`; `known`, the images that show the class and of which it is known whether they show the
    other; `together`, those of them that show it; `share`, together / known; `other_share`, the share that shows the
    other among all images of which that is known. Where `share` is above `other_share`, the two occur together more
    often than by chance.

    values: (n, k), as in `core.label_values`.
    """
    present, known = values == PRESENT, values != UNKNOWN
    counts = present.astype(np.int64).T @ known.astype(np.int64)
    together = present.astype(np.int64).T @ present.astype(np.int64)
    shares = np.diag(together) / known.sum(axis=0).clip(1)
    return [
        {
            "class": name,
            "other": other,
            "known": int(counts[i, j]),
            "together": int(together[i, j]),
            "share": float(together[i, j] / counts[i, j]),
            "other_share": float(shares[j]),
        }
        for i, name in enumerate(classes)
        for j, other in enumerate(classes)
        if i != j and counts[i, j]
    ]


def labels_per_image(values: NDArray[np.int8]) -> list[tuple[int, int]]:
    """Return how many images show how many of the classes, as (classes, images), rising."""
    numbers, images = np.unique((values == PRESENT).sum(axis=1), return_counts=True)
    return list(zip(numbers.tolist(), images.tolist(), strict=True))
