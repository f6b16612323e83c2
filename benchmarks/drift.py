"""Measure `src/drift.py`: false alarms, what it notices, and how wrong the accuracies are that it expects.

False alarms: the photographs of validation and test are dealt out at random to a new and a held-out sample, near-
duplicates whole, 200 times. Power: photographs of validation are changed (darker, blurred, turned, …) as the network
sees them, and compared with unchanged ones of test.
Accuracy: half of the test split, unchanged, is held out; the model is asked about the other half, changed, and its true
accuracy is compared with what is expected. Needs a finished `dvc repro`.

`--photographs FOLDER`: false alarms and power on photographs of that folder, too. Half of them are changed; the
backbone is that of the run.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import results  # it finds the library, which chooses the kernels of other libraries

# isort: split
import cv2
import numpy as np

from thaw.backbones.cut_points import FEATURES as FEATURES_OUTPUT
from thaw.core import params, tables
from thaw.drift import expected_accuracy, samples, two_sample
from thaw.engines import flips, inference
from thaw.features import examples
from thaw.images.views import network_input
from thaw.prediction import deployed_model, stream

MODEL, BACKBONE, FEATURES = Path("models/model.keras"), Path("models/backbone/backbone.xml"), Path("data/features")
SPLIT, RAW, CACHE = Path("data/split.csv"), Path("data/raw"), Path("~/.cache/thaw/networks").expanduser()
LEVELS = (0.01, 0.05)
ACCURACY_DRAWS = 20


def scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda view: (view * factor).clip(0, 255).astype(np.uint8)


def blurred(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda view: cv2.GaussianBlur(view, (0, 0), sigma)


def turned(degrees: float) -> Callable[[np.ndarray], np.ndarray]:
    def turn(view: np.ndarray) -> np.ndarray:
        side = len(view)
        matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1.0)
        return cv2.warpAffine(view, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)

    return turn


def noisy(deviation: float) -> Callable[[np.ndarray], np.ndarray]:
    noise = np.random.default_rng(0).normal(0, deviation, (1024, 1024, 1))
    return lambda view: (view + noise[: len(view), : len(view)]).clip(0, 255).astype(np.uint8)


CHANGES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "unchanged": lambda view: view,
    "brightness × 0.8": scaled(0.8),
    "brightness × 0.5": scaled(0.5),
    "blur, sigma 0.5": blurred(0.5),
    "blur, sigma 1": blurred(1.0),
    "blur, sigma 2": blurred(2.0),
    "turned by 10 degrees": turned(10),
    "turned by 90 degrees": turned(90),
    "noise, deviation 5": noisy(5),
}


@dataclass(frozen=True)
class Sample:
    """Photographs that are compared: as the network sees them, and which of them may be changed."""

    name: str
    views: list[np.ndarray]
    groups: np.ndarray  # (n,) int, of near-duplicates
    is_changed: np.ndarray  # (n,) bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200, help="for false alarms (default: %(default)s)")
    parser.add_argument("--power-draws", type=int, default=10, help="for each change (default: %(default)s)")
    parser.add_argument("--new", type=int, default=100, help="photographs of the new sample (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=400, help="those of the other one (default: %(default)s)")
    parser.add_argument("--photographs", type=Path, help="a folder, beside the photographs of the run")
    parser.add_argument("--photographs-drawn", type=int, default=1000, help="of that folder (default: %(default)s)")
    options = parser.parse_args()
    description = deployed_model.read_description(MODEL)
    images = examples.read(FEATURES, SPLIT)
    images = images.take(np.flatnonzero(np.isin(images.splits, tables.EVALUATED)))
    known = dict(tables.read_images(RAW).select("image_id", "path").iter_rows())
    own = Sample(
        "solar cells" if params.load(Path("params.yaml")).download.source == "elpv" else "the run",
        as_seen([RAW / known[image_id] for image_id in images.image_ids], description),
        np.unique(images.groups, return_inverse=True)[1], images.splits == "validation",
    )  # fmt: skip
    alarms, power = [], {name: [name] for name in CHANGES}
    for sample in (own, *([drawn_from(options, description)] if options.photographs else [])):
        alarms.append(compare(sample, power, options, description.size))
    draws = options.power_draws
    columns = [
        column
        for name, *_ in alarms
        for column in ((f"{name}: alarms of {draws}", "{:.0f}"), (f"{name}: AUC", "{:.2f}"))
    ]
    note = (
        f"{options.new} new photographs against {options.held_out} held-out ones, {draws} draws of each; changed as "
        f"the network sees them, at {description.size} pixels."
    )
    results.write("drift", ["new photographs", *columns], [*power.values()], note)
    levels = [(f"p < {level:g} in", f"{{:.0f}} of {options.draws}") for level in LEVELS]
    columns = ["dealt out at random", ("photographs", "{:,}"), *levels, ("median AUC", "{:.2f}")]
    results.write("drift-alarms", columns, alarms)
    accuracies(images.positions("test"), images.labels, own.views, description)


def as_seen(paths: list[Path], description: deployed_model.Description) -> list[np.ndarray]:
    return [network_input(path, description.size, description.resize) for path in paths]


def drawn_from(options: argparse.Namespace, description: deployed_model.Description) -> Sample:
    """Draw photographs of the folder that the options name."""
    paths = [path for path in stream.expand([str(options.photographs)]) if isinstance(path, Path)]
    drawn = np.sort(np.random.default_rng(0).permutation(len(paths))[: options.photographs_drawn])
    paths = [paths[i] for i in drawn]
    groups = samples.near_duplicates(paths)
    return Sample(options.photographs.resolve().name, as_seen(paths, description), groups, groups % 2 == 1)


def compare(sample: Sample, power: dict[str, list], options: argparse.Namespace, size: int) -> list:
    """Measure false alarms and power on a sample.

    Args:
        sample: The photographs.
        power: The alarms of each change and its median AUC are appended here.
        options: Of the command.
        size: Of the network's input.

    Returns:
        The row of false alarms: name, photographs, draws with p below each of LEVELS, and the median AUC.
    """
    run = inference.compile_openvino(BACKBONE, FEATURES_OUTPUT, size)
    features = outputs(run, sample.views, CHANGES["unchanged"])
    groups, count = sample.groups, len(sample.views)
    sizes = (options.held_out, options.new)
    print(
        f"{sample.name}: {count:,} photographs in {len(np.unique(groups)):,} groups; in each draw {sizes[1]} are new, "
        f"{sizes[0]} held out",
        flush=True,
    )
    anyone = np.arange(count)
    found = [draw(features, features, groups, (anyone, anyone), sizes, seed) for seed in range(options.draws)]
    p = np.array([test.p for test in found])
    raised = [int(np.sum(p < level)) for level in LEVELS]
    texts = ", ".join(f"{number} below {level:g}" for number, level in zip(raised, LEVELS, strict=True))
    by_chance = float(np.median([test.auc for test in found]))
    print(f"false alarms in {options.draws} draws: p {texts}; median AUC {by_chance:.3f}", flush=True)
    print(f"{'change':22} alarms (p < {two_sample.LEVEL:g}) of {options.power_draws}   median AUC")
    pools = np.flatnonzero(~sample.is_changed), np.flatnonzero(sample.is_changed)
    for name, change in CHANGES.items():
        changed = features.copy()
        changed[pools[1]] = outputs(run, [sample.views[i] for i in pools[1]], change)
        found = [draw(features, changed, groups, pools, sizes, seed) for seed in range(options.power_draws)]
        noticed, middle = sum(test.differ for test in found), float(np.median([test.auc for test in found]))
        print(f"{name:22} {noticed:12} {middle:24.3f}", flush=True)
        power[name] += [int(noticed), round(middle, 4)]
    return [sample.name, count, *raised, round(by_chance, 4)]


def outputs(run: inference.Run, views: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.concatenate(list(run(inference.rebatch(change(view)[None] for view in views))))


def draw(
    held_out: np.ndarray,
    new: np.ndarray,
    groups: np.ndarray,
    pools: tuple[np.ndarray, np.ndarray],
    sizes: tuple[int, int],
    seed: int,
) -> two_sample.TwoSample:
    """Compare two samples that are drawn at random, groups whole.

    Args:
        held_out: (n, channels) features of the photographs as they are.
        new: (n, channels) features as they are changed.
        groups: (n,) int.
        pools: positions of the photographs from which each sample is drawn; the same, or without a common group.
        sizes: how many photographs each sample has, or few more.
        seed: of the draw.
    """
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    first = _first_groups(groups[pools[0]], order, sizes[0])
    second = _first_groups(groups[pools[1]], order[~np.isin(order, first)], sizes[1])
    ours, theirs = (np.flatnonzero(np.isin(groups, chosen)) for chosen in (first, second))
    return two_sample.compare(held_out[ours], new[theirs], np.concatenate([groups[ours], groups[theirs]]))


def _first_groups(groups: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
    """Return the first groups of an order that have `count` of the photographs with these groups together."""
    sizes = np.bincount(groups, minlength=order.max() + 1)[order]
    order, sizes = order[sizes > 0], sizes[sizes > 0]
    return order[: int(np.searchsorted(sizes.cumsum(), count)) + 1]


def accuracies(
    test: np.ndarray, labels: np.ndarray, views: list[np.ndarray], description: deployed_model.Description
) -> None:
    """Print and write how wrong the expected accuracies are, for each change."""
    decision = deployed_model.read_decision(MODEL, description.classes)
    network = deployed_model.converted_network(MODEL, CACHE)
    run = inference.compile_openvino(network, deployed_model.OUTPUT, description.size, np.float32)
    run = flips.average_flips(run, decision.test_time_flips)
    views, labels = [views[i] for i in test], labels[test]
    probabilities = {name: decision.calibrate(outputs(run, views, change)) for name, change in CHANGES.items()}
    print(
        f"accuracy of the model on {len(test)} photographs of test, and mean of {ACCURACY_DRAWS} draws of half of them"
    )
    print(f"{'change':22} {'true':>8} {'by threshold':>14} {'by mean':>10}   mean absolute error, in points")
    worst, table = {"threshold": 0.0, "mean": 0.0}, []
    for name, changed in probabilities.items():
        true = np.mean(decision.predict(changed) == labels)
        rows = []
        for seed in range(ACCURACY_DRAWS):
            first, second = np.array_split(np.random.default_rng(seed).permutation(len(labels)), 2)
            expected = expected_accuracy.estimate(
                probabilities["unchanged"][first], labels[first], changed[second], decision
            )
            here = np.mean(decision.predict(changed[second]) == labels[second])
            rows.append((expected.threshold, expected.mean, abs(expected.threshold - here), abs(expected.mean - here)))
        by_threshold, by_mean, wrong_threshold, wrong_mean = np.mean(rows, axis=0)
        worst = {"threshold": max(worst["threshold"], wrong_threshold), "mean": max(worst["mean"], wrong_mean)}
        print(f"{name:22} {true:8.1%} {by_threshold:14.1%} {by_mean:10.1%}   "
              f"{100 * wrong_threshold:.1f} by threshold, {100 * wrong_mean:.1f} by mean")  # fmt: skip
        figures = (true, by_mean, wrong_mean, by_threshold, wrong_threshold)
        table.append([name, *(round(100 * float(figure), 2) for figure in figures)])
    right, points = "{:.1f} %", "{:.1f}"
    columns = [
        "new photographs", ("true accuracy", right), ("mean probability", right), ("mean wrong by", points),
        ("thresholded confidence", right), ("confidence wrong by", points),
    ]  # fmt: skip
    note = (
        f"{len(test)} photographs of test; estimates and errors are means of {ACCURACY_DRAWS} draws of half of them, "
        "with the other half held out. Errors in percentage points."
    )
    results.write("drift-accuracy", columns, table, note)
    print(f"the largest: {100 * worst['threshold']:.1f} by threshold, {100 * worst['mean']:.1f} by mean")


if __name__ == "__main__":
    main()
