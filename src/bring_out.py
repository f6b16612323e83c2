"""Bring photographs of the run out as files: `python src/bring_out.py FOLDER` copies them from `data/raw` into FOLDER.

A run with many photographs keeps them in tar files (`download.shards`). Other programs, and you, want files. All are
copied, or those of some ids or labels. Each file has the name that `path` in `data/raw/images.csv` ends in. Nothing is
overwritten.
"""

import argparse
from pathlib import Path

import thaw  # noqa: F401 - first: it chooses the kernels of other libraries

# isort: split
import polars as pl

from thaw.core import store, tables
from thaw.core.errors import ThawError, did_you_mean, run
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
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="only those of these classes")
    options = parser.parse_args()
    outputs.check_apart([Named("FOLDER", options.folder, "photographs")], outputs.declared(PIPELINE))
    images = chosen(tables.read_images(RAW), options.ids, options.labels)
    photographs = store.Photographs(RAW)
    count = store.bring_out((photographs[path] for path in images["path"]), options.folder)
    print(f"bring_out: {count:,} photographs in {options.folder}")


def chosen(images: pl.DataFrame, ids: list[str] | None, labels: list[str] | None) -> pl.DataFrame:
    """Return the rows of images.csv with one of the ids and one of the labels; None: with any.

    Raises ThawError if there is no photograph of an id or label, or none of both.
    """
    for column, names in (("image_id", ids), ("label", labels)):
        if names is None:
            continue
        known = set(images[column])
        if unknown := [name for name in names if name not in known]:
            hint = did_you_mean(unknown[0], sorted(known)) if column == "label" else ""
            raise ThawError(f"{RAW}/images.csv has no {column} {unknown[0]!r}{hint}")
        images = images.filter(pl.col(column).is_in(names))
    if images.is_empty():
        raise ThawError("no photograph has both one of these ids and one of these labels")
    return images


if __name__ == "__main__":
    run(main)
