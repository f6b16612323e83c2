"""Measure how often the 95 % intervals of several labels hold the truth, on populations whose truth is known.

    python benchmarks/multi_label_coverage.py [--sets 500] [--photographs 100 300 1000] [--many 300] [--unknown 0.5]

Each data set is drawn from a population of photographs with six classes, of which 5 % to 50 % of the photographs show
each. Classes occur together: they share a latent number. A fixed model scores each pair, well or badly by class. Groups
hold one to three near-duplicates: the same classes, nearly the same scores. A share of the pairs is unknown. Truth is
what the model reaches on a million photographs of the population.

The mean average precision of 84 classes, 14 of each kind, is measured of as many photographs as `--many` says, on a
quarter of the data sets. Those classes occur independently: their mean scatters least beside its bias.

For each size it prints how often the intervals hold the truth, and how wide they are; how far the estimate is off on
average; and, of two models that are equally good, how often the interval of their difference leaves out 0.
"""

import argparse
from collections import defaultdict
from statistics import NormalDist

import results  # it finds the library, which chooses the kernels before NumPy is there

# isort: split
import numpy as np
from threadpoolctl import threadpool_limits

from thaw.evaluation.multi_label import comparison, metrics, resampling
from thaw.evaluation.multi_label.pairs import Pairs
from thaw.evaluation.resampling import Resampling

SHARES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5])  # of the photographs that show each class
SKILLS = np.array([2.5, 1.5, 2.0, 3.0, 1.0, 2.0])  # between the mean scores of present and absent, in deviations
CLASSES = tuple(f"class {number}" for number in range(len(SHARES)))
MANY = 14  # classes of each kind
TOGETHER = 0.6  # correlation of the classes' latent numbers
SCATTER = 0.15  # between the scores of near-duplicates, in deviations
NOISE = 0.5  # of each model of a pair, beside what both see
TRUTH = 1_000_000  # photographs
BINS = 15
NAMES = [
    *(metrics.mean_name(measure) for measure in metrics.AVERAGED),
    *(f"micro_{measure}" for measure in resampling.MEASURES),
]
SHOWN = {  # in the table of results
    "mean_average_precision": "mean average precision",
    "macro_roc_auc": "macro ROC AUC",
    "macro_f1": "macro F1",
    "macro_log_loss": "macro log loss",
    "macro_ece": "macro calibration error",
    "micro_average_precision": "micro average precision",
    "average_precision of a class": "average precision of a class",
    "roc_auc of a class": "ROC AUC of a class",
    "recall of a class": "recall of a class",
}


def draw(
    count: int,
    unknown: float,
    generator: np.random.Generator,
    *,
    largest: int = 3,
    of_each: int = 1,
    together: float = TOGETHER,
) -> tuple[Pairs, Pairs]:
    """Return the same photographs as two models score them.

    Args:
        count: of the photographs.
        unknown: share of the pairs.
        generator: draws.
        largest: size of a group.
        of_each: how many classes of each kind there are.
        together: correlation of the classes' latent numbers.
    """
    shares, skills = np.tile(SHARES, of_each), np.tile(SKILLS, of_each)
    sizes = generator.integers(1, largest + 1, count)
    group = np.arange(count).repeat(sizes)[:count]
    groups, classes = group[-1] + 1, len(shares)
    latent = together**0.5 * generator.normal(size=(groups, 1))
    latent = latent + (1 - together) ** 0.5 * generator.normal(size=(groups, classes))
    present = latent > np.array([NormalDist().inv_cdf(1 - share) for share in shares])
    seen = present * skills + generator.normal(size=(groups, classes))
    known = generator.random((count, classes)) >= unknown
    values = np.where(known, present[group], -1).astype(np.int8)
    pairs = []
    for _ in range(2):
        own = NOISE * generator.normal(size=(groups, classes))
        score = (seen + own)[group] + SCATTER * generator.normal(size=(count, classes))
        variance = 1 + NOISE**2 + SCATTER**2
        logit = skills / variance * (score - skills / 2) + np.log(shares / (1 - shares))
        p = 1 / (1 + np.exp(-1.2 * logit))  # a little too sure of itself, as trained models are
        pairs.append(Pairs(p, p > 0.4, values, known.astype(float), group))
    return tuple(pairs)


def measure(count: int, truth: dict[str, float], arguments: argparse.Namespace) -> dict[str, str]:
    """Draw the data sets of one size, and print what their intervals hold. Returns cells of the table of results."""
    outcomes, certain = defaultdict(list), defaultdict(list)
    for number in range(arguments.sets):
        generator = np.random.default_rng([arguments.seed, count, number])
        models, drawn = draw(count, arguments.unknown, generator), Resampling(arguments.bootstrap, number)
        resampled = [resampling.resample(pairs, BINS, drawn) for pairs in models]
        measured = flat(metrics.summarise(models[0], CLASSES, resampled[0]))
        for name, value in true_of(measured, truth).items():
            estimate, low, high = (measured[f"{name}{end}"] for end in metrics.ENDS)
            of_class, _, measure_name = name.rpartition(": ")
            if estimate is not None:
                outcomes[f"{measure_name} of a class" if of_class else name].append((value, estimate, low, high))
        differences = comparison.subtract(*resampled)
        for name in map(metrics.mean_name, metrics.AVERAGED[:-1]):
            _, low, high = differences[name].values()
            certain[name].append(low is not None and (low > 0 or high < 0))
    cells = {}
    for name, rows in outcomes.items():
        cells |= count_held(name, rows)
    print("  of equally good models, one is called better: ", end="")
    print(", ".join(f"{name} {100 * np.mean(calls):.1f} %" for name, calls in certain.items()), flush=True)
    called = 100 * np.mean(certain["mean_average_precision"])
    cells["of two equally good models, one is called better by mean average precision"] = f"{called:.1f} %"
    return cells


