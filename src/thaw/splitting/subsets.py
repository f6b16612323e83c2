"""Which photographs must be in a split: by the source's own subsets, or because they are newer than `split.after`."""

from typing import TYPE_CHECKING

import polars as pl

from thaw.core.store import Photographs
from thaw.splitting import times

if TYPE_CHECKING:
    from thaw.parameters.split import Split


def read(images: pl.DataFrame, photographs: Photographs, params: "Split") -> pl.Series:
    """Return the subset of each image, `train`, `validation` or `test`; empty if it may be in any split.

    Args:
        images: images.csv.
        photographs: Its photographs; only with `split.after` are they read.
        params: The section `split`.

    Raises:
        ThawError: A time is missing or is none, or there is a split of one's own beside folds or `split.after`.
    """
    subset = pl.repeat("", len(images), dtype=pl.String, eager=True)
    if params.keep_subsets and "meta_subset" in images.columns:
        subset = images["meta_subset"].fill_null("")
    params.check_subsets(subset)
    if params.after is None:
        return subset
    newer = times.are_newer(images, photographs, params.after, params.time)
    return pl.select(pl.when(newer).then(pl.lit("test")).otherwise(pl.lit(""))).to_series()


def must_train(subset: pl.Series, is_added: pl.Series | None = None) -> pl.Series:
    """Say which images stay in training: those of the subset `train`, where others have none and may be drawn.

    Where all have one, a split that none names is drawn from those of `train`.

    Args:
        subset: As `read` returns it.
        is_added: Whether an image was labelled since: these never have a subset.
    """
    is_free = subset == "" if is_added is None else (subset == "") & ~is_added
    return (subset == "train") & is_free.any()
