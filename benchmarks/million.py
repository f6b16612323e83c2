"""Measure what every stage does beside decoding and the network, at ten thousand, a hundred thousand and a million.

    python benchmarks/million.py [--counts 10000 100000 1000000] [--classes 10] [--width 64] [--folder FOLDER]

There are no photographs: tables, thumbnails, features and predictions are drawn as the stages write them, with three
copies of each training photograph and 1 % of near-duplicates. Each step runs in a process of its own. The table has
the CPU seconds of each part of a step, the milliseconds for a thousand photographs, their ratio to those of the first
count, and the peak memory of the step: the largest resident set that the operating system counted, libraries included.
A run that is broken off goes on where `--folder` names its folder: what was measured at this commit is kept there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path

import results  # first: it finds the library, which chooses the kernels of others

# isort: split
import numpy as np
import polars as pl

from thaw.core import arrays, params, tables
from thaw.core.errors import run
from thaw.core.files import read_json, write_json
from thaw.features import examples
from thaw.parameters.whole import Params

PARAMS = Path(__file__).parents[1] / "params.yaml"
COPIES = 3  # of each training photograph
DUPLICATES = 0.01  # of the photographs
BLOCK = 10_000  # rows that are drawn at a time
MEMORY = "peak memory, MB"


class Run:
    """The files of a run that is drawn, and how long each part of a step takes."""

    def __init__(self, folder: Path, count: int, classes: int, width: int):
        self.folder, self.count, self.width = folder, count, width
        self.classes = tuple(f"class{number:04}" for number in range(classes))
        self.seconds: dict[str, float] = {}
        self.raw, self.features = folder / "raw", folder / "features"
        self.split, self.plan = folder / "split.csv", folder / "augmentations.csv"
        self.thumbnails = folder / "thumbnails.bin"

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[part] = time.process_time() - start

    @property
    def ids(self) -> list[str]:
        return [f"photograph{number:08}" for number in range(self.count)]

    @property
    def labels(self) -> np.ndarray:
        return np.random.default_rng(1).integers(0, len(self.classes), self.count)


# Functions of thaw.evaluation.measure that take the time, or of a module that it imports.
PARTS_OF_MEASURING = {
    "temperatures": "calibrate",
    "baselines": "predict_baselines",
    "intervals": "resample_models",
    "comparisons": "compare_models",
    "classes": "class_metrics",
    "slices": "measure_slices",
    "sets": "conformal.make_sets",
    "curves": "plots.compute_curves",
    "learning curve": "measure_learning_curve",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--width", type=int, default=64, help="channels of the features")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # this process runs it
    parser.add_argument("--folder", type=Path, help="to work in, and to keep; about 10 GB at a million")
    arguments = parser.parse_args()
    if arguments.step:
        this = Run(arguments.folder, arguments.counts[0], arguments.classes, arguments.width)
        STEPS[arguments.step](this)
        print(json.dumps(this.seconds))
        return
    measured: dict[tuple[str, str], list[float]] = {}
    for count in arguments.counts:
        print(f"{count:,} photographs, {arguments.classes} classes, {arguments.width} channels")
        with tempfile.TemporaryDirectory() if arguments.folder is None else nullcontext(arguments.folder) as work:
            for step in STEPS:
                folder = Path(work) / str(count)
                folder.mkdir(parents=True, exist_ok=True)
                for part, value in measure(step, folder, count, arguments).items():
                    values = measured.setdefault((step, part), [])
                    values.append(value)
                    if part == MEMORY:
                        print(f"  {step:11} {part:34} {value:8,.0f}", flush=True)
                        continue
                    each, ratio = 1e6 * value / count, value / count / (values[0] / arguments.counts[0])
                    print(f"  {step:11} {part:34} {value:8.2f} s {each:9.2f} ms/1000 {ratio:6.2f}", flush=True)
    results.write("million", *table(measured, arguments.counts))


def table(measured: dict[tuple[str, str], list[float]], counts: list[int]) -> tuple[list, list]:
    """Return the columns and rows of the table: CPU seconds, and how much more one photograph costs among more."""
    columns: list[results.Column] = ["CPU seconds of", *((f"{count:,}", "{:,}") for count in counts)]
    columns += [(f"one of {more:,} by one of {fewer:,}", "{:.2f}") for fewer, more in pairwise(counts)]
    rows = []
    for (step, part), values in measured.items():
        if part not in PARTS_OF_MEASURING:
            rounded = [round(value, 2) if value < 10 else round(value) for value in values]
            each = [value / count for value, count in zip(values, counts, strict=True)]
            ratios = [None if part == MEMORY else more / fewer for fewer, more in pairwise(each)]
            rows.append([f"`{step}`: {part}", *rounded, *ratios])
    return columns, rows


def measure(step: str, folder: Path, count: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Run a step in a process of its own. Returns the seconds of its parts, and its peak memory in MB."""
    kept = folder / f"{step}.json"
    of = {"commit": results.COMMIT, "classes": arguments.classes, "width": arguments.width}
    if kept.is_file() and not results.CHANGES and (known := read_json(kept)) == of | {"values": known["values"]}:
        return known["values"]
    command = [sys.executable, __file__, "--step", step, "--folder", folder, "--counts", count]
    command += ["--classes", arguments.classes, "--width", arguments.width]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"million: {step} failed with {count:,} photographs")
    values = {**json.loads(output.splitlines()[-1]), MEMORY: usage.ru_maxrss / 1000}
    write_json(kept, of | {"values": values})
    return values


