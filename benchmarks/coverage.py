"""Measure how often the intervals of cross-validated estimates hold the truth, on data sets whose truth is known.

    python benchmarks/coverage.py [--data NAME=FOLDER …] [--sets 1000] [--photographs 100 300 1000]

Each data set is drawn from a population. That is two Gaussian classes, and with `--data` the photographs of a finished
run (its folder `data`), too: drawn with replacement, so that they are the whole population, and the accuracy on all of
them is the truth. Of their features the first 64 principal components are kept, so that 1,000 data sets take a minute.

A data set is divided into five folds as `split.folds` does it: stratified, groups whole. Each fold is tested by a head
that was trained on three folds and chosen on one. The head is ridge regression in closed form, or with
`--head logistic` that of the pipeline, which takes longer.

For each population and size it prints how often 95 % intervals hold the mean true accuracy of the five heads, and
that of the head trained on everything. Classes have the shares that they have in the data set: stratified folds ask
what the accuracy is on such photographs. `mix` is for the shares of the population. There the estimate is too high:
where a data set happens to hold more of a class, its heads are better at that class and are asked for it more often.

`--groups near` draws groups of one to three near-duplicates, `--groups loose` groups of ten whose photographs only
resemble one another. `--bootstrap 500` also checks the measures whose intervals are a bootstrap. `--pairs` instead
compares two heads that are equally good, and counts how often one is called better.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import results
from scipy.stats import t
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from thaw.core import arrays  # noqa: E402
from thaw.evaluation import metrics, resampling  # noqa: E402
from thaw.evaluation.comparison import mcnemar  # noqa: E402
from thaw.evaluation.resampling import Resampling  # noqa: E402
from thaw.evaluation.scored import Scored  # noqa: E402
from thaw.features import examples, linear_probe  # noqa: E402
from thaw.features.linear_probe import Samples, softmax  # noqa: E402

FOLDS = 5
OURS = "Wilson by sandwich"  # the interval that the report gives
COMPONENTS = 64  # of the features of a run
TRUTH = 10_000  # points of two Gaussian classes, which are the whole population
STRENGTHS = 10.0 ** np.arange(-4, 3)  # of ridge regression, as a share of the variance
CS = (*(c * 10.0**e for e in range(-5, 0) for c in (1, 3)), 1.0)  # those of params.yaml
SHARPNESS = 6.0  # makes the scores of ridge regression, about 0 … 1, into logits
MIN_SUPPORT = 5  # photographs of a class, for its recall to count
BOOTSTRAPPED = ("balanced_accuracy", "macro_f1", "roc_auc", "log_loss", "brier")
GROUPS = {"none": (1, 1, 0.0), "near": (1, 3, 0.15), "loose": (10, 10, 1.0)}  # smallest, largest, scatter within

Predict = Callable[[np.ndarray], np.ndarray]  # features (n, d) → probabilities (n, c)


@dataclass(frozen=True)
class Data:
    features: np.ndarray  # (n, d) float64
    labels: np.ndarray  # (n,) int
    groups: np.ndarray  # (n,) int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Data":
        return Data(self.features[rows], self.labels[rows], self.groups[rows])

    def scored(self, probabilities: np.ndarray) -> Scored:
        return Scored(probabilities, self.labels, np.ones(len(self)), self.groups)


def gaussian(distance: float, rare: float, seed: int) -> Data:
    """Return a sample of two Gaussian classes in 20 dimensions, large enough to be the truth of the population."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(TRUTH) < rare).astype(int)
    features = generator.normal(size=(TRUTH, 20))
    features[:, 0] += distance * labels
    return Data(features, labels, np.arange(TRUTH))


def photographs(folder: Path, count: int = COMPONENTS) -> Data:
    """Return the plain features of a finished run, reduced to the space of their first principal components."""
    images = examples.read(folder / "features", folder / "split.csv")
    features = arrays.pooled(arrays.open_rows(folder / "features/features.npy"))[images.rows].astype(np.float64)
    features, *_ = linear_probe.standardised(features, np.ones(len(features)))
    _, vectors = np.linalg.eigh(features.T @ features)
    components = features @ vectors[:, ::-1][:, :count]
    # Rotated, so that to give every channel the same variance, as the logistic head does, makes none more important.
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(count, count)))
    return Data(components @ rotation / components.std(), images.labels, np.arange(len(images)))


