"""How far a photograph lies from all that a model was trained on, and from where on its answer is a guess.

A classifier knows only its classes: it calls an alpaca a solar cell, and is sure of it. What tells the two apart is how
near the frozen features come to those of training photographs, as deep nearest neighbours have it (Sun et al. 2022,
arXiv 2204.06507): the k-th nearest by normalised features, and a limit from photographs of the same kind alone.
"""

from collections.abc import Callable, Iterator
from math import ceil, floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw import arrays, comparison, examples
from thaw.errors import ThawError
from thaw.inference import Batches, rebatch

NEIGHBOURS = 5  # the nearest alone may be an odd one among the training photographs, or the same object once more
BLOCK = 32  # photographs compared at a time: all training features are scaled anew for each block
HELD_OUT = 2000  # validation photographs behind a limit; with more, a large run would wait minutes for little


def read(folder: Path, split: Path) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the features of the plain training photographs (m, channels), and of up to HELD_OUT of validation.

    folder: what `extract_features` wrote; maps are pooled. Beyond its result it holds some 300 MB.
    """
    features, of = arrays.open_rows(folder / "features.npy"), examples.read(folder, split)
    held_out = of["validation"].views[:, 0]
    if len(held_out) > HELD_OUT:
        held_out = np.sort(np.random.default_rng(1).choice(held_out, HELD_OUT, replace=False))
    return _pooled(features, of["train"].views[:, 0]), _pooled(features, held_out)


def _pooled(features: np.memmap, rows: NDArray[np.integer]) -> NDArray[np.floating]:
    result, done = np.empty((len(rows), features.shape[-1]), features.dtype), 0
    for block in arrays.blocks(features, rows):
        result[done : done + len(block)] = arrays.pooled(block)
        done += len(block)
        arrays.release(features)
    return result


def distances(training: NDArray[np.floating], features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return 1 - the cosine similarity (n,), 0 … 2, of each photograph to its NEIGHBOURS-th nearest training one."""
    _, similarities = comparison.nearest_training(training, features, NEIGHBOURS)
    return 1 - similarities[:, -1]


def limit(held_out: NDArray[np.floating], share: float) -> float:
    """Return the distance above which at most 1 - share of the photographs lie that are like the held-out ones.

    held_out (n,): their distances. The limit is the one of rank ⌈share · (n + 1)⌉: a new photograph is as likely to
    take any of the n + 1 places, so that the promise holds for small n too (split conformal; Bates et al. 2023,
    arXiv 2104.08279). Raises ThawError where n is too small for that.
    """
    rank = ceil(round(share * (len(held_out) + 1), 6))
    if rank > len(held_out):
        most = floor(10_000 * len(held_out) / (len(held_out) + 1)) / 10_000
        raise ThawError(
            f"{len(held_out):,} validation photographs are too few to tell what lies beyond the share {share} of them: "
            f"take one of at most {most}"
        )
    return float(np.sort(held_out)[rank - 1])


def engine(
    run: Callable[[Batches], Iterator[np.ndarray]], training: NDArray[np.floating]
) -> Callable[[Batches], Iterator[NDArray[np.float32]]]:
    """Return what maps batches of views to arrays of distances, in order; `run` maps them to features or maps."""

    def measure(batches: Batches) -> Iterator[NDArray[np.float32]]:
        for features in rebatch(map(arrays.pooled, run(batches)), BLOCK):
            yield distances(training, features)

    return measure
