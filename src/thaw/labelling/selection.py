"""Which photographs to label next: what is typical while labels are few; later what the model doubts, spread out.

With few labels, a model's doubt says little. Then the photographs are clustered, and of each cluster without a label
the most typical photograph is taken (TypiClust, Hacohen et al. 2022, arXiv 2202.02794). With more labels, the most
doubtful photographs are clustered, weighted by the doubt, and each cluster gives the one nearest to its centre
(Zhdanov 2019, arXiv 1901.05954; the order of the two as in Gupte et al. 2024, arXiv 2401.14555).
benchmarks/labels_saved.py measures it beside chance and seven other rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thaw.features import linear_probe
from thaw.features.linear_probe import Samples

MIN_LABELS_PER_CLASS = 5  # on average; with fewer, what is typical is taken
CANDIDATES = 5  # times as many doubtful photographs are clustered as are taken
C = 0.03  # of the probe whose doubt counts: good for 50 to 900 labels of three data sets
MAX_TRAINING = 20_000  # labelled photographs that the probe is fitted to; of more, these are drawn
MAX_CLUSTERS = 500  # of all photographs
MIN_CLUSTER = 5  # photographs; smaller clusters are outliers, and come last
NEIGHBOURS = 20  # in its cluster, by whose similarity a photograph is typical
MAX_STEPS = 8  # of k-means: more change the choice little
BLOCK_ROWS = 4096
MAX_SIMILARITIES = 2**24  # of rows to rows that are held at a time: 64 MB


@dataclass(frozen=True)
class Labelled:
    """What is labelled already."""

    features: NDArray[np.floating]  # (m, channels)
    labels: NDArray[np.integer]  # (m,), positions in the classes
    weights: NDArray[np.floating]  # (m,) >= 0

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Choice:
    """Photographs in the order in which they should be labelled.

    Attributes:
        positions: (count,) in the pool.
        scores: (count,): how typical each is of its cluster, -1 … 1; or how doubtful, 0 … 1.
        reasons: of each, in words.
        by_doubt: whether doubt has decided.
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.float64]
    reasons: list[str]
    by_doubt: bool


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def choose(pool: NDArray[np.floating], labelled: Labelled, classes: Sequence[str], count: int, seed: int = 1) -> Choice:
    """Choose the photographs to label next.

    Args:
        pool: (n, channels) features of the photographs without a label.
        labelled: those with one; may be empty.
        classes: their names.
        count: how many are chosen, or n if there are fewer.
        seed: of the first centres of the clusters.
    """
    count = min(count, len(pool))
    generator = np.random.default_rng(seed)
    if len(np.unique(labelled.labels)) < 2 or len(labelled) < MIN_LABELS_PER_CLASS * len(classes):
        return typical(pool, labelled.features, count, generator)
    return doubtful(pool, probabilities(labelled, pool, len(classes)), classes, count, generator)


def probabilities(labelled: Labelled, features: NDArray[np.floating], classes: int) -> NDArray[np.float64]:
    """Return (n, classes) probabilities for (n, channels) features, by logistic regression on what is labelled."""
    rows = np.flatnonzero(labelled.weights)
    if len(rows) > MAX_TRAINING:
        rows = np.sort(np.random.default_rng(1).choice(rows, MAX_TRAINING, replace=False))
    present, labels = np.unique(labelled.labels[rows], return_inverse=True)
    result = np.zeros((len(features), classes))
    if len(present) < 2:
        result[:, present] = 1
        return result
    weights = labelled.weights[rows] / labelled.weights[rows].mean()
    samples = Samples(np.asarray(labelled.features[rows], np.float32), labels, weights)
    probe = next(linear_probe.fit_path(samples, [C]))
    for start in range(0, len(features), BLOCK_ROWS):
        block = np.asarray(features[start : start + BLOCK_ROWS], np.float32)
        result[start : start + BLOCK_ROWS, present] = probe.probabilities(block)
    return result