def count_held(name: str, rows: list[tuple]) -> dict[str, str]:
    """Print how often the intervals of a measure hold the truth. Returns cells of the table of results.

    Args:
        name: of the measure.
        rows: truth, estimate, low and high of each data set.
    """
    bounded = np.array([row for row in rows if row[2] is not None])
    value, estimate, low, high = bounded.T
    held, bias = 100 * ((low <= value) & (value <= high)).mean(), (estimate - value).mean()
    without = 1 - len(bounded) / len(rows)
    print(
        f"  {name:<28} holds {held:5.1f} %, {(high - low).mean():.3f} "
        f"wide, off by {bias:+.4f}; {without:.1%} have no interval"
    )
    cells = {SHOWN[name]: f"{held:.1f} %"} if name in SHOWN else {}
    if name == "mean_average_precision":
        cells["… its interval is wide"] = f"{(high - low).mean():.2f}"
        cells["… the estimate is off by"] = f"{bias:+.3f}"
    if name == "average_precision of a class":
        cells["… classes without an interval of it"] = f"{100 * without:.1f} %"
    return cells


def measure_many(count: int, sets: int, truth: dict[str, float], arguments: argparse.Namespace) -> dict[str, str]:
    """Do as `measure` does for the mean average precision of many classes.

    Args:
        count: of the photographs.
        sets: how many data sets are drawn.
        truth: of the population of six classes, see `true_values`.
        arguments: of the command.
    """
    true = np.tile([truth[f"{name}: average_precision"] for name in CLASSES], MANY)
    rows = []
    for number in range(sets):
        generator = np.random.default_rng([arguments.seed, count, number])
        pairs, _ = draw(count, arguments.unknown, generator, of_each=MANY, together=0)
        values = resampling.resample(pairs, BINS, Resampling(arguments.bootstrap, number))[""]
        is_measured = ~np.isnan(values.by_class["average_precision"][:, 0])
        bounds = resampling.precision_interval(values.means()["average_precision"])
        rows.append((true[is_measured].mean(), *bounds))
    return count_held("mean_average_precision", rows)


def true_of(measured: dict[str, float | None], truth: dict[str, float]) -> dict[str, float]:
    """Return the truth with the means over those classes that a data set measures."""
    result = dict(truth)
    for measure_name in metrics.AVERAGED:
        by_class = [f"{name}: {measure_name}" for name in CLASSES]
        values = [truth[name] for name in by_class if measured[name] is not None]
        if values:
            result[metrics.mean_name(measure_name)] = float(np.mean(values))
    return result


def flat(measured: dict[str, object]) -> dict[str, float | None]:
    """Return the metrics of a split, those of a class under `class: measure`."""
    result = {key: value for key, value in measured.items() if key != "per_class"}
    for name, row in measured["per_class"].items():
        result |= {f"{name}: {key}": value for key, value in row.items()}
    return result


def true_values(arguments: argparse.Namespace) -> dict[str, float]:
    population, _ = draw(TRUTH, 0.0, np.random.default_rng(arguments.seed), largest=1)
    values = flat(metrics.multi_label_metrics(population, CLASSES, BINS, Resampling(0, 0)))
    by_class = [f"{name}: {measure}" for name in CLASSES for measure in resampling.MEASURES]
    return {name: values[name] for name in [*NAMES, *by_class]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--photographs", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--many", type=int, nargs="*", default=[300], help="photographs with 84 classes")
    parser.add_argument("--unknown", type=float, default=0.5, help="share of the pairs")
    parser.add_argument("--bootstrap", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    truth = true_values(arguments)
    cells = []
    for count in arguments.photographs:
        print(f"{count:,} photographs, {arguments.unknown:.0%} of the pairs unknown, {arguments.sets:,} data sets")
        cells.append(measure(count, truth, arguments))
    for count in arguments.many:
        sets = max(1, arguments.sets // 4)
        print(f"{count:,} photographs, {MANY * len(CLASSES)} classes, {sets:,} data sets")
        cells.append(measure_many(count, sets, truth, arguments))
    names = dict.fromkeys(name for column in cells for name in column)
    columns = ["test photographs", *(f"{count:,}" for count in arguments.photographs)]
    columns += [f"{count:,}, {MANY * len(CLASSES)} classes" for count in arguments.many]
    results.write("multi_label_coverage", columns, [[name, *(column.get(name) for column in cells)] for name in names])


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
