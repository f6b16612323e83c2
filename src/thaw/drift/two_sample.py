"""Are two samples of features of the same kind? A classifier two-sample test (Lopez-Paz and Oquab 2017).

A classifier learns to tell the two samples apart, and is asked about images that it has not seen. If it tells them
apart better than chance allows, the samples differ. The classifier is ridge regression on features of length 1, which
weighs all channels, like a linear discriminant. Chance is known exactly: the same is done after the images have been
dealt out to the two samples anew, PERMUTATIONS times. Near-duplicates always stay together, in the folds and when they
are dealt out, else a burst of one scene would look like another kind.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

PERMUTATIONS = 999  # so the smallest p is 0.001
LEVEL = 0.01  # below which p is an alarm: of samples of the same kind, at most this share raises one
FOLDS = 10
SHRINKAGE = 0.3  # the penalty, as a multiple of the mean eigenvalue: see benchmarks/drift.py


@dataclass(frozen=True)
class TwoSample:
    """How well a classifier tells two samples apart.

    Attributes:
        auc: the probability that it takes an image of the second sample, rather than one of the first, for one of the
            second. 0.5 is chance, 1 tells all apart.
        p: how often dealing out the images anew gives such an AUC or a higher one, from 0.001 to 1.
        chance: the AUC that only LEVEL of the new deals reach.
        scores: (m,) of the images of the second sample, the higher the less they look like the first.
    """

    auc: float
    p: float
    chance: float
    scores: NDArray[np.float64]

    @property
    def differ(self) -> bool:
        """Whether the two samples are of two kinds: p is below LEVEL."""
        return self.p < LEVEL

    @property
    def is_too_small(self) -> bool:
        """Whether no samples of so few groups of near-duplicates could differ, however well they are told apart."""
        return self.chance > 1 - 1e-9 and not self.differ


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def compare(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    groups: NDArray[np.integer],
    shrinkage: float = SHRINKAGE,
) -> TwoSample:
    """Compare two samples by their features.

    Args:
        first: (n, channels).
        second: (m, channels).
        groups: (n + m,) int, from 0, of the images of the first, then of the second sample: near-duplicates share one.
            No group has images of both.
        shrinkage: a multiple of the mean eigenvalue of the features' products.

    Returns:
        The comparison. The same features give the same.
    """
    features = np.concatenate([first, second]).astype(np.float64)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    features -= features.mean(axis=0)
    products = features @ features.T
    penalty = max(shrinkage * np.trace(products) / len(products), 1e-12)  # 0 if all images are equal
    hat = products @ np.linalg.inv(products + penalty * np.eye(len(products)))  # labels → fitted labels
    labels = _deals(np.repeat([0.0, 1.0], [len(first), len(second)]), groups)
    scores = _held_out_scores(hat, labels, _folds(groups))
    aucs = _aucs(scores, labels > 0.5)
    p = float(np.mean(aucs >= aucs[0] - 1e-12))
    chance = float(np.sort(aucs)[-max(1, round(LEVEL * len(aucs)))])
    return TwoSample(float(aucs[0]), p, chance, scores[len(first) :, 0])


def _deals(labels: NDArray[np.float64], groups: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the labels (n, 1 + PERMUTATIONS): first as they are, then with those of the groups exchanged at random."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    generator, by_group = np.random.default_rng(1), labels[first]
    dealt = [by_group, *(generator.permutation(by_group) for _ in range(PERMUTATIONS))]
    return np.stack(dealt, axis=1)[number]


def _folds(groups: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the fold (n,) of each image, drawn for whole groups."""
    _, number = np.unique(groups, return_inverse=True)
    count = number.max() + 1
    return np.random.default_rng(2).permutation(count)[number] % min(FOLDS, count)


def _held_out_scores(
    hat: NDArray[np.float64], labels: NDArray[np.float64], folds: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return what ridge regression without an image's own fold gives each image, for each column of labels.

    Nothing is fitted again: the residual of a fold that was left out is (I - H)⁻¹ of the fitted one, with the fold's
    own block of H (as leave-one-out divides by 1 - h).
    """
    labels = labels - labels.mean(axis=0)
    residuals = labels - hat @ labels
    scores = np.empty_like(labels)
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        own = np.eye(len(rows)) - hat[np.ix_(rows, rows)]
        scores[rows] = labels[rows] - np.linalg.solve(own, residuals[rows])
    return scores


def _aucs(scores: NDArray[np.float64], is_second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the area under the ROC curve (k,) of each column of scores (n, k)."""
    ranks = rankdata(scores.round(9), axis=0)  # rounded: equal images have equal scores, which count as half
    positives = is_second.sum(axis=0)
    sums = np.where(is_second, ranks, 0).sum(axis=0)
    return (sums - positives * (positives + 1) / 2) / np.maximum(positives * (len(scores) - positives), 1)
