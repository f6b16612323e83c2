"""Collect the labelled photographs of `download.source` in `data/raw`: images, `images.csv`, `source.json`.

Photographs of `download.added` are taken beside those of the source, and `download.corrections` changes wrong labels.
All later stages join on `images.csv` and do not know the source. Photographs that cannot be fetched or read are left
out: `missing.csv` lists them with the reason. `reports/attribution.csv` names the authors of licensed photographs.

Of more photographs than `download.shards`, `data/raw/images` holds a few tar files instead of one file for each, and
`index.csv`, which says where each photograph is in them. `python src/bring_out.py FOLDER` makes files of them.

With `task: multi`, `labels.csv` has what is known of several labels: a row for each class that a photograph shows, or
that somebody verified it not to show. Else it has no row.

DVC leaves these files as they are (`persist`), and this stage replaces them. It does not touch what else is in
`data/raw`, and stops if a person has put files into `data/raw/images`. Where `images.csv` was deleted, it goes on if
the files there are those that it would write.
"""

from collections import Counter
from pathlib import Path

import thaw  # noqa: F401 - first: it chooses the kernels of other libraries
from thaw.core.words import plural

# isort: split
import polars as pl

from thaw.core import cache, params, store, tables
from thaw.core.encodings import shown
from thaw.core.errors import run
from thaw.core.files import atomic_entries, check_no_link, temporary_path
from thaw.core.task import MULTI
from thaw.inputs import named, outputs
from thaw.sources import added, remarks
from thaw.sources.base import DatasetInfo, Listing, known_columns
from thaw.sources.collection import attribution, collect, collected
from thaw.sources.registry import SOURCES

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
RAW = Path("data/raw")
ATTRIBUTION = Path("reports/attribution.csv")
MAX_CLASSES = 20  # whose photographs are counted in the line that the stage prints


def main() -> None:
    parameters = params.load(PARAMS)
    download, task = parameters.download, parameters.task
    source = SOURCES[download.source]
    section = getattr(download, source.name)
    written = outputs.declared(PIPELINE)
    own = (named.photographs(download), named.cache(download), *named.labelled(download))
    outputs.check_apart(filter(None, own), written)
    check_no_link(RAW / "images")
    records = [collected(RAW), collected(temporary_path(RAW))]  # the latter if the stage was killed
    is_recorded = records != [None, None]
    if is_recorded:
        outputs.check_own(RAW / "images", set().union(*filter(None, records)))
    with source.lock(section):
        joined = added.join(source.list_images(section, task), download)
        listing = joined.listing
        params.check_photographs(PARAMS, listing.info.classes, known_columns(joined.images))  # before one is copied
        outputs.check_apart(named.images(source.name, joined.images), written)
        with atomic_entries(RAW) as raw:
            images, missing = collect(listing, raw, joined.added, cache.of_environment(), download.shards)
            if not is_recorded:
                same = outputs.equal_files(RAW / "images", raw / "images")
                outputs.check_own(RAW / "images", same, lost=RAW / "images.csv")
    tables.write(attribution(images, joined.images), ATTRIBUTION)
    warnings = [f"warning: {warning}" for warning in (*listing.warnings, *joined.warnings)]
    photographs = store.Photographs(RAW)
    unused = remarks.count(photographs[path] for path in images["path"])
    notes = "".join(f"; {note}" for note in (*warnings, *unused, *listing.notes, *joined.notes))
    counts = summary_of_several(listing, images) if task == MULTI else summary(listing.info, images)
    print(f"download: {counts}{in_shards(photographs.shards)}{left_out(missing)}{notes}")


def summary(info: DatasetInfo, images: pl.DataFrame) -> str:
    by_label = dict(images["label"].value_counts().iter_rows())
    counts = ", ".join(f"{by_label[label]:,} {shown(label)}" for label in info.classes[:MAX_CLASSES])
    if len(info.classes) > MAX_CLASSES:
        fewest, most = min(by_label.values()), max(by_label.values())
        counts = f"{len(info.classes):,} classes with {fewest:,} to {most:,} each: {counts}, …"
    license = f" ({info.license})" if info.license else ""
    return f"{len(images):,} photographs from {info.name}{license}: {counts}"


def summary_of_several(listing: Listing, images: pl.DataFrame) -> str:
    """Count the photographs that are known to show each class, and those that are known not to."""
    taken = set(images["image_id"])
    known = Counter(known[:2] for image in listing.images if image.image_id in taken for known in image.known)
    classes = listing.info.classes
    counts = [f"{shown(name)} {known[name, True]:,} present and {known[name, False]:,} absent" for name in classes]
    more = f"; and {len(classes) - MAX_CLASSES:,} classes more" if len(classes) > MAX_CLASSES else ""
    unknown = 1 - known.total() / (len(images) * len(classes))
    license = f" ({listing.info.license})" if listing.info.license else ""
    return (
        f"{len(images):,} photographs from {listing.info.name}{license}: {'; '.join(counts[:MAX_CLASSES])}{more}; "
        f"{unknown:.0%} of all pairs of a photograph and a class are unknown"
    )


def in_shards(shards: store.Shards | None) -> str:
    """Say how many shards the photographs are in; nothing where they are files."""
    if shards is None:
        return ""
    return f"; in {plural(shards.count, 'shard')} (download.shards)"


def left_out(missing: pl.DataFrame) -> str:
    """Count the photographs that were left out, with the four most frequent reasons."""
    if not len(missing):
        return ""
    reasons = missing["reason"].value_counts().sort("count", "reason", descending=[True, False])
    why = "; ".join(f"{count:,} {reason}" for reason, count in reasons.head(4).iter_rows())
    more = "; …" if len(reasons) > 4 else ""
    return f"; {len(missing):,} left out ({why}{more}), listed in {RAW}/missing.csv"


if __name__ == "__main__":
    run(main, stage=__doc__)