def draw_tables(this: Run) -> None:
    """Write images.csv and the folder's other files as `download` does, and read the table again."""
    generator = np.random.default_rng(0)
    labels = pl.Series(np.array(this.classes)[this.labels])
    images = pl.DataFrame({
        "image_id": this.ids,
        "path": [f"images/{image_id}.jpg" for image_id in this.ids],
        "label": labels,
        "weight": generator.choice([1 / 3, 2 / 3, 1.0], this.count, p=[0.05, 0.05, 0.9]),
        "source": "drawn", "license": "https://creativecommons.org/licenses/by/2.0/", "author": "nobody",
        "landing_url": [f"https://photographs.invalid/people/{number % 9973}/{number}" for number in range(this.count)],
        "sha256": [generator.bytes(32).hex() for _ in range(this.count)],
        "width": generator.choice([1024, 3024, 4032], this.count),
        "height": generator.choice([768, 3024, 4032], this.count),
        "meta_camera": generator.choice([f"camera{number}" for number in range(5)], this.count),
    })  # fmt: skip
    with this.timed("images.csv written"):
        tables.write(images, this.raw / "images.csv")
    with this.timed("images.csv read"):
        read = tables.read_images(this.raw)
    assert read.equals(images)
    write_json(this.raw / "source.json", {"strata": ["label"], "classes": this.classes})


