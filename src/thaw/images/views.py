"""Images as the network receives them: square views, plain or augmented."""

from collections.abc import Iterable, Iterator

import numpy as np

from thaw.core import prefetch
from thaw.core.cache import Cache
from thaw.core.machine import usable_cores
from thaw.core.store import Photograph
from thaw.images import augmentation, decoding

MAX_AHEAD = 32  # images decoded before the reader asks for them: enough to keep every core busy, little memory
Plan = list[dict | None]  # the views of one image: None is the plain view, a row of augmentations.csv an augmented one


def network_input(source: Photograph | bytes, size: int, resize: str, bits: int | None = None) -> np.ndarray:
    """Return the plain view of an image file, (size, size, 3) uint8 RGB.

    Args:
        source: the file, or its bytes.
        size: pixels of each side.
        resize: one of `crop`, `pad` and `squash`; see `decoding.fit`.
        bits: of the values, where the file does not say it; see `decoding.decode`.

    Raises:
        ThawError: the image cannot be read.
    """
    # A copy: the view alone then stays in memory, not the larger canvas that it is a part of.
    return decoding.centre_crop(decoding.fit(decoding.decode(source, size, bits), size, resize), size).copy()


def draw(
    paths: Iterable[Photograph], plans: Iterable[Plan], size: int, resize: str, cache: Cache | None = None
) -> Iterator[np.ndarray]:
    """Yield the planned views of each image, in the order of the images.

    Each image is decoded once, on one thread per core.

    Args:
        paths: Photographs.
        plans: The views of each file.
        size: Pixels of each side of a view.
        resize: `crop`, `pad` or `squash`; see `decoding.fit`.
        cache: Of decoded pixels.

    Yields:
        (views, size, size, 3) uint8 RGB for each image.

    Raises:
        ThawError: An image cannot be read.
    """

    def draw_image(item: tuple[Photograph, Plan]) -> np.ndarray:
        path, plan = item
        return planned(decoding.read(path, size, cache), plan, size, resize)

    return prefetch.map_in_order(draw_image, zip(paths, plans, strict=True), usable_cores(), MAX_AHEAD)


def planned(pixels: np.ndarray, plan: Plan, size: int, resize: str) -> np.ndarray:
    """Return the planned views of one image, (views, size, size, 3) uint8 RGB, from its pixels (h, w, 3)."""
    canvas = decoding.fit(pixels, size, resize)
    return np.stack(
        [augmentation.apply(canvas, size, row) if row else decoding.centre_crop(canvas, size) for row in plan]
    )