def draw(population: Data, count: int, kind: str, generator: np.random.Generator) -> tuple[Data, Data]:
    """Return a data set, and the population that it is drawn from: the same with the scatter within groups."""
    smallest, largest, scatter = GROUPS[kind]
    sizes = generator.integers(smallest, largest + 1, count)
    groups = np.arange(count).repeat(sizes)[:count]
    data = population.take(generator.integers(0, len(population), count)[groups])
    if not scatter:
        return Data(data.features, data.labels, groups), population
    spread = scatter * population.features.std(axis=0)
    features = data.features + spread * generator.normal(size=data.features.shape)
    everything = population.features + spread * generator.normal(size=population.features.shape)
    return Data(features, data.labels, groups), Data(everything, population.labels, population.groups)


def divide(data: Data, generator: np.random.Generator) -> np.ndarray:
    """Return the fold (n,) of each photograph: stratified by the label of a group's first one, groups whole."""
    unique, first = np.unique(data.groups, return_index=True)
    order = np.lexsort((generator.permutation(len(unique)), data.labels[first]))
    fold = np.empty(len(unique), int)
    fold[order] = (np.arange(len(unique)) + generator.integers(FOLDS)) % FOLDS
    return fold[np.searchsorted(unique, data.groups)]


def ridge(train: Data, classes: int) -> Iterator[Predict]:
    """Yield heads by ridge regression on the labels, one for each strength."""
    mean, targets = train.features.mean(axis=0), np.eye(classes)[train.labels]
    x, share = train.features - mean, targets.mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    projected = vectors.T @ (x.T @ (targets - share)) / len(x)
    for strength in STRENGTHS:
        kernel = vectors @ (projected / (values + strength * values.mean())[:, None])
        bias = share - mean @ kernel
        yield lambda features, w=SHARPNESS * kernel, b=SHARPNESS * bias: softmax(features, w, b)


def logistic(train: Data, classes: int) -> Iterator[Predict]:
    """Yield heads as `train_head` fits them: logistic regression at the Cs of params.yaml."""
    samples = Samples(train.features.astype(np.float32), train.labels, np.ones(len(train)))
    present = np.unique(train.labels)
    for probe in linear_probe.fit_path(samples, CS):

        def predict(features: np.ndarray, probe=probe) -> np.ndarray:
            p = np.full((len(features), classes), 1e-9)
            p[:, present] = probe.probabilities(features)
            return p / p.sum(axis=1, keepdims=True)

        yield predict


HEADS = {"ridge": ridge, "logistic": logistic}


def loss(probabilities: np.ndarray, data: Data) -> np.ndarray:
    """Return the cross-entropy (n,) of each photograph."""
    return -np.log(probabilities[np.arange(len(data)), data.labels].clip(1e-7))


def choose(path: Iterator[Predict], validation: Data) -> tuple[int, Predict]:
    """Return the place and the head of a path with the lowest loss on validation; it ends as `until_worse` does."""
    best, rises, last = (np.inf, 0, None), 0, np.inf
    for place, predict in enumerate(path):
        value = loss(predict(validation.features), validation).mean()
        best = min(best, (value, place, predict), key=lambda entry: entry[0])
        rises, last = rises + 1 if value > last else 0, value
        if rises == linear_probe.MAX_RISES:
            break
    return best[1], best[2]


def cross_validate(data: Data, fold: np.ndarray, head: str, classes: int) -> tuple[np.ndarray, list[Predict], Predict]:
    """Return the out-of-fold probabilities (n, c), the head of each round, and the one trained on everything."""
    answers, chosen, places = np.empty((len(data), classes)), [], []
    for i in range(FOLDS):
        test, validation = fold == i, fold == (i + 1) % FOLDS
        place, predict = choose(HEADS[head](data.take(~(test | validation)), classes), data.take(validation))
        answers[test] = predict(data.features[test])
        chosen.append(predict)
        places.append(place)
    final = next(islice(HEADS[head](data, classes), int(np.median(places)), None))
    return answers, chosen, final