def draw_thumbnails(this: Run) -> np.ndarray:
    """Write and return thumbnails: smooth pictures with some noise, and altered copies of the picture before."""
    import cv2

    from thaw.splitting.thumbnails import COLOUR_SIDE, SIDE, THUMBNAIL

    generator = np.random.default_rng(2)
    noise = generator.normal(0, 4, (64, SIDE, SIDE)).astype(np.float32)
    with this.thumbnails.open("wb") as file:
        luma = np.zeros((SIDE, SIDE), np.float32)
        for start in range(0, this.count, BLOCK):
            block = np.zeros(min(BLOCK, this.count - start), THUMBNAIL)
            coarse = generator.uniform(20, 235, (len(block), 6, 6)).astype(np.float32)
            block["chroma"] = generator.integers(118, 138, (len(block), 1, 1, 2))
            is_copy = generator.random(len(block)) < DUPLICATES
            is_copy[0] = False
            for i in range(len(block)):
                if is_copy[i]:
                    block["chroma"][i] = block["chroma"][i - 1]
                else:
                    luma = cv2.resize(coarse[i], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
                block["luma"][i] = (luma + noise[i % len(noise)]).clip(0, 255)
            file.write(block.tobytes())
    assert COLOUR_SIDE
    return np.memmap(this.thumbnails, THUMBNAIL, mode="r", shape=(this.count,))


def find_duplicates(this: Run) -> None:
    from thaw.splitting import duplicates

    thumbnails = draw_thumbnails(this)
    with this.timed("near-duplicates"):
        groups = duplicates.group_near_duplicates(this.ids, thumbnails)
    found, made = this.count - len(set(groups)), DUPLICATES * this.count
    print(f"{found:,} near-duplicates were found, of about {made:,.0f}")
    this.thumbnails.unlink()


def split(this: Run) -> None:
    """Draw the groups, the split and folds as `split` does, and write its tables."""
    from thaw.splitting import duplicates, folds, listing, splits

    settings = params.load(PARAMS).split
    generator = np.random.default_rng(3)
    images = tables.read_images(this.raw)
    ids = images["image_id"].to_list()
    is_copy = generator.random(this.count) < DUPLICATES
    alike = [ids[max(0, i - 1)] if is_copy[i] else ids[i] for i in range(this.count)]
    with this.timed("groups"):
        groups = duplicates.connected(ids, alike)
        duplicates.oversized_groups(alike)
    columns = {
        "group": pl.Series(groups),
        "alike": pl.Series(alike),
        "own_group": pl.lit(""),
        "subset": pl.lit(""),
        "is_added": pl.lit(False),
    }
    table = images.with_columns(**columns, stratum=pl.col("label"))
    with this.timed("split"):
        folds.choose(table, settings)
        table = table.with_columns(split=splits.draw(table, settings))
        splits.check_weights(table)
    with this.timed("folds"):
        drawn = folds.draw(table, 5, settings)
        folds.notes(table.with_columns(*drawn), drawn["fold"])
    with this.timed("split.csv and duplicates.csv written"):
        tables.write(listing.groups(table), this.folder / "duplicates.csv")
        tables.write(table.select(*tables.SPLIT), this.split)
    with this.timed("split.csv read"):
        tables.read(this.split, tables.SPLIT)


def plan(this: Run) -> None:
    """Draw the plan as `augment` does, and list the rows of the arrays as the extractions do."""
    from thaw.features import extraction
    from thaw.images import augmentation_plan

    settings = params.load(PARAMS)
    training = tables.read(this.split, tables.SPLIT).filter(split="train").sort("image_id")
    with this.timed("plan drawn"):
        drawn = augmentation_plan.draw(training["image_id"], settings.augment)
    with this.timed("augmentations.csv written"):
        tables.write(drawn, this.plan)
    del drawn
    with this.timed("views listed"):
        dataset = extraction.Dataset(this.raw, this.split, this.plan)
        planned = extraction.PlannedViews(dataset, extraction.ImageSettings(224, "crop", "openvino"))
    with this.timed("rows.csv written"):
        extraction.describe(this.features, this.raw, planned.rows)


def draw_features(this: Run) -> None:
    """Write features.npy: class means and noise, float16."""
    rows = tables.read(this.features / "rows.csv", tables.ROWS)
    generator = np.random.default_rng(4)
    means = generator.normal(0, 0.25, (len(this.classes), this.width)).astype(np.float32)
    numbers = rows["image_id"].str.slice(-8).cast(pl.Int64).to_numpy()
    labels = this.labels[numbers]

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(rows), BLOCK):
            label = labels[start : start + BLOCK]
            noise = generator.standard_normal((len(label), this.width), np.float32)
            yield (means[label] + noise).astype(np.float16)

    arrays.write_rows(this.features / "features.npy", blocks(), len(rows))


def read_examples(this: Run) -> None:
    with this.timed("examples read"):
        images = examples.read(this.features, this.split)
    with this.timed("examples divided"):
        for name in tables.SPLITS:
            images.split(name)


def train_head(this: Run) -> None:
    """Fit the linear head on plain photographs and on copies too, as `train_head` does."""
    from thaw.heads import registry
    from thaw.heads.protocol import AUGMENTED, PLAIN, HeadData

    images = examples.read(this.features, this.split)
    features = arrays.open_rows(this.features / "features.npy")
    variants = {PLAIN: images.without_augmented_views(), AUGMENTED: images}
    for name, views in variants.items():
        training = {name: views.split("train")}
        data = HeadData(features, training, images.split("validation"), this.classes, this.folder)
        with this.timed(f"head, {name}"):
            trained = registry.train(params.load(PARAMS).head, data, lambda *_: None)
        best = min(trained, key=lambda candidate: candidate.loss)
        print(f"{len(trained)} fits; {best.description}; loss {best.loss:.5f}", file=sys.stderr)


