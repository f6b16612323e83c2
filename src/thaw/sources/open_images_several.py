"""Photographs of Open Images with several labels: for each class, those that show it and those verified not to."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from thaw.core.errors import ThawError
from thaw.core.task import MULTI
from thaw.sources import open_images, several_labels
from thaw.sources.base import DatasetInfo, Known, Listing
from thaw.sources.open_images import OpenImages

if TYPE_CHECKING:
    from thaw.sources.fetching import Fetcher


def find(params: OpenImages, fetcher: "Fetcher | None" = None) -> Listing:
    """List the candidates of each class, those that show it and those that do not, in the order of a hash.

    Of each candidate all is listed that people verified of any of the classes. A class that was verified both to be
    there and not to be there is unknown.

    `fetcher` as in `open_images.find`, and so are the errors; ThawError also if too few images show a class, or were
    verified not to.
    """
    from thaw.core.label_values import as_text
    from thaw.sources import annotations, open_images_selection
    from thaw.sources.fetching import Fetcher

    if isinstance(params.negatives, list):
        raise ThawError(
            f"download.open_images.negatives must be null with task: {MULTI}, or verified where there is one class: "
            "what was verified of each class is used"
        )
    fetcher = fetcher or Fetcher(params.workers)
    cache = open_images.cache_folder(params)
    tables = annotations.Annotations(params.annotations_url, cache, fetcher)
    selected, contradicted = open_images_selection.select_several(params, tables)
    folder = cache / annotations.folder_name(params.images_url)
    images = []
    for row in selected.iter_rows(named=True):
        known = tuple(Known(name, row[f"known {name}"]) for name in params.classes if row[f"known {name}"] is not None)
        label = as_text(known.label for known in known if known.is_present)
        images.append(open_images.source_image(row | {"label": label}, folder, with_shows=False, known=known))
    several_labels.check_every_class(images, params.classes, f"Open Images ({', '.join(params.subsets)})")
    note = f"{contradicted:,} pairs that were verified both ways are taken as unknown"
    return Listing(
        DatasetInfo("open_images", license="", citation=open_images.CITATION, classes=tuple(params.classes)),
        images,
        max_per_class=params.max_per_class,
        min_per_class=several_labels.MIN_KNOWN,
        read=partial(open_images.read, params.images_url.rstrip("/"), fetcher),
        workers=params.workers,
        notes=(note,) if contradicted else (),
    )


SOURCE = replace(open_images.SOURCE, find_several=find)