def typical(
    pool: NDArray[np.floating], labelled: NDArray[np.floating], count: int, generator: np.random.Generator
) -> Choice:
    """Choose the most typical photograph of each cluster, of the clusters with the fewest labels first.

    Args:
        pool: (n, channels) features of the photographs without a label.
        labelled: (m, channels) of those with one.
        count: how many are chosen, at most n.
        generator: draws the first centres.
    """
    mean = np.asarray(pool, np.float32).mean(axis=0) if len(pool) else 0
    x = np.concatenate([_unit(pool, mean), _unit(labelled, mean)]) if len(labelled) else _unit(pool, mean)
    number = min(len(labelled) + count, MAX_CLUSTERS, len(x))
    cluster = clusters(x, number, np.ones(len(x)), generator)[0]
    is_free = np.arange(len(x)) < len(pool)
    size, labels = np.bincount(cluster, minlength=number), np.bincount(cluster[~is_free], minlength=number)
    similarity = np.empty(len(pool))
    for i in range(number):
        members = np.flatnonzero(cluster == i)
        similarity[members[members < len(pool)]] = _typicality(x[members])[members < len(pool)]
    chosen, scores, reasons = [], [], []
    while len(chosen) < count:
        free = np.bincount(cluster[is_free], minlength=number) > 0
        open_clusters = np.flatnonzero(free & (size >= MIN_CLUSTER))
        open_clusters = open_clusters if len(open_clusters) else np.flatnonzero(free)
        best = min(open_clusters, key=lambda i: (labels[i], -size[i], i))
        members = np.flatnonzero(is_free & (cluster == best))
        position = int(members[np.argmax(similarity[members])])
        of_these = f"{labels[best]:,} of which {'is' if labels[best] == 1 else 'are'} labelled or chosen"
        alike = f"typical of {size[best]:,} alike, {of_these}" if size[best] >= MIN_CLUSTER else "unlike most others"
        chosen.append(position)
        scores.append(float(similarity[position]))
        reasons.append(alike)
        is_free[position] = False
        labels[best] += 1
    return Choice(np.array(chosen, np.int64), np.array(scores), reasons, by_doubt=False)


def doubtful(
    pool: NDArray[np.floating],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    count: int,
    generator: np.random.Generator,
) -> Choice:
    """Choose photographs that the model doubts and that differ, the most doubtful first.

    The doubt is 1 less the distance between the two highest probabilities.

    Args:
        pool: (n, channels) features.
        probabilities: (n, classes).
        classes: their names.
        count: how many are chosen, at most n.
        generator: draws the first centres.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    two = np.take_along_axis(probabilities, order, axis=1)
    doubt = 1 - (two[:, 0] - two[:, 1])
    ranked = np.argsort(-doubt, kind="stable")
    ahead = ranked[: CANDIDATES * count]
    x, weights = _unit(pool[ahead], np.asarray(pool, np.float32).mean(axis=0)), doubt[ahead] + 1e-6
    chosen: list[int] = []
    if count:
        cluster, centres = clusters(x, count, weights, generator)
        for i in range(count):
            members = np.flatnonzero(cluster == i)
            if len(members):
                chosen.append(int(ahead[members[np.argmin(((x[members] - centres[i]) ** 2).sum(axis=1))]]))
    rest = ranked[~np.isin(ranked, chosen)]
    chosen += rest[: count - len(chosen)].tolist()  # a cluster may be empty
    positions = np.array(sorted(chosen, key=lambda i: (-doubt[i], i)), np.int64)
    parts = [[f"{classes[k]} ({p:.0%})" for k, p in zip(order[i], two[i], strict=True)] for i in positions]
    reasons = [f"by its features {' or '.join(part)}" for part in parts]
    return Choice(positions, doubt[positions], reasons, by_doubt=True)


def clusters(
    x: NDArray[np.float32], number: int, weights: NDArray[np.floating], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the cluster (n,) of each row of x, and the centres (number, channels).

    They are those of weighted k-means, which begins as k-means++ does.
    """
    squares = (x**2).sum(axis=1)
    nearest, centres = np.ones(len(x)), np.empty((number, x.shape[1]), np.float32)
    for i in range(number):
        share = nearest * weights
        share = share / share.sum() if share.sum() > 0 else np.full(len(x), 1 / len(x))
        row = generator.choice(len(x), p=share)
        centres[i] = x[row]
        distance = np.maximum(squares + squares[row] - 2 * (x @ x[row]), 0)
        nearest = np.minimum(nearest, distance) if i else distance
    for _ in range(MAX_STEPS):
        cluster = _nearest(x, centres)
        for i in np.unique(cluster):
            members = cluster == i
            centres[i] = np.average(x[members], axis=0, weights=weights[members])
    return _nearest(x, centres), centres


def _nearest(x: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    lengths = (centres**2).sum(axis=1)
    blocks = (x[start : start + BLOCK_ROWS] for start in range(0, len(x), BLOCK_ROWS))
    return np.concatenate([np.argmin(lengths - 2 * (block @ centres.T), axis=1) for block in blocks])


def _typicality(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (n,): the mean cosine similarity of each row to its NEIGHBOURS nearest others; 0 if there is none."""
    neighbours = min(NEIGHBOURS, len(x) - 1)
    if neighbours < 1:
        return np.zeros(len(x))
    result = np.empty(len(x))
    rows = min(BLOCK_ROWS, max(1, MAX_SIMILARITIES // len(x)))
    for start in range(0, len(x), rows):
        similar = x[start : start + rows] @ x.T
        nearest = -np.partition(-similar, neighbours, axis=1)[:, : neighbours + 1]
        result[start : start + rows] = (nearest.sum(axis=1) - nearest.max(axis=1)) / neighbours  # without itself
    return result


def _unit(x: NDArray[np.floating], mean: NDArray[np.floating]) -> NDArray[np.float32]:
    centred = np.asarray(x, np.float32) - mean
    return centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-9)
