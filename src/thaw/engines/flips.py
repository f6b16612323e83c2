"""Test-time flips: the mean of what a network returns for an image and for its mirror images."""

from collections.abc import Iterator

import numpy as np

from thaw.engines.inference import Batches, Run

AXES = {  # for each mirror image, the axes of a batch (n, height, width, channels) that are reversed
    None: (),
    "horizontal": ((2,),),
    "vertical": ((1,),),
    "both": ((2,), (1,), (1, 2)),
}


def average_flips(run: Run, flips: str | None) -> Run:
    """Return a function like `run`, which returns an array for each batch: the mean over the batch and its mirror
    images of AXES."""
    all_axes = [(), *AXES[flips]]

    def run_flipped(batches: Batches) -> Iterator[np.ndarray]:
        outputs = run(np.flip(batch, axes) for batch in batches for axes in all_axes)
        for batch_outputs in zip(*[outputs] * len(all_axes), strict=True):
            yield np.mean(batch_outputs, axis=0)

    return run_flipped