def draw_probabilities(this: Run, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the probabilities of a head, and of a better model."""
    drawn = {}
    for seed, (model, skill) in enumerate((("head", 2.5), ("fine_tuned", 3.0))):
        odds = np.random.default_rng(seed).normal(size=(len(labels), len(this.classes)))
        odds[np.arange(len(labels)), labels] += skill
        np.exp(odds, out=odds)
        drawn[model] = odds / odds.sum(axis=1, keepdims=True)
    return drawn


def evaluate(this: Run) -> None:
    """Measure two models as `evaluate` does, and write the predictions, the plots and the page."""
    from thaw.evaluation import label_errors, measure, plots, predictions
    from thaw.evaluation.learning_curve import HeadFit
    from thaw.report import collect, health

    settings = params.load(PARAMS)
    images = examples.read(this.features, this.split)
    features, table = arrays.open_rows(this.features / "features.npy"), tables.read_images(this.raw)
    with this.timed("likely wrong labels"):
        plain = arrays.Rows(features, images.rows)
        confidence = label_errors.self_confidence(plain, images, len(this.classes), seed=1)
    drawn = draw_probabilities(this, images.labels)
    predicted = predictions.Predictions(images, this.classes, drawn, confidence, np.zeros(this.count, int))
    fit = HeadFit(settings.head.class_weight, settings.head.strengths)
    for name, path in PARTS_OF_MEASURING.items():
        module, _, function = path.rpartition(".")
        owner = getattr(measure, module) if module else measure
        setattr(owner, function, summed(this, name, getattr(owner, function)))
    with this.timed("all that is measured"):
        measured = measure.measure_models(
            predicted, images, features, table, settings=settings.evaluate, head=fit
        )  # fmt: skip
    with this.timed("predictions written"):
        predictions.write(this.folder / "predictions", predicted)
    with this.timed("plots written"):
        by_model = {**measured.curves, "per_class": measured.per_class, "slices": plots.name_slices(measured.slices)}
        plots.write(this.folder / "plots", by_model, {"learning_curve": measured.learning_curve})
    with this.timed("health"):
        missing, duplicates = (pl.DataFrame(schema=schema) for schema in (tables.MISSING, collect.DUPLICATES))
        described = health.describe(table, tables.read(this.split, tables.SPLIT), duplicates, missing, this.classes)
    with this.timed("page"):
        page = render(this, settings, measured, described)
    files = {path.name: path.stat().st_size for path in sorted((this.folder / "plots").iterdir())}
    largest = max(files, key=files.get)
    print(f"page {len(page) / 1e3:,.0f} kB; largest plot {largest}, {files[largest] / 1e3:,.0f} kB", file=sys.stderr)


def summed(this: Run, part: str, function: Callable) -> Callable:
    """Return the same function; the seconds of all its calls are summed."""

    def wrapped(*arguments, **options):
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            this.seconds[part] = this.seconds.get(part, 0) + time.process_time() - start

    return wrapped


def render(this: Run, settings: Params, measured, described) -> str:
    from thaw.report import page, provenance
    from thaw.report.results import Duplicates, PresetChoice, Results

    results = Results(
        source={"name": "drawn", "license": "none", "citation": ""},
        classes=this.classes,
        weighted=True,
        measured=measured,
        sheets=dict.fromkeys(("mistakes", "doubts", "labels"), ()),
        confused=(),
        duplicates=Duplicates(0, None),
        health=described,
        parameters={
            "model": {"backbone": "none", "licence": "none", "cut": None, "best_epoch": 1},
            "image": {"size": 224}, "head": {"kind": "linear"}, "fine_tune": {},
            "evaluate": settings.evaluate.model_dump(),
        },
        inputs={},
        computed_with=provenance.computed_with(),
        preset=PresetChoice(None, None),
        resize=None,
        augmentations=(PARAMS.parent / "reports/augmentations.jpg").read_bytes(),
    )  # fmt: skip
    return page.render(results)


STEPS = {
    "tables": draw_tables,
    "duplicates": find_duplicates,
    "split": split,
    "plan": plan,
    "features": draw_features,
    "examples": read_examples,
    "head": train_head,
    "evaluate": evaluate,
}

if __name__ == "__main__":
    run(main)
