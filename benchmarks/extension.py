"""Add classes to the thousand of EfficientNet-Lite0, and measure which predictions become right or change.

    python benchmarks/extension.py ../shared/open_images

First `Alpaca` is added, with photographs of a sample of Open Images. Then `solar cell` is added, with photographs of
the package. Each photograph is held out once, in five folds. The penalty is chosen on a fifth of the other photographs.
Agreement means that the predicted class is the same as before. It is measured on photographs that were verified to be
without an alpaca.
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from thaw.backbones.cut_points import FEATURES
from thaw.core import params
from thaw.engines import inference
from thaw.evaluation import metrics
from thaw.features import examples
from thaw.features.linear_probe import Samples, until_worse
from thaw.heads import extended, linear
from thaw.images import views
from thaw.sources import elpv

SIZE, FOLDS, CELLS = 288, 5, 60
CS = [0.3, 1.0, 3.0, 10.0, 30.0]  # as in the recipe `imagenet-alpaca`
PARAMS = Path(__file__).parents[1] / "params.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", type=Path)
    parser.add_argument(
        "--backbone", type=Path, default=Path("models/backbone"), help="folder with the backbone and its classes"
    )
    arguments = parser.parse_args()
    if not arguments.sample.is_dir():
        sys.exit(f"{arguments.sample} is missing; it should be a folder with images/ and annotations/ of Open Images")
    old_head = extended.read_old_head(True, arguments.backbone)
    alpacas, others = list_images(arguments.sample)
    print(f"{len(alpacas)} photographs with an alpaca, {len(others)} without, {CELLS} solar cells; {SIZE} pixels")
    names = ["Alpaca"] * len(alpacas) + ["not new"] * len(others) + ["solar cell"] * CELLS
    x = compute_features(arguments.backbone, [*alpacas, *others, *list_cells()])
    labels = np.array(names)
    for name in ("Alpaca", "solar cell"):
        print(f"before, predictions for {name}: {most_common(old_head, x[labels == name])}")

    predictions = {step: np.empty(len(x), object) for step in ("Alpaca", "Alpaca and solar cell")}
    folds = draw_folds(labels, seed=1)
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        first = extend(old_head, x, labels, train & (labels != "solar cell"))
        second = extend(first, x, labels, train & (labels != "Alpaca"))
        for head, step in zip((first, second), predictions, strict=True):
            predictions[step][test] = predict(head, x[test])
    before = predict(old_head, x)
    for step, predicted in predictions.items():
        print(f"with {step}:")
        for name in ("Alpaca", "solar cell")[: 1 + (step != "Alpaca")]:
            report(f"{name} predicted", predicted[labels == name] == name)
        report("agreement on the others", (predicted == before)[labels == "not new"])


def list_images(sample: Path) -> tuple[list[Path], list[Path]]:
    """Return the photographs that were verified to have an alpaca, and those verified to have none."""
    paths: dict[str, list[Path]] = {"1": [], "0": []}
    for table in sorted((sample / "annotations").glob("*imagelabels*.csv")):
        with table.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                paths[row["Confidence"]].append(sample / "images" / f"{row['ImageID']}.jpg")
    return paths["1"], paths["0"]


def list_cells() -> list[Path]:
    """Return CELLS photographs of the package `elpv-dataset`, at equal distances in its table."""
    images = elpv.find(params.load(PARAMS).download.elpv).images
    return [image.path for image in images[:: len(images) // CELLS][:CELLS]]


def compute_features(backbone: Path, paths: list[Path]) -> np.ndarray:
    run = inference.compile_openvino(backbone / "backbone.xml", FEATURES, SIZE, np.float32)
    return np.concatenate(list(run(inference.rebatch(views.draw(paths, [[None]] * len(paths), SIZE, "crop")))))


def draw_folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the (n,) folds in which the photographs are held out. Each label is spread evenly over the folds."""
    generator, folds = np.random.default_rng(seed), np.empty(len(labels), int)
    for name in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == name))
        folds[rows] = np.arange(len(rows)) % FOLDS
    return folds


def extend(old_head: linear.LinearHead, x: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> linear.LinearHead:
    """Add one class to a head, in the way of the stage `train_head`.

    Args:
        old_head: The head to extend.
        x: Features of all photographs, (n, channels).
        labels: Their labels, (n,) str.
        rows: The photographs to train on, (n,) bool. They have one new label, and one that begins with `not `.

    Returns:
        The head with all classes that is best on validation.
    """
    classes = tuple(np.unique(labels[rows]))
    y = np.searchsorted(classes, labels)
    inner = draw_folds(labels, seed=2)
    train, validation = np.flatnonzero(rows & (inner != 0)), np.flatnonzero(rows & (inner == 0))
    held_out = examples.Examples(
        image_ids=validation, splits=np.full(len(validation), "validation"), views=validation[:, None],
        labels=y[validation], weights=np.ones(len(validation)), groups=validation,
    )  # fmt: skip
    samples = Samples(x[train], y[train], np.ones(len(train)))
    fits = extended.fit_path(old_head, samples, classes, CS)
    best, *_ = min(until_worse(fits, x[validation], held_out), key=lambda fitted: fitted[1])
    return best.full_head


def predict(head: linear.LinearHead, x: np.ndarray) -> np.ndarray:
    """Return the (n,) names of the most likely classes."""
    return np.array(head.classes)[head.probabilities(x).argmax(axis=1)]


def most_common(head: linear.LinearHead, x: np.ndarray) -> str:
    counts = Counter(predict(head, x))
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(3))


def report(what: str, hits: np.ndarray) -> None:
    low, high = metrics.wilson(int(hits.sum()), len(hits))
    print(f"  {what}: {hits.sum()} of {len(hits)}, {hits.mean():.1%} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
