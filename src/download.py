"""Fetch the labelled photographs of `download.source` into `data/raw`: images, `images.csv`, `source.json`.

Everything behind this stage joins on `images.csv` and knows nothing of where the photographs came from. Those that
cannot be had or read are left out, listed in `missing.csv` and counted. `reports/attribution.csv` names the authors
of photographs that come with a licence.
"""

from pathlib import Path

import polars as pl

from thaw import params, tables
from thaw.errors import run
from thaw.files import whole_folder
from thaw.sources import elpv, fiftyone, folder, open_images
from thaw.sources.fetching import Fetcher
from thaw.sources.photographs import Photograph, Source, attribution, collect

RAW = Path("data/raw")
ATTRIBUTION = Path("reports/attribution.csv")


def main() -> None:
    download = params.load(Path("params.yaml")).download
    if download.source == "elpv":
        source, photographs = elpv.find(download.elpv)
    elif download.source == "folder":
        source, photographs = folder.find(download.folder)
    elif download.source == "fiftyone":
        source, photographs = fiftyone.find(download.fiftyone)
    else:
        with open_images.locked(download.open_images):
            fetcher = Fetcher(download.open_images.workers)
            source, photographs = open_images.find(download.open_images, fetcher)
            finish(source, photographs, **open_images.collecting(download.open_images, fetcher))
        return
    finish(source, photographs)


def finish(source: Source, photographs: list[Photograph], **options) -> None:
    """Collect the photographs and say what came of it; `options` as `collect` has them."""
    with whole_folder(RAW) as raw:
        images, missing = collect(source, photographs, raw, **options)
    tables.write(attribution(images, photographs), ATTRIBUTION)
    counts = ", ".join(f"{(images['label'] == label).sum():,} {label}" for label in source.classes)
    license = f" ({source.license})" if source.license else ""
    print(f"download: {len(images):,} photographs from {source.name}{license}: {counts}{left_out(missing)}")


def left_out(missing: pl.DataFrame) -> str:
    """Count by reason what was left out; only the number where nearly each file has a reason of its own."""
    if not len(missing):
        return ""
    reasons = missing["reason"].value_counts().sort("count", "reason", descending=[True, False])
    why = "; ".join(f"{count:,} {reason}" for reason, count in reasons.head(4).iter_rows())
    more = "; …" if len(reasons) > 4 else ""
    return f"; {len(missing):,} left out ({why}{more}), listed in {RAW}/missing.csv"


if __name__ == "__main__":
    run(main)
