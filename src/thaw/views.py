"""Photographs as the network sees them: decoded once, plain and as each row of the plan says."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from thaw import ahead, augmentation, images

AHEAD = 32  # photographs decoded ahead of the reader: enough to keep every core busy, small in memory
Plan = list[dict | None]  # the views of one photograph: None is the plain one, a row of the plan an augmented copy


def draw(paths: Iterable[Path], plans: Iterable[Plan], size: int, resize: str) -> Iterator[np.ndarray]:
    """Yield for each photograph, in order, its planned (views, size, size, 3) uint8 views.

    Each photograph is decoded once, on one thread a core.
    """

    def look(photograph: tuple[Path, Plan]) -> np.ndarray:
        path, plan = photograph
        canvas = images.fit(images.decode(path, size), size, resize)
        return np.stack([augmentation.apply(canvas, size, row) if row else images.centre(canvas, size) for row in plan])

    return ahead.in_order(look, zip(paths, plans, strict=True), os.cpu_count(), AHEAD)
