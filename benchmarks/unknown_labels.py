"""Measure what it helps to leave unknown labels out, instead of taking them as absent.

    python benchmarks/unknown_labels.py FOLDER [--absent 0.8] [--present 0.5] [--seeds 5] [--backbone models/backbone]

FOLDER has a folder of photographs for each class. Two photographs are put side by side, each of them once: so a picture
shows one or two classes, and the truth of each class is known. Of the pictures to train and to validate on, so much of
what is absent, and of what is present, is hidden. A linear head for several labels is fitted to the frozen features:
with the hidden pairs left out, with these taken as absent, and with the whole truth. It is measured on test pictures
with the whole truth. The lines give means over the seeds, and the standard deviation of the difference.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import results  # it finds the library, which chooses the kernels before NumPy is there

# isort: split
import numpy as np
from sklearn.metrics import average_precision_score, f1_score

from thaw.backbones.cut_points import FEATURES
from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN
from thaw.engines import inference
from thaw.features import label_pairs
from thaw.features.examples import Examples
from thaw.heads import linear_multi
from thaw.heads.protocol import HeadData
from thaw.images import decoding
from thaw.training import temperatures

SIDE = 224
CS = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]  # `head.strengths` of params.yaml
FRACTIONS = 0.6, 0.75  # the ends of train and validation
ARMS = ("left out", "taken as absent", "whole truth")
MEASURES = (
    "mean average precision",
    "F1 above a probability of 0.5",
    "F1 above the thresholds of validation",
    "log loss",
)


class Settings:
    """What a head of several labels reads of the section `head`."""

    strengths, class_weight = CS, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--absent", type=float, default=0.8, help="fraction of the absent pairs that is hidden")
    parser.add_argument("--present", type=float, default=0.5, help="fraction of the present pairs that is hidden")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backbone", type=Path, default=Path("models/backbone"))
    arguments = parser.parse_args()
    photographs = sorted(path for path in arguments.folder.glob("*/*") if path.suffix.lower() in (".jpg", ".png"))
    classes = tuple(sorted({path.parent.name for path in photographs}))
    pairs = np.random.default_rng(0).permutation(len(photographs))[: len(photographs) // 2 * 2].reshape(-1, 2)
    run = inference.compile_openvino(arguments.backbone / "backbone.xml", FEATURES, SIDE)
    features = np.concatenate(list(run(inference.rebatch(pictures(photographs, pairs)))))
    truth = np.full((len(pairs), len(classes)), ABSENT, np.int8)
    for column in range(2):
        shown = [classes.index(photographs[one].parent.name) for one in pairs[:, column]]
        truth[np.arange(len(pairs)), shown] = PRESENT
    print(
        f"{len(pairs):,} pictures of {len(classes)} classes; each shows {truth.mean(axis=0).round(2).tolist()} of them"
    )
    measured = np.array([measure(features, truth, classes, seed, arguments) for seed in range(arguments.seeds)])
    width = max(map(len, MEASURES))
    print(f"{'':{width}}  " + "  ".join(f"{arm:>16}" for arm in ARMS) + "  left out less absent")
    rows = []
    for number, name in enumerate(MEASURES):
        by_arm, gain = measured[:, :, number].mean(axis=0), measured[:, 0, number] - measured[:, 1, number]
        means = "  ".join(f"{mean:16.3f}" for mean in by_arm)
        print(f"{name:{width}}  {means}  {gain.mean():+.3f} ± {gain.std(ddof=1):.3f}")
        rows.append([name, *by_arm.round(4).tolist(), [round(gain.mean(), 4), round(gain.std(ddof=1), 4)]])
    columns = [(f"hidden pairs {arm}" if arm != ARMS[-1] else arm, "{:.3f}") for arm in ARMS]
    results.write("unknown_labels", ["", *columns, ("left out less absent", "{:+.3f} ± {:.3f}")], rows)


def pictures(photographs: list[Path], pairs: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pictures (1, SIDE, SIDE, 3) uint8: the middles of two photographs side by side."""
    quarter = SIDE // 4
    for pair in pairs:
        halves = [decoding.fit(decoding.decode(photographs[one], SIDE), SIDE, "crop") for one in pair]
        squares = [decoding.centre_crop(half, SIDE) for half in halves]
        yield np.concatenate([square[:, quarter : 3 * quarter] for square in squares], axis=1)[None]


def measure(
    features: np.ndarray, truth: np.ndarray, classes: tuple[str, ...], seed: int, arguments: argparse.Namespace
) -> list[list[float]]:
    """Return the MEASURES of each of ARMS, for the split and the hidden pairs that a seed draws."""
    generator = np.random.default_rng(seed)
    split = np.searchsorted(FRACTIONS, generator.random(len(truth)))
    hidden = generator.random(truth.shape) < np.where(truth == PRESENT, arguments.present, arguments.absent)
    left_out, absent = np.where(hidden, UNKNOWN, truth), np.where(hidden, ABSENT, truth)
    return [_measured(features, values, truth, split, classes) for values in (left_out, absent, truth)]


def _measured(
    features: np.ndarray, values: np.ndarray, truth: np.ndarray, split: np.ndarray, classes: tuple[str, ...]
) -> list[float]:
    names = np.array(["train", "validation", "test"])[split]
    ids = np.array([f"{number:06}" for number in range(len(truth))])
    images = Examples(ids, names, np.arange(len(ids))[:, None], np.zeros(len(ids), int), np.ones(len(ids)), ids,
                      values=values, value_weights=(values != UNKNOWN).astype(float))  # fmt: skip
    train, validation = images.split("train"), images.split("validation")
    data = HeadData(features, {"plain": train}, validation, classes, Path())
    (trained,) = linear_multi.train(Settings, data, lambda *_: None)
    unseen = names == "test"
    on_validation = trained.head.probabilities(features[validation.rows])
    fitted = temperatures.fit(on_validation, validation.values, validation.value_weights)
    on_validation, p = (
        temperatures.apply(each, fitted) for each in (on_validation, trained.head.probabilities(features[unseen]))
    )
    of_test = truth[unseen]
    test = replace(images.take(np.flatnonzero(unseen)), values=of_test, value_weights=np.ones(of_test.shape))
    limits = [_best_threshold(*each) for each in zip(on_validation.T, validation.values.T, strict=True)]
    return [
        float(np.mean([average_precision_score(*each) for each in zip(of_test.T, p.T, strict=True)])),
        float(f1_score(of_test, p > 0.5, average="macro", zero_division=0)),
        float(f1_score(of_test, p > np.array(limits), average="macro", zero_division=0)),
        label_pairs.weighted_scores(p, test)[0],
    ]


def _best_threshold(p: np.ndarray, values: np.ndarray) -> float:
    """Return the probability above which F1 is the highest on the known pictures (n,) of a class."""
    known = values != UNKNOWN
    candidates = np.concatenate([[0.0], np.sort(p[known])[:-1]])
    return float(max(candidates, key=lambda limit: f1_score(values[known], p[known] > limit, zero_division=0)))


if __name__ == "__main__":
    main()
