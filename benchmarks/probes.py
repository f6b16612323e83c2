"""Measure which probe on the frozen features suits how many photographs: `head.probes`, and the scale of the channels.

    python benchmarks/probes.py NAME=RUN… [--each 2 5 10 20 50] [--all] [--seeds 10]

RUN is a folder in which `extract_features` has run. From each, 40 % of the photographs are the test part, by group.
Of the others, so many of each class are drawn; a fifth of them, and at least one of each class, is validation. All is
chosen and calibrated on validation. The lines give the log loss and the accuracy of the test part, means over the
seeds, and the seconds that the fits take on one thread.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

import results  # noqa: E402
from scipy.linalg import svd  # noqa: E402
from scipy.special import softmax  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

from thaw.core import arrays  # noqa: E402
from thaw.features import discriminant, examples, linear_probe  # noqa: E402
from thaw.features.discriminant import Discriminant  # noqa: E402
from thaw.features.examples import Examples, weighted_scores  # noqa: E402
from thaw.features.linear_probe import Probe, Samples, standardised, until_worse  # noqa: E402
from thaw.heads.linear import flattery  # noqa: E402

TEST = 0.4
TABLED = {  # those in the table of the handbook
    "logistic, channels by themselves": "own deviation",
    "logistic": "logistic regression",
    "discriminant": "discriminant",
}
CS = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]  # `head.strengths` of params.yaml
RIDGES = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0]  # added to the variance of a channel, which is 1
TEMPERATURES = [0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2]  # of the cosine similarities of the neighbours


class Neighbours(NamedTuple):
    """Each training photograph votes for its class, by its cosine similarity."""

    x: np.ndarray  # (n, channels), of length 1
    mean: np.ndarray  # (channels,)
    labels: np.ndarray
    temperature: float

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        votes = softmax(_unit(features - self.mean) @ self.x.T / self.temperature, axis=1)
        return votes @ np.eye(self.labels.max() + 1)[self.labels]


class Part(NamedTuple):
    """The photographs of a draw."""

    samples: Samples
    features: np.ndarray  # of all photographs
    validation: Examples
    test: Examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--each", nargs="*", type=int, default=[2, 5, 10, 20, 50], help="photographs of each class")
    parser.add_argument("--all", action="store_true", help="also all photographs that are not the test part")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    rows = []
    for title, run in ((title, Path(run)) for title, run in (pair.split("=", 1) for pair in arguments.runs)):
        folder = run / "data/features"
        images = examples.read(folder, run / "data/split.csv").without_augmented_views()
        features = arrays.open_rows(folder / "features.npy")
        for each in [*arguments.each, *([None] if arguments.all else [])]:
            parts = [draw(images, features, each, seed) for seed in range(arguments.seeds)]
            with threadpool_limits(1):
                measured = [measure(part) for part in parts]
            counts = len(parts[0].samples.labels), len(parts[0].validation), len(parts[0].test)
            print(f"{title}: {each or 'all'} of each class ({' + '.join(map(str, counts))} photographs)")
            means = {name: np.mean([result[name] for result in measured], axis=0) for name in measured[0]}
            for name, (loss, accuracy, seconds) in means.items():
                print(f"  {name:34} {loss:.3f}  {accuracy:.1%}  {seconds:.2f} s", flush=True)
            amount = f"{each}" if each else f"all ({len(parts[0].samples.labels) + len(parts[0].validation):,})"
            cells = [[round(means[name][0], 4), round(100 * means[name][1], 2)] for name in TABLED]
            rows.append([f"{title}, {amount}", *cells])
    results.write("probes", ["of each class", *((name, "{:.2f}, {:.1f} %") for name in TABLED.values())], rows)


def draw(images: Examples, features: np.ndarray, each: int | None, seed: int) -> Part:
    """Draw whole groups in a random order: the test part, then so many of each class, a fifth of them validation."""
    _, group = np.unique(images.groups, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(group.max() + 1)[group]
    is_test = rank < TEST * (group.max() + 1)
    training, validation = [], []
    for label in range(images.labels.max() + 1):
        positions = np.flatnonzero((images.labels == label) & ~is_test)
        positions = positions[np.argsort(rank[positions], kind="stable")][:each]
        held_out = max(1, round(len(positions) / 5))
        validation += list(positions[:held_out])
        training += list(positions[held_out:])
    training = np.setdiff1d(training, np.flatnonzero(np.isin(images.groups, images.groups[validation])))
    train = images.take(training)
    samples = Samples(features[train.rows].astype(np.float32), train.labels, examples.training_weights(train, None))
    return Part(samples, features, images.take(np.sort(validation)), images.take(np.flatnonzero(is_test)))


def measure(part: Part) -> dict[str, tuple[float, float, float]]:
    """Return the log loss and the accuracy of the test part, and the seconds, of each kind of probe."""
    validation = part.features[part.validation.rows]
    test = part.features[part.test.rows]
    results, choices = {}, {}
    for name, fit in {
        "logistic, channels by themselves": own_scales,
        "logistic": lambda p: linear_probe.fit_path(p.samples, CS),
        "discriminant": lambda p: calibrated(p, discriminant.fit_path(p.samples, discriminant.STRENGTHS)),
        "nearest class mean": lambda p: calibrated(p, discriminant.fit_path(p.samples, [1e-6])),
        "ridge": lambda p: calibrated(p, ridges(p.samples)),
        "neighbours": neighbours,
    }.items():
        start = time.process_time()
        best, loss, _ = min(until_worse(fit(part), validation, part.validation), key=lambda fitted: fitted[1])
        seconds = time.process_time() - start
        results[name] = (*weighted_scores(best.probabilities(test), part.test), seconds)
        choices[name] = loss
    better = choices["discriminant"] + flattery(part.validation) < choices["logistic"]
    chosen = results["discriminant" if better else "logistic"]
    seconds = results["discriminant"][2] + results["logistic"][2]
    return results | {"logistic or discriminant": (*chosen[:2], seconds)}


def own_scales(part: Part) -> Iterator[Probe]:
    """Fit logistic regression to channels that are each divided by their own deviation."""
    usual = linear_probe.standardised
    linear_probe.standardised = partial(usual, shrinkage=0)
    try:
        yield from linear_probe.fit_path(part.samples, CS)
    finally:
        linear_probe.standardised = usual


def ridges(samples: Samples) -> Iterator[Discriminant]:
    """Fit least squares to the classes as targets of 0 and 1, at each ridge, by one singular value decomposition."""
    x, mean, scale = standardised(samples.features, samples.weights)
    root = np.sqrt(samples.weights / samples.weights.sum())[:, None]
    targets = np.eye(samples.labels.max() + 1)[samples.labels]
    centre = (root**2).T @ targets
    left, values, right = svd(x * root, full_matrices=False)
    along = values[:, None] * (left.T @ ((targets - centre) * root))
    for ridge in sorted(RIDGES, reverse=True):
        kernel = right.T @ (along / (values**2 + ridge)[:, None]) / scale[:, None]
        yield Discriminant(kernel, centre[0] - mean @ kernel, 1 / ridge)


def calibrated(part: Part, fits: Iterator[Discriminant]) -> Iterator[Probe]:
    for fitted in fits:
        factor = discriminant.calibrate(fitted, part.features[part.validation.rows], part.validation)
        yield Probe(
            (fitted.kernel * factor).astype(np.float32), (fitted.bias * factor).astype(np.float32), fitted.strength
        )


def neighbours(part: Part) -> Iterator[Neighbours]:
    mean = part.samples.features.mean(axis=0)
    for temperature in sorted(TEMPERATURES, reverse=True):
        yield Neighbours(_unit(part.samples.features - mean), mean, part.samples.labels, temperature)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-9)


if __name__ == "__main__":
    main()