def accuracy_intervals(data: Data, hits: np.ndarray, fold: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return method → the 95 % interval of the accuracy, from what is right out of fold."""
    n, p, z = len(hits), hits.mean(), metrics.Z
    _, counts = np.unique(data.groups, return_counts=True)
    by_fold = np.array([hits[fold == i].mean() for i in range(FOLDS)])
    within = np.mean([hits[fold == i].var(ddof=1) for i in range(FOLDS)])
    ends = {
        # Bayle et al. 2020 (arXiv 2007.12671): the two variances for which they prove a central limit theorem
        "all pairs": z * np.sqrt(p * (1 - p) / n),
        "within folds": z * np.sqrt(within / n),
        # Nadeau & Bengio 2003: the variance between folds, made larger for the data that they share
        "corrected t": t.ppf(0.975, FOLDS - 1) * by_fold.std(ddof=1) * np.sqrt(1 / FOLDS + 1 / (FOLDS - 2)),
    }
    sums = np.bincount(np.unique(data.groups, return_inverse=True)[1], hits - p)
    sandwich = (sums**2).sum() / n**2 * len(sums) / max(1, len(sums) - 1)
    kish = n**2 / (counts**2).sum()
    effective = np.clip(p * (1 - p) / sandwich, kish, n) if sandwich else kish
    # As if the shares of the classes were no matter of chance: the variance within classes alone
    counts = np.bincount(data.labels)
    recalls = np.divide(np.bincount(data.labels, hits), counts, out=np.zeros(len(counts)), where=counts > 0)
    inside = (counts * recalls * (1 - recalls) * counts / (counts - 1).clip(1)).sum() / n
    by_class = kish * p * (1 - p) / inside if inside else kish
    return {
        "Wilson": metrics.wilson(p * kish, kish),
        "Wilson by class": metrics.wilson(p * by_class, by_class),
        "Wilson by sandwich": metrics.wilson(p * effective, effective),
    } | {name: (p - half, p + half) for name, half in ends.items()}


def measure(population: Data, count: int, arguments: argparse.Namespace) -> tuple[float, float]:
    """Print how often each interval holds the truth; return it in % for OURS, in the data set's mix of classes and in
    that of the population."""
    classes = int(population.labels.max()) + 1
    held, truths = defaultdict(list), defaultdict(list)
    for number in range(arguments.sets):
        generator = np.random.default_rng([arguments.seed, count, number])
        data, everything = draw(population, count, arguments.groups, generator)
        fold = divide(data, generator)
        answers, heads, final = cross_validate(data, fold, arguments.head, classes)
        predictions = [predict(everything.features) for predict in (*heads, final)]
        hits = answers.argmax(axis=1) == data.labels
        right = np.array([p.argmax(axis=1) == everything.labels for p in predictions])
        counts, all_counts = (np.bincount(labels, minlength=classes) for labels in (data.labels, everything.labels))
        mix = (counts / all_counts)[everything.labels]
        by_head = right @ mix / mix.sum()
        truth = by_head[:-1].mean(), by_head[-1], right[:-1].mean()
        truths["accuracy"].append((hits.mean(), *truth))
        for method, ends in accuracy_intervals(data, hits, fold).items():
            held[method].append(_holds(*ends, truth))
        effective = metrics.effective_groups(data.labels, data.scored(answers), classes)
        for k in np.flatnonzero(counts >= MIN_SUPPORT):
            mine = data.labels == k
            by_head = right[:, everything.labels == k].mean(axis=1)
            ends = metrics.wilson(hits[mine].mean() * effective[k], effective[k])
            for name in ("recall of a class", f"recall of class {k}"):
                held[name].append(_holds(*ends, (by_head[:-1].mean(), by_head[-1], by_head[:-1].mean())))
        if arguments.bootstrap:
            drawn = Resampling(arguments.bootstrap, number)
            estimates = metrics.classification_metrics(data.scored(answers), 15, drawn)
            true = [
                resampling.resample(Scored(p, everything.labels, mix, everything.groups), 15, Resampling(0, 0))
                for p in predictions
            ]
            for name in BOOTSTRAPPED:
                own, every = ([values[name + kind][0] for values in true] for kind in ("_weighted", ""))
                truth = np.mean(own[:-1]), own[-1], np.mean(every[:-1])
                truths[name].append((estimates[name], *truth))
                held[name].append(_holds(estimates[f"{name}_low"], estimates[f"{name}_high"], truth))
    for name, values in truths.items():
        estimate, folds, final, other = 100 * np.mean(values, axis=0)
        print(f"    {name}: estimate {estimate:.2f}, truth {folds:.2f}, of the final head {final:.2f}, mix {other:.2f}")
    for name, values in held.items():
        folds, final, other, width = 100 * np.mean(values, axis=0)
        print(
            f"    {name:<20} holds {folds:.1f} %, the final head's {final:.1f} %, mix {other:.1f} %; {width:.1f} wide"
        )
    folds, _, other, _ = 100 * np.mean(held[OURS], axis=0)
    return round(folds, 2), round(other, 2)


def _holds(low: float | None, high: float | None, truth: tuple[float, float, float]) -> tuple[float, ...]:
    """Return which truths an interval holds, and its width."""
    if low is None or high is None:
        return 0, 0, 0, 0.0
    return *(low <= value <= high for value in truth), high - low


def compare(population: Data, count: int, arguments: argparse.Namespace) -> None:
    """Compare two heads on two equally noisy versions of the features, and count how often one is called better."""
    classes = int(population.labels.max()) + 1
    noise = np.random.default_rng(arguments.seed).normal(size=(2, *population.features.shape))
    views = population.features + arguments.noise * population.features.std(axis=0) * noise
    called = defaultdict(list)
    for number in range(arguments.sets):
        generator = np.random.default_rng([arguments.seed, count, number])
        rows = generator.integers(0, len(population), count)
        fold, losses, hits, true = None, [], [], []
        for view in views[generator.permutation(2)]:  # so neither is better but by chance
            data = Data(view[rows], population.labels[rows], np.arange(count))
            fold = divide(data, generator) if fold is None else fold
            answers, heads, _ = cross_validate(data, fold, arguments.head, classes)
            everything = Data(view, population.labels, population.groups)
            losses.append(loss(answers, data))
            hits.append(answers.argmax(axis=1) == data.labels)
            true.append(np.mean([loss(predict(view), everything).mean() for predict in heads]))
        change = losses[1] - losses[0]
        beyond = change.mean() / (change.std(ddof=1) / np.sqrt(count))
        worse = true[1] >= true[0]
        called["second kept: loss lower by 1 standard error"].append((beyond < -1, beyond < -1 and worse))
        called["second kept: loss lower by 2 standard errors"].append((beyond < -2, beyond < -2 and worse))
        test = mcnemar(*hits)
        kept = test["p"] < 0.05 and test["only_b"] > test["only_a"]
        called["second kept: McNemar p < 0.05"].append((kept, kept and worse))
        called["either kept: McNemar p < 0.05"].append((test["p"] < 0.05, False))
    for name, values in called.items():
        every, wrong = 100 * np.mean(values, axis=0)
        print(f"    {name}: {every:.1f} % of the data sets, {wrong:.1f} % where its true loss is no lower")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=FOLDER", help="of finished runs: their `data`")
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--photographs", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--head", choices=HEADS, default="ridge")
    parser.add_argument("--groups", choices=GROUPS, default="none")
    parser.add_argument("--bootstrap", type=int, default=0)
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--noise", type=float, default=0.5, help="between the two heads of --pairs")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    populations = {name: photographs(Path(folder)) for name, folder in (pair.split("=", 1) for pair in arguments.data)}
    drawn = {"two equal Gaussian classes": gaussian(2.2, 0.5, 1), "two, one of them rare": gaussian(3.0, 0.1, 2)}
    populations = drawn | populations
    rows = []
    for name, population in populations.items():
        rows.append([name])
        for count in arguments.photographs:
            print(
                f"{name}, {count:,} photographs, groups: {arguments.groups}, {arguments.sets:,} data sets", flush=True
            )
            rows[-1].append((compare if arguments.pairs else measure)(population, count, arguments))
    if arguments.data and not arguments.pairs:
        columns = [(f"{count:,} photographs", "{:.1f} ({:.1f})") for count in arguments.photographs]
        results.write("coverage", [f"% of {arguments.sets:,} data sets", *columns], rows)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
