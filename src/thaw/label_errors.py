"""Labels that are likely to be wrong: those that a model which has not seen them finds least probable."""

import numpy as np
from numpy.typing import NDArray


def self_confidence(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    groups: NDArray[np.str_] | NDArray[np.integer],
    classes: int,
    *,
    folds: int = 5,
    strength: float = 1e-3,
    seed: int,
) -> NDArray[np.float64]:
    """Return the probability (n,) of each image's own label by a head that was trained without the image's group.

    features (n, channels) of any floating type, of all photographs (train, validation and test), labels (n,),
    weights (n,), groups (n,). `folds`: parts of whole groups, each predicted by what the others teach. An image
    that tells nothing (its class has no other group) has 1.
    """
    raise NotImplementedError


def suspicious(confidence: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the images (n,) in the order in which their labels are worth a second look, the likeliest wrong first."""
    raise NotImplementedError
