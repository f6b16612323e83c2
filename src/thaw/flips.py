"""Test-time flips: the answer to a photograph as the mean of those to it and to its mirror images."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

Run = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]
AXES = {  # of views (n, height, width, channels) that are turned round for each mirror image
    None: (),
    "horizontal": ((2,),),
    "vertical": ((1,),),
    "both": ((2,), (1,), (1, 2)),
}


def averaged(run: Run, flips: str | None) -> Run:
    """Return what answers as `run` does, a batch for each batch, but to each photograph and its mirror images of AXES
    at once, with the mean of its answers."""
    images = [(), *AXES[flips]]

    def ask(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        answers = run(np.flip(batch, axes) for batch in batches for axes in images)
        for of_batch in zip(*[answers] * len(images), strict=True):
            yield np.mean(of_batch, axis=0)

    return ask
