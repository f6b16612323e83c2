"""Draw the parameters of every augmented view of the training photographs: `data/augmentations.csv`.

Augmentation is data here: a small table, reproducible to the pixel, that the extraction stages apply while they read
the photographs. The contact sheet shows the first rows: each photograph as it is, then its augmented copies.
"""

from pathlib import Path

import thaw  # noqa: F401 - first: it chooses the kernels of other libraries

# isort: split
import polars as pl

from thaw.core import cache, params, store, tables
from thaw.core.errors import run
from thaw.images import augmentation_plan, contact_sheet, views

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
OUTPUT = Path("data/augmentations.csv")
SHEET = Path("reports/augmentations.jpg")
SHEET_PHOTOGRAPHS, MAX_SHEET_PHOTOGRAPHS = 4, 8  # with many classes, up to 8: one of each class
SHEET_COPIES, SHEET_SIZE = 7, 112  # of each photograph at most; with several presets, the same number of each


def main() -> None:
    augment = params.load(Path("params.yaml")).augment
    split = tables.read(SPLIT, tables.SPLIT)
    training = split.filter(split="train").sort("image_id")
    plan = augmentation_plan.draw(training["image_id"], augment)
    tables.write(plan, OUTPUT)
    presets = [candidate.preset for candidate in augment.candidates]
    write_sheet(training, plan, SHEET_COPIES // len(presets))
    print(
        f"augment: {len(plan):,} copies planned for {len(training):,} training photographs, {' and '.join(presets)}; "
        f"{SHEET} shows some"
    )


def write_sheet(training: pl.DataFrame, plan: pl.DataFrame, copies: int) -> None:
    """Write a contact sheet of the first photographs of each class, the same number of each.

    Each photograph is shown as it is, then as the first `copies` of each preset.
    """
    per_class = max(1, SHEET_PHOTOGRAPHS // training["label"].n_unique())
    shown = training.group_by("label", maintain_order=True).head(per_class)
    image_ids = shown.sort("image_id").head(MAX_SHEET_PHOTOGRAPHS)["image_id"]
    paths = dict(tables.read_images(RAW).select("image_id", "path").iter_rows())
    plan = plan.filter(pl.col("image_id").is_in(image_ids.implode()))
    plan = plan.group_by("image_id", "preset", maintain_order=True).head(copies)
    plans = [[None, *plan.filter(image_id=image_id).to_dicts()] for image_id in image_ids]
    photographs = store.Photographs(RAW)
    files = [photographs[paths[image_id]] for image_id in image_ids]
    images = views.draw(files, plans, SHEET_SIZE, "crop", cache.of_environment())
    contact_sheet.write(images, SHEET)


if __name__ == "__main__":
    run(main, stage=__doc__)
