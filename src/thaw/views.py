"""Photographs as the network sees them: decoded once, plain and as each row of the plan says."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from thaw import augmentation, images

AHEAD = 32  # photographs decoded ahead of the reader: enough to keep every core busy, small in memory
Plan = list[dict | None]  # the views of one photograph: None is the plain one, a row of the plan an augmented copy


def draw(paths: Iterable[Path], plans: Iterable[Plan], size: int, resize: str) -> Iterator[np.ndarray]:
    """Yield for each photograph, in order, its planned (views, size, size, 3) uint8 views.

    Each photograph is decoded once, on one thread a core.
    """

    def look(path: Path, plan: Plan) -> np.ndarray:
        canvas = images.fit(images.decode(path, size), size, resize)
        return np.stack([augmentation.apply(canvas, size, row) if row else images.centre(canvas, size) for row in plan])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = deque()
        try:
            for path, plan in zip(paths, plans, strict=True):
                pending.append(pool.submit(look, path, plan))
                if len(pending) > AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
