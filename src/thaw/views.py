"""Photographs as the network sees them: decoded once, plain and as each row of the plan says."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from thaw import augmentation, images

AHEAD = 32  # photographs decoded ahead of the reader: enough to keep every core busy, small in memory


def draw(paths: Iterable[Path], plans: Iterable[list[dict]], size: int, resize: str) -> Iterator[np.ndarray]:
    """Yield for each photograph, in order, its (1 + copies, size, size, 3) uint8 views: plain, then as planned.

    Each photograph is decoded once, on one thread a core.
    """

    def look(path: Path, plan: list[dict]) -> np.ndarray:
        canvas = images.fit(images.decode(path, size), size, resize)
        return np.stack([images.centre(canvas, size), *(augmentation.apply(canvas, size, row) for row in plan)])

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
