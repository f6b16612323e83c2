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
MAX_CLASSES = 20  # whose photographs are counted in the line that the stage prints


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
    notes = "".join(f"; {note}" for note in listing.notes)
    print(f"download: {summary(listing.info, images)}{left_out(missing)}{notes}")


def summary(info: DatasetInfo, images: pl.DataFrame) -> str:
    by_label = dict(images["label"].value_counts().iter_rows())
    counts = ", ".join(f"{by_label[label]:,} {label}" for label in info.classes[:MAX_CLASSES])
    if len(info.classes) > MAX_CLASSES:
        fewest, most = min(by_label.values()), max(by_label.values())
        counts = f"{len(info.classes):,} classes with {fewest:,} to {most:,} each: {counts}, …"
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
