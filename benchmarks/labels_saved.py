"""Measure how many labels `src/label.py next` saves: accuracy against the number of labels, beside chance and others.

    python benchmarks/labels_saved.py [--data "solar cells" trashnet "open images"] [--rules next chance] [--seeds 5]

All comes from the frozen features, which are computed once and kept in ~/.cache/thaw. For each seed, 30 % of the groups
of near-duplicates are the test part. A rule then chooses from the rest, without any label at first, so many at a time;
after each choice logistic regression is fitted to all labels so far. The lines give, for each rule: the labels that are
needed for 95 % of the accuracy which all labels give, of each seed; the mean accuracy over the curve; and how much that
is above chance on the same parts, with the standard deviation over the seeds.

The rules beside `next` and `chance`: `typical` and `doubtful`, the two halves of `next`, each alone; `margin` and
`entropy` (the most doubtful); `core-set` (the farthest from all labels, Sener and Savarese 2018); `cover` (ProbCover,
Yehuda et al. 2022); `badge` (Ash et al. 2020, on the head's gradient); `drop-query` (Gupte et al. 2024).
Needs a finished `dvc repro` of the default photographs, and ../shared for the others.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import clones
import numpy as np
import polars as pl
import results
from threadpoolctl import threadpool_limits

from thaw.backbones.cut_points import FEATURES
from thaw.core import arrays
from thaw.core.errors import run
from thaw.engines import inference
from thaw.features import examples, linear_probe
from thaw.features.linear_probe import Samples
from thaw.labelling import candidates, feature_cache, selection
from thaw.labelling.feature_cache import FeatureCache
from thaw.labelling.selection import Labelled
from thaw.splitting import duplicates, thumbnails

ROOT, SHARED = clones.ROOT, clones.ROOT.parent / "shared"
CACHE = Path("~/.cache/thaw/features").expanduser()
ALPACA = "/m/0pcr"  # in Open Images
TEST, ENOUGH = 0.3, 0.95
STEPS = {"solar cells": (50, 900), "trashnet": (50, 900), "open images": (5, 80)}  # labels at a time, and in the end
SIZE = 224
DROPPED, MASKS = 0.75, 3  # of the features, for drop-query


@dataclass(frozen=True)
class Data:
    """Photographs of which all labels are known."""

    features: np.ndarray  # (n, channels)
    labels: np.ndarray  # (n,)
    weights: np.ndarray  # (n,)
    groups: np.ndarray  # (n,)
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Round:
    """What a rule may look at."""

    features: np.ndarray  # (n, channels) of the photographs without a label
    labelled: Labelled
    classes: tuple[str, ...]
    count: int
    generator: np.random.Generator

    @property
    def probabilities(self) -> np.ndarray:
        return selection.probabilities(self.labelled, self.features, len(self.classes))

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """The centred features, of length 1: without a label, and with one."""
        every = np.concatenate([self.features, self.labelled.features]).astype(np.float32)
        centred = every - every.mean(axis=0)
        units = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-9)
        return units[: len(self.features)], units[len(self.features) :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    cells: dict[str, list[str]] = {}
    columns = ["rule"]
    for name in options.data:
        data, (step, last) = read(name), STEPS[name]
        chance: list[float] = []
        for rule in dict.fromkeys(["chance", *options.rules]):
            with threadpool_limits(1):
                curves = [curve(data, RULES[rule], seed, step, last) for seed in range(options.seeds)]
            means = [float(np.mean([accuracy for _, accuracy in points])) for points, _ in curves]
            chance = chance or means
            cell = report(name, rule, curves, [a - b for a, b in zip(means, chance, strict=True)])
            cells.setdefault(rule, []).append(cell)
        columns.append(f"{name}, {100 * mean(full for _, full in curves):.1f} % with all labels")
    rows = [[NAMES[rule], *cells[rule]] for rule in NAMES if rule in cells]
    results.write("labels_saved", columns, rows)


def read(name: str) -> Data:
    if name == "solar cells":
        folder = ROOT / "data/features"
        images = examples.read(folder, ROOT / "data/split.csv").without_augmented_views()
        features = arrays.open_rows(folder / "features.npy")[images.rows]
        return Data(features, images.labels, images.weights, images.groups, examples.read_classes(folder))
    paths = {path: path.parent.name for path in sorted((SHARED / "trashnet").glob("*/*.jpg"))}
    if name == "open images":
        tables = sorted((SHARED / "open_images/annotations").glob("*-human-imagelabels-boxable.csv"))
        rows = pl.concat([pl.read_csv(table, infer_schema=False) for table in tables]).filter(LabelName=ALPACA)
        labels = {row: "alpaca" if float(sure) == 1 else "other" for row, sure in rows["ImageID", "Confidence"].rows()}
        paths = {SHARED / "open_images/images" / f"{key}.jpg": labels[key] for key in sorted(labels)}
    network = ROOT / "models/backbone/backbone.xml"
    cache = FeatureCache(CACHE, feature_cache.key([network, network.with_suffix(".bin")], f"{SIZE} crop None"))
    frozen = candidates.Network(inference.compile_openvino(network, FEATURES, SIZE), SIZE, "crop")
    found = candidates.read(paths, frozen, cache)
    entries = cache.get(found.hashes)
    small = np.array([entries[sha256].thumbnail for sha256 in found.hashes], thumbnails.THUMBNAIL)
    classes = tuple(sorted(set(paths.values())))
    return Data(
        features=np.stack([entries[sha256].features for sha256 in found.hashes]),
        labels=np.array([classes.index(paths[path]) for path in found.paths]),
        weights=np.ones(len(found.paths)),
        groups=np.array(duplicates.group_near_duplicates([str(path) for path in found.paths], small)),
        classes=classes,
    )


def curve(
    data: Data, rule: Callable[[Round], np.ndarray], seed: int, step: int, last: int
) -> tuple[list[tuple[int, float]], float]:
    """Return the points (labels, accuracy) of a rule, and the accuracy with all labels."""
    _, group = np.unique(data.groups, return_inverse=True)
    rank = np.random.default_rng(100 + seed).permutation(group.max() + 1)[group]
    is_test = rank < TEST * (group.max() + 1)
    test, pool, generator = np.flatnonzero(is_test), np.flatnonzero(~is_test), np.random.default_rng(seed)

    def accuracy(rows: np.ndarray) -> float:
        predicted = selection.probabilities(labelled(data, rows), data.features[test], len(data.classes)).argmax(axis=1)
        return float(np.average(predicted == data.labels[test], weights=data.weights[test]))

    full, points, rows = accuracy(pool), [], np.empty(0, int)
    while len(rows) < last and len(pool) > step:
        chosen = rule(Round(data.features[pool], labelled(data, rows), data.classes, step, generator))
        assert len(set(chosen)) == step
        rows, pool = np.concatenate([rows, pool[chosen]]), np.delete(pool, chosen)
        points.append((len(rows), accuracy(rows)))
    return points, full


def labelled(data: Data, rows: np.ndarray) -> Labelled:
    return Labelled(data.features[rows], data.labels[rows], np.ones(len(rows)))


def report(name: str, rule: str, curves: list[tuple[list[tuple[int, float]], float]], gains: list[float]) -> str:
    """Print what a rule needed on a data set. Returns it as a cell of the table of results."""
    needed = [next((count for count, a in points if a >= ENOUGH * full), None) for points, full in curves]
    last = curves[0][0][-1][0]
    texts = ", ".join(f">{last}" if count is None else str(count) for count in needed)
    average = mean(count or last for count in needed)
    spread = stdev(count or last for count in needed) if needed[1:] else 0
    accuracies = [mean(a for _, a in points) for points, _ in curves]
    change = f"{100 * mean(gains):+.1f} points to chance (sd {100 * (stdev(gains) if gains[1:] else 0):.1f})"
    full = 100 * mean(full for _, full in curves)
    at = {count: mean(dict(points)[count] for points, _ in curves) for count, _ in curves[0][0]}
    shown = [count for i, count in enumerate(at) if i % max(1, len(at) // 6) == 0]
    print(
        f"{name}: {rule}: {average:.0f} labels (sd {spread:.0f}; {texts}) for 95 % of {full:.1f} %; over the curve "
        f"{100 * mean(accuracies):.1f} %, {change}; " + ", ".join(f"{count}: {100 * at[count]:.1f}" for count in shown),
        flush=True,
    )
    over = "over " if None in needed else ""
    cell = f"{over}{average:.0f} ({spread:.0f})"
    return cell if rule == "chance" else f"{cell}, {change.replace(' to chance (sd', ' (')}".replace("( ", "(")


def next_rule(r: Round) -> np.ndarray:
    return selection.choose(r.features, r.labelled, r.classes, r.count, seed=int(r.generator.integers(2**31))).positions


def chance(r: Round) -> np.ndarray:
    return r.generator.choice(len(r.features), r.count, replace=False)


def typical(r: Round) -> np.ndarray:
    return selection.typical(r.features, r.labelled.features, r.count, r.generator).positions


def doubtful(r: Round) -> np.ndarray:
    return selection.doubtful(r.features, r.probabilities, r.classes, r.count, r.generator).positions


def margin(r: Round) -> np.ndarray:
    p = np.sort(r.probabilities, axis=1)
    return np.argsort(p[:, -1] - p[:, -2], kind="stable")[: r.count]


def entropy(r: Round) -> np.ndarray:
    p = r.probabilities.clip(1e-9)
    return np.argsort((p * np.log(p)).sum(axis=1), kind="stable")[: r.count]


def core_set(r: Round) -> np.ndarray:
    x, known = r.units()
    nearest = np.full(len(x), 2.0)
    for row in known:
        nearest = np.minimum(nearest, 1 - x @ row)
    chosen: list[int] = []
    for _ in range(r.count):
        chosen.append(int(np.argmax(nearest)) if len(known) or chosen else int(np.argmin((x**2).sum(axis=1))))
        nearest = np.minimum(nearest, 1 - x @ x[chosen[-1]])
        nearest[chosen] = -1
    return np.array(chosen)


def cover(r: Round) -> np.ndarray:
    """Cover as many photographs as possible by balls around the labels, each as wide as 2 % of the photographs lie."""
    x, known = r.units()
    every = np.concatenate([x, known])
    similarity = every @ every.T
    radius = np.median(np.sort(similarity, axis=1)[:, -max(3, len(every) // 50)])
    inside = similarity >= radius
    covered = inside[len(x) :].any(axis=0) if len(known) else np.zeros(len(every), bool)
    gain = inside[: len(x), ~covered].sum(axis=1)
    chosen: list[int] = []
    for _ in range(r.count):
        chosen.append(int(np.argmax(gain)))
        new = inside[chosen[-1]] & ~covered
        covered |= new
        gain = gain - inside[: len(x), new].sum(axis=1)
        gain[chosen] = -1
    return np.array(chosen)


def badge(r: Round) -> np.ndarray:
    """Draw by k-means++ among the gradients of the head, for the answer that it takes to be right."""
    p, x = r.probabilities, r.units()[0]
    residual = p - np.eye(p.shape[1])[p.argmax(axis=1)]
    lengths = (residual**2).sum(axis=1) * (x**2).sum(axis=1)
    chosen, nearest = [int(np.argmax(lengths))], np.full(len(x), np.inf)
    while len(chosen) < r.count:
        last = chosen[-1]
        product = (residual @ residual[last]) * (x @ x[last])
        nearest = np.minimum(nearest, np.maximum(lengths + lengths[last] - 2 * product, 0))
        nearest[chosen] = 0
        chosen.append(int(r.generator.choice(len(x), p=nearest / nearest.sum())))
    return np.array(chosen)


def drop_query(r: Round) -> np.ndarray:
    """Cluster the photographs whose answer changes in most of MASKS trials without some of the features."""
    answer, changes = r.probabilities.argmax(axis=1), np.zeros(len(r.features))
    present, labels = np.unique(r.labelled.labels, return_inverse=True)
    samples = Samples(r.labelled.features.astype(np.float32), labels, np.ones(len(labels)))
    probe = next(linear_probe.fit_path(samples, [selection.C]))
    for _ in range(MASKS):
        kept = (r.generator.random(r.features.shape) >= DROPPED) / (1 - DROPPED)
        changes += present[probe.probabilities(r.features * kept).argmax(axis=1)] != answer
    ranked = np.argsort(-changes, kind="stable")
    ahead = ranked[: max(r.count, int((changes > MASKS / 2).sum()))]
    x = r.units()[0][ahead]
    cluster, centres = selection.clusters(x, r.count, np.ones(len(x)), r.generator)
    members = [np.flatnonzero(cluster == i) for i in range(r.count)]
    chosen = [
        int(ahead[m[np.argmin(((x[m] - c) ** 2).sum(axis=1))]]) for m, c in zip(members, centres, strict=True) if len(m)
    ]
    return np.array([*chosen, *[i for i in ranked if i not in set(chosen)][: r.count - len(chosen)]])


def after_typical(rule: Callable[[Round], np.ndarray]) -> Callable[[Round], np.ndarray]:
    """A rule that needs a model: before there are labels of two classes, the choice is `typical`."""
    return lambda r: rule(r) if len(np.unique(r.labelled.labels)) > 1 else typical(r)


RULES = {
    "next": next_rule,
    "chance": chance,
    "typical": typical,
    "doubtful": after_typical(doubtful),
    "margin": after_typical(margin),
    "entropy": after_typical(entropy),
    "core-set": core_set,
    "cover": cover,
    "badge": after_typical(badge),
    "drop-query": after_typical(drop_query),
}
NAMES = {  # of the rules in the table of results, in its order
    "next": "**`next`**",
    "chance": "chance",
    "typical": "what is typical, all the time (TypiClust)",
    "doubtful": "what is doubtful, spread out, all the time",
    "margin": "the most doubtful (margin)",
    "entropy": "the most doubtful (entropy)",
    "badge": "BADGE",
    "drop-query": "DropQuery",
    "core-set": "the farthest (core-set)",
    "cover": "ProbCover",
}

if __name__ == "__main__":
    run(main)
