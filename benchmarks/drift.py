"""Measure `src/drift.py`: false alarms, what it notices, and how wrong the accuracies are that it expects.

False alarms: the photographs of validation and test are dealt out at random to a new and a held-out sample, near-
duplicates whole, 200 times. Power: photographs of validation are changed (darker, blurred, turned, …) as the network
sees them, and compared with unchanged ones of test.
Accuracy: half of the test split, unchanged, is held out; the model is asked about the other half, changed, and its true
accuracy is compared with what is expected. Needs a finished `dvc repro`.

`--photographs FOLDER`: only false alarms and power, on photographs of that folder, half of which are changed, with the
backbone of the run.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import thaw  # noqa: F401 - first: it chooses the kernels of other libraries

# isort: split
import cv2
import numpy as np

from thaw.backbones.cut_points import FEATURES as FEATURES_OUTPUT
from thaw.core import tables
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
    "brightness x 0.8": scaled(0.8),
    "brightness x 0.5": scaled(0.5),
    "blur, sigma 0.5": blurred(0.5),
    "blur, sigma 1": blurred(1.0),
    "blur, sigma 2": blurred(2.0),
    "turned by 10 degrees": turned(10),
    "turned by 90 degrees": turned(90),
    "noise, deviation 5": noisy(5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200, help="for false alarms (default: %(default)s)")
    parser.add_argument("--power-draws", type=int, default=10, help="for each change (default: %(default)s)")
    parser.add_argument("--new", type=int, default=100, help="photographs of the new sample (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=400, help="those of the other one (default: %(default)s)")
    parser.add_argument("--photographs", type=Path, help="a folder, instead of the photographs of the run")
    parser.add_argument("--photographs-drawn", type=int, default=1000, help="of that folder (default: %(default)s)")
    options = parser.parse_args()
    description = deployed_model.read_description(MODEL)
    images = None
    if options.photographs:
        paths = [path for path in stream.expand([str(options.photographs)]) if isinstance(path, Path)]
        drawn = np.sort(np.random.default_rng(0).permutation(len(paths))[: options.photographs_drawn])
        paths = [paths[i] for i in drawn]
        groups = samples.near_duplicates(paths)
        is_changed = groups % 2 == 1
    else:
        images = examples.read(FEATURES, SPLIT)
        images = images.take(np.flatnonzero(np.isin(images.splits, tables.EVALUATED)))
        known = dict(tables.read_images(RAW).select("image_id", "path").iter_rows())
        paths = [RAW / known[image_id] for image_id in images.image_ids]
        groups, is_changed = np.unique(images.groups, return_inverse=True)[1], images.splits == "validation"
    views = [network_input(path, description.size, description.resize) for path in paths]
    run = inference.compile_openvino(BACKBONE, FEATURES_OUTPUT, description.size)
    features = outputs(run, views, CHANGES["unchanged"])
    sizes = (options.held_out, options.new)
    print(f"{len(paths):,} photographs in {len(np.unique(groups)):,} groups; in each draw {sizes[1]} are new, "
          f"{sizes[0]} held out", flush=True)  # fmt: skip

    anyone = np.arange(len(paths))
    found = [draw(features, features, groups, (anyone, anyone), sizes, seed) for seed in range(options.draws)]
    p = np.array([test.p for test in found])
    alarms = ", ".join(f"{np.sum(p < level)} below {level:g} ({np.mean(p < level):.1%})" for level in LEVELS)
    middle = np.median([test.auc for test in found])
    print(f"false alarms in {options.draws} draws: p {alarms}; median AUC {middle:.3f}", flush=True)
    print(f"{'change':22} alarms (p < {two_sample.LEVEL:g}) of {options.power_draws}   median AUC")
    pools = np.flatnonzero(~is_changed), np.flatnonzero(is_changed)
    for name, change in CHANGES.items():
        changed = features.copy()
        changed[pools[1]] = outputs(run, [views[i] for i in pools[1]], change)
        found = [draw(features, changed, groups, pools, sizes, seed) for seed in range(options.power_draws)]
        middle = np.median([test.auc for test in found])
        print(f"{name:22} {sum(test.differ for test in found):12} {middle:24.3f}", flush=True)
    if images is not None:
        accuracies(images.positions("test"), images.labels, views, description)


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
    """Print how wrong the expected accuracies are, for each change."""
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
    worst = {"threshold": 0.0, "mean": 0.0}
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
    print(f"the largest: {100 * worst['threshold']:.1f} by threshold, {100 * worst['mean']:.1f} by mean")


if __name__ == "__main__":
    main()
