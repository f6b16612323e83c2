"""Measure how many wrong labels are found: 2 % of the solar cells get a wrong label, and are then searched for.

    python benchmarks/label_errors.py [--seeds 5]

Only cells whose probability of a defect is 0 or 1 take part, since the other labels are uncertain. Needs a finished
`dvc repro` with the default source.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from thaw.core import arrays, tables  # noqa: E402
from thaw.evaluation import label_errors  # noqa: E402
from thaw.features import examples  # noqa: E402

PLANTED, SUSPECTED = 0.02, 0.05  # fractions of the cells: with a wrong label, and searched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    folder = ROOT / "data/features"
    features = arrays.open_rows(folder / "features.npy")
    images = tables.read_images(ROOT / "data/raw")
    certain = images.filter(images["meta_probability"].is_in(["0.000", "1.000"]))["image_id"].to_list()
    cells = examples.read(folder, ROOT / "data/split.csv")
    cells = cells.take(np.flatnonzero(np.isin(cells.image_ids, certain)))
    features, classes = features[cells.rows], len(examples.read_classes(folder))
    planted, suspected = round(PLANTED * len(cells)), round(SUSPECTED * len(cells))
    fractions, seconds = [], []
    for seed in range(arguments.seeds):
        generator = np.random.default_rng(seed)
        wrong = generator.choice(len(cells), planted, replace=False)
        labels = cells.labels.copy()
        labels[wrong] = (labels[wrong] + generator.integers(1, classes, planted)) % classes
        mislabelled = replace(cells, labels=labels, weights=np.ones(len(cells)))
        start = time.perf_counter()
        confidence = label_errors.self_confidence(features, mislabelled, classes, seed=seed)
        seconds.append(time.perf_counter() - start)
        is_found = np.isin(wrong, label_errors.suspicious(confidence)[:suspected])
        fractions.append(is_found.mean())
        print(f"seed {seed}: {is_found.sum()} of {planted} wrong labels among the {suspected} most suspicious")
    spread = f"({min(fractions):.1%} to {max(fractions):.1%})"
    print(f"{len(cells):,} cells: {np.mean(fractions):.1%} found {spread}, {np.median(seconds):.1f} s per seed")


if __name__ == "__main__":
    main()
