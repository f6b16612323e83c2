"""Draw the augmented copies of the training photographs: `data/augmentations.csv`, one row a copy.

Augmentation is data here: a small table, reproducible to the pixel, that the extraction applies on the fly. The
contact sheet shows its first rows: the plain photograph, then its copies.
"""

from pathlib import Path

import polars as pl

from thaw import augmentation, contact_sheet, params, tables, views
from thaw.errors import run

RAW = Path("data/raw")
SPLIT = Path("data/split.csv")
OUTPUT = Path("data/augmentations.csv")
SHEET = Path("reports/augmentations.jpg")
SHEET_PHOTOGRAPHS, SHEET_COPIES, SHEET_SIZE = 4, 7, 112


def main() -> None:
    augment = params.load(Path("params.yaml")).augment
    split = tables.read(SPLIT, tables.SPLIT)
    training = split.filter(split="train").sort("image_id")
    plan = augmentation.draw_plan(training["image_id"], augment)
    tables.write(plan, OUTPUT)
    write_sheet(training, plan, min(augment.copies, SHEET_COPIES))
    print(f"augment: {len(plan):,} copies planned for {len(training):,} training photographs; {SHEET} shows some")


def write_sheet(training: pl.DataFrame, plan: pl.DataFrame, copies: int) -> None:
    """Show an equal number of photographs of each class, up to SHEET_PHOTOGRAPHS in all or one of each."""
    each = max(1, SHEET_PHOTOGRAPHS // training["label"].n_unique())
    shown = training.group_by("label", maintain_order=True).head(each).sort("image_id").head(8)
    paths = dict(tables.read_images(RAW).select("image_id", "path").iter_rows())
    plans = [[None, *plan.filter(image_id=i).head(copies).to_dicts()] for i in shown["image_id"]]
    photographs = [RAW / paths[image_id] for image_id in shown["image_id"]]
    contact_sheet.write(views.draw(photographs, plans, SHEET_SIZE, "crop"), SHEET)


if __name__ == "__main__":
    run(main)
