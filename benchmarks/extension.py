"""Add classes to the thousand that EfficientNet-Lite0 knows, and measure what it gains and what it loses.

    python benchmarks/extension.py ../shared/open_images

Alpacas from the sample of Open Images, then solar cells from the package, one after the other; every photograph is
held out once, in five folds, and the strength is chosen on a fifth of the rest. Agreement is that of the likeliest
class with the one before, on the sample's photographs that were verified not to show an alpaca.
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from thaw import examples, extension, heads, inference, metrics, params, views
from thaw.backbone_names import FEATURES
from thaw.sources import elpv

SIZE, FOLDS, CELLS = 288, 5, 60
STRENGTHS = [0.3, 1.0, 3.0, 10.0, 30.0]  # those of the recipe `imagenet-alpaca`
PARAMS = Path(__file__).parents[1] / "params.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=Path)
    parser.add_argument("--backbone", type=Path, default=Path("models/backbone"), help="as `dvc repro` built it")
    arguments = parser.parse_args()
    if not arguments.sample.is_dir():
        sys.exit(f"{arguments.sample} is missing: a folder with images/ and annotations/ in Open Images' layout")
    known = extension.known_head(True, arguments.backbone)
    alpacas, others = photographs(arguments.sample)
    print(f"{len(alpacas)} photographs with an alpaca, {len(others)} without, {CELLS} solar cells, {SIZE} pixels")
    names = ["Alpaca"] * len(alpacas) + ["not new"] * len(others) + ["solar cell"] * CELLS
    x = features(arguments.backbone, [*alpacas, *others, *cells()])
    labels = np.array(names)
    for name in ("Alpaca", "solar cell"):
        print(f"before, {name} is answered: {told(known, x[labels == name])}")

    answers = {step: np.empty(len(x), object) for step in ("Alpaca", "and solar cell")}
    fold = folds(labels, seed=1)
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        one = extend(known, x, labels, train & (labels != "solar cell"))
        two = extend(one, x, labels, train & (labels != "Alpaca"))
        for head, step in zip((one, two), answers, strict=True):
            answers[step][test] = np.array(head.classes)[head.probabilities(x[test]).argmax(axis=1)]
    before = np.array(known.classes)[known.probabilities(x).argmax(axis=1)]
    for step, found in answers.items():
        print(f"with {step}:")
        for name in ("Alpaca", "solar cell")[: 1 + (step != "Alpaca")]:
            report(f"{name} answered as such", found[labels == name] == name)
        report("agreement on the others", (found == before)[labels == "not new"])


def photographs(sample: Path) -> tuple[list[Path], list[Path]]:
    """Return the photographs that were verified to show an alpaca, and those verified not to."""
    found: dict[str, list[Path]] = {"1": [], "0": []}
    for table in sorted((sample / "annotations").glob("*imagelabels*.csv")):
        with table.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found[row["Confidence"]].append(sample / "images" / f"{row['ImageID']}.jpg")
    return found["1"], found["0"]


def cells() -> list[Path]:
    """Return some photographs of the package `elpv-dataset`, evenly chosen."""
    _, found = elpv.find(params.load(PARAMS).download.elpv)
    return [photograph.path for photograph in found[:: len(found) // CELLS][:CELLS]]


def features(backbone: Path, paths: list[Path]) -> np.ndarray:
    run = inference.openvino(backbone / "backbone.xml", FEATURES, SIZE, np.float32)
    return np.concatenate(list(run(inference.rebatch(views.draw(paths, [[None]] * len(paths), SIZE, "crop")))))


def folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold (n,) in which each photograph is held out, every label spread over all."""
    generator, fold = np.random.default_rng(seed), np.empty(len(labels), int)
    for name in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == name))
        fold[rows] = np.arange(len(rows)) % FOLDS
    return fold


def extend(known: heads.LinearHead, x: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> heads.LinearHead:
    """Return the rows with one more class, as `train_head` would find them."""
    classes = tuple(np.unique(labels[rows]))
    y = np.searchsorted(classes, labels)
    inner = folds(labels, seed=2)
    train, validation = np.flatnonzero(rows & (inner != 0)), np.flatnonzero(rows & (inner == 0))
    part = examples.Examples(*[validation] * 2, y[validation], np.ones(len(validation)), validation)
    fits = extension.fit_path(x[train], y[train], np.ones(len(train)), classes, STRENGTHS, known)
    best, *_ = min(heads.until_worse(fits, x[validation], part), key=lambda fitted: fitted[1])
    return best.whole


def told(head: heads.LinearHead, x: np.ndarray) -> str:
    counts = Counter(np.array(head.classes)[head.probabilities(x).argmax(axis=1)])
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(3))


def report(what: str, hits: np.ndarray) -> None:
    low, high = metrics.wilson(int(hits.sum()), len(hits))
    print(f"  {what}: {hits.sum()} of {len(hits)}, {hits.mean():.1%} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
