"""Collect the labelled photographs of `download.source` in `data/raw`: images, `images.csv`, `source.json`.

All later stages join on `images.csv` and do not know the source. Photographs that cannot be fetched or read are left
out: `missing.csv` lists them with the reason. `reports/attribution.csv` names the authors of licensed photographs.
"""

from pathlib import Path

import polars as pl

from thaw.core import params, tables
from thaw.core.errors import run
from thaw.core.files import atomic_folder
from thaw.sources.base import DatasetInfo
from thaw.sources.collection import attribution, collect
from thaw.sources.registry import SOURCES

RAW = Path("data/raw")
ATTRIBUTION = Path("reports/attribution.csv")


def main() -> None:
    download = params.load(Path("params.yaml")).download
    source = SOURCES[download.source]
    section = getattr(download, source.name)
    with source.lock(section):
        listing = source.find(section)
        params.check_classes(Path("params.yaml"), listing.info.classes)  # before any photograph is copied
        with atomic_folder(RAW) as raw:
            images, missing = collect(listing, raw)
    tables.write(attribution(images, listing.images), ATTRIBUTION)
    print(f"download: {summary(listing.info, images)}{left_out(missing)}")


def summary(info: DatasetInfo, images: pl.DataFrame) -> str:
    counts = ", ".join(f"{(images['label'] == label).sum():,} {label}" for label in info.classes)
    license = f" ({info.license})" if info.license else ""
    return f"{len(images):,} photographs from {info.name}{license}: {counts}"


def left_out(missing: pl.DataFrame) -> str:
    """Count the photographs that were left out, with the four most frequent reasons."""
    if not len(missing):
        return ""
    reasons = missing["reason"].value_counts().sort("count", "reason", descending=[True, False])
    why = "; ".join(f"{count:,} {reason}" for reason, count in reasons.head(4).iter_rows())
    more = "; …" if len(reasons) > 4 else ""
    return f"; {len(missing):,} left out ({why}{more}), listed in {RAW}/missing.csv"


if __name__ == "__main__":
    run(main)
