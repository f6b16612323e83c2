"""Bring photographs of the run out as files: `python src/bring_out.py FOLDER` copies them from `data/raw` into FOLDER.

A run with many photographs keeps them in tar files (`download.shards`). Other programs, and you, want files. All are
copied, or those of some ids or labels. Each file has the name that `path` in `data/raw/images.csv` ends in. Nothing is
overwritten: what FOLDER has already stays, and another file of such a name is an error.
"""

import argparse
from pathlib import Path

import thaw  # noqa: F401 - first: it chooses the kernels of other libraries

# isort: split
import polars as pl

from thaw.core import store, tables
from thaw.core.errors import ThawError, did_you_mean, run
from thaw.core.label_values import PRESENT
from thaw.core.words import plural
from thaw.inputs import outputs
from thaw.inputs.named import Named

PIPELINE = Path("dvc.yaml")
RAW = Path("data/raw")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python src/bring_out.py defects --labels defective",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files go; it may be new")
    parser.add_argument("--ids", nargs="+", metavar="ID", help="only these, by the column image_id of images.csv")
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="only those that show one of these classes")
    options = parser.parse_args()
    outputs.check_apart([Named("FOLDER", options.folder, "photographs")], outputs.declared(PIPELINE))
    images = tables.read_images(RAW)
    images = chosen(images, shown(images), options.ids, options.labels)
    photographs = store.Photographs(RAW)
    count = store.bring_out((photographs[path] for path in images["path"]), options.folder)
    print(f"bring_out: {plural(count, 'photograph')} in {options.folder}")


def shown(images: pl.DataFrame) -> pl.DataFrame:
    """Return `image_id` and `label` of each pair of a photograph and a class that it shows. `images`: images.csv."""
    several = tables.read(RAW / "labels.csv", tables.LABELS, key=("image_id", "label"))
    return images if several.is_empty() else several.filter(value=PRESENT)


def chosen(images: pl.DataFrame, pairs: pl.DataFrame, ids: list[str] | None, labels: list[str] | None) -> pl.DataFrame:
    """Return the rows of images.csv with one of the ids and one of the labels; None: with any.

    Args:
        images: images.csv.
        pairs: of photographs and classes, as `shown` returns them.
        ids: that are wanted.
        labels: that are wanted.

    Raises:
        ThawError: There is no photograph of an id or label, or none of both.
    """
    for column, table, names in (("image_id", images, ids), ("label", pairs, labels)):
        if names is None:
            continue
        known = set(table[column])
        if unknown := [name for name in names if name not in known]:
            hint = did_you_mean(unknown[0], sorted(known)) if column == "label" else ""
            raise ThawError(f"{RAW} has no {column} {unknown[0]!r}{hint}")
        images = images.join(table.filter(pl.col(column).is_in(names)), on="image_id", how="semi")
    if images.is_empty():
        raise ThawError("no photograph has both one of these ids and one of these labels")
    return images


if __name__ == "__main__":
    run(main)
