"""Measure how well a learning curve is carried on: train on a quarter of the photographs, and predict the whole.

    python benchmarks/forecast.py NAME=FOLDER … [--sets 20] [--head ridge]

FOLDER is the folder `data` of a finished run. Each of the sets draws another quarter of its photographs, with the same
share of every class, measures the learning curve of it, in five folds and in one split, and carries it on to four times
as many. The truth is what heads have right that are trained on three fifths of all photographs, on those that they have
not seen; the mean over all sets is free of their luck. Of the features the first 128 principal components are kept: a
set takes ten seconds, and with `--head ridge`, which fits ridge regression in place of logistic regression, one.

An answer, such as that two points more take 900 to 1,600 photographs, is contradicted where the truth at four times as
many says otherwise: its interval ends before four times and the points are not reached, or it begins behind, and they
are.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import coverage
import numpy as np
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from thaw.evaluation import learning_curve  # noqa: E402
from thaw.evaluation.forecast import AHEAD, POINTS, Forecast  # noqa: E402
from thaw.evaluation.learning_curve import HeadFit, measure_learning_curve  # noqa: E402
from thaw.features.examples import Examples  # noqa: E402
from thaw.features.linear_probe import Samples, until_worse  # noqa: E402

COMPONENTS = 128  # of the features
QUARTER, FOLDS, TWENTIETHS = 4, 5, 20
KINDS = ("five folds", "one split")


def ranks(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return places (n,) in a random order by class: every k-th has the same share of every class."""
    order = np.lexsort((generator.permutation(len(labels)), labels))
    return np.argsort(order)


def divided(images: Examples, kind: str, generator: np.random.Generator) -> Examples:
    """Return the images in five folds, or with a quarter of them for test and three twentieths for validation."""
    rank = ranks(images.labels, generator)
    if kind == "five folds":
        return replace(images, folds=rank[:, None] % FOLDS, splits=np.full(len(images), "train"))
    place = rank % TWENTIETHS
    return replace(images, splits=np.select([place < 5, place < 8], ["test", "validation"], "train"))


def true_accuracy(features: np.ndarray, images: Examples, outside: Examples | None = None) -> float:
    """Return what a head of the first round has right of the images outside; without any, of its own test split."""
    part = images.rounds()[0]
    train, validation, test = part.split("train"), part.split("validation"), outside or part.split("test")
    path = learning_curve.fit_path(Samples(features[train.rows], train.labels, np.ones(len(train))), coverage.CS)
    head, *_ = min(until_worse(path, features[validation.rows], validation), key=lambda fitted: fitted[1])
    return float((head.probabilities(features[test.rows]).argmax(axis=1) == test.labels).mean())


def ridge_path(samples: Samples, _: Sequence[float]) -> Iterator[SimpleNamespace]:
    """Yield heads by ridge regression, the strongest penalty first, as `linear_probe.fit_path` yields its own."""
    train = coverage.Data(samples.features.astype(np.float64), samples.labels, samples.labels)
    for predict in reversed(list(coverage.ridge(train, samples.labels.max() + 1))):
        yield SimpleNamespace(probabilities=predict)


def judge(name: str, population: coverage.Data, sets: int) -> None:
    """Print how well the curves of one data set are carried on."""
    features, n = population.features.astype(np.float32), len(population)
    ids = np.arange(n).astype(str)
    everything = Examples(ids, np.full(n, "train"), np.arange(n)[:, None], population.labels, np.ones(n), ids)
    names = tuple(map(str, range(population.labels.max() + 1)))
    before, after, forecasts = [], [], {kind: [] for kind in KINDS}
    for number in range(sets):
        generator = np.random.default_rng([1, number])
        place = ranks(population.labels, generator) % QUARTER
        quarter, outside = everything.take(np.flatnonzero(place == 0)), everything.take(np.flatnonzero(place))
        for kind, found in forecasts.items():
            images = divided(quarter, kind, generator)
            found.append(measure_learning_curve(features, images, names, HeadFit(None, coverage.CS), number).forecast)
        before.append(true_accuracy(features, images, outside))
        after.append(true_accuracy(features, divided(everything, "five folds", generator)))
    start, end = np.mean(before), np.mean(after)
    print(f"{name}, {len(quarter):,} of {n:,} photographs, {sets} sets: {start:.1%} right, with all {end:.1%}")
    for kind, found in forecasts.items():
        _report(kind, found, float(end), float(end - start))


def _report(kind: str, forecasts: list[Forecast], truth: float, gain: float) -> None:
    reasons = Counter(forecast.reason for forecast in forecasts if forecast.reason)
    ends = [abs(forecast.end.measured - forecast.end.predicted) for forecast in forecasts if forecast.end]
    ahead = [forecast.ahead[-1] for forecast in forecasts if forecast.ahead]
    print(f"    {kind}: not carried on {dict(reasons)}, own end off by {100 * np.mean(ends):.1f} points", end="")
    if ahead:
        held = [row["accuracy_low"] <= truth <= row["accuracy_high"] for row in ahead]
        off = 100 * np.mean([abs(row["accuracy"] - truth) for row in ahead])
        width = 100 * np.median([row["accuracy_high"] - row["accuracy_low"] for row in ahead])
        print(f"; of {len(ahead)}, {sum(held)} hold the truth, off by {off:.1f} points, {width:.1f} wide", end="")
    print()
    for points in POINTS:
        said = [f.needed[points] for f in forecasts if f.needed and f.needed[points]]
        reached = gain >= points / 100
        wrong = [needed for needed in said if (needed.low > AHEAD[-1] if reached else needed.high < AHEAD[-1])]
        print(f"        {points} more: {len(said)} answers, {len(wrong)} contradicted", end="")
        print(f"; {np.median([needed.times for needed in said]):.1f} times as many" if said else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", metavar="NAME=FOLDER", help="of finished runs: their folder `data`")
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--head", choices=coverage.HEADS, default="logistic")
    arguments = parser.parse_args()
    if arguments.head == "ridge":
        learning_curve.fit_path = ridge_path
    for name, folder in (pair.split("=", 1) for pair in arguments.data):
        judge(name, coverage.photographs(Path(folder), COMPONENTS), arguments.sets)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
