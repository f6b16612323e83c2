"""How many wrong labels are found: 2 % of the surest solar cells get the wrong one, and are then looked for.

    python benchmarks/label_errors.py [--seeds 5]

Cells whose probability of a defect is 0 or 1 alone, since the others' labels are unsure. Wants a finished `dvc repro`
with the default source.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from thaw import arrays, examples, label_errors, tables  # noqa: E402

PLANTED, SUSPECTED = 0.02, 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    folder = ROOT / "data/features"
    features = arrays.open_rows(folder / "features.npy")
    images = tables.read_images(ROOT / "data/raw")
    sure = images.filter(images["meta_probability"].is_in(["0.000", "1.000"]))["image_id"].to_list()
    parts = examples.read(folder, ROOT / "data/split.csv").values()
    kept = [np.isin(part.image_ids, sure) for part in parts]
    rows, labels, groups = (
        np.concatenate([array[keep] for array, keep in zip(arrays_, kept, strict=True)])
        for arrays_ in zip(*((part.views[:, 0], part.labels, part.groups) for part in parts), strict=True)
    )
    features, classes = features[rows], len(examples.read_classes(folder))
    planted, suspected = round(PLANTED * len(labels)), round(SUSPECTED * len(labels))
    shares, seconds = [], []
    for seed in range(arguments.seeds):
        generator = np.random.default_rng(seed)
        wrong = generator.choice(len(labels), planted, replace=False)
        given = labels.copy()
        given[wrong] = (given[wrong] + generator.integers(1, classes, planted)) % classes
        began = time.perf_counter()
        confidence = label_errors.self_confidence(features, given, np.ones(len(given)), groups, classes, seed=seed)
        seconds.append(time.perf_counter() - began)
        found = np.isin(wrong, label_errors.suspicious(confidence)[:suspected])
        shares.append(found.mean())
        print(f"seed {seed}: {found.sum()} of {planted} wrong labels among the {suspected} most suspicious")
    print(f"{len(labels):,} cells: {np.mean(shares):.1%} found ({min(shares):.1%} to {max(shares):.1%}), "
          f"{np.median(seconds):.1f} s each")  # fmt: skip


if __name__ == "__main__":
    main()
