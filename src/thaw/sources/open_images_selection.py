"""Which images of Open Images are candidates for which class, and in which order."""

import contextlib
from collections.abc import Iterator

import polars as pl

from thaw.core import hashes
from thaw.core.errors import ThawError, did_you_mean
from thaw.core.section import Section
from thaw.sources.annotations import Annotations

TWO_CLASSES = "verified to show two of the classes"
CONTRADICTED = "verified both to show its class and not to"
NOT_DESCRIBED = "not in the table of images"
ODD_ROTATION = "its rotation is no quarter turn"
SPARE = 2, 100  # candidates with several labels: so many times those that are wanted, and so many more


def select(params: Section, annotations: Annotations) -> pl.DataFrame:
    """Return the candidates of all classes, in the order of a hash of image id and seed.

    `params` is the section of the source: `thaw.sources.open_images.OpenImages`.
    Columns: `subset`, `ImageID`, `label`, `left_out` (why the image cannot be used; mostly empty), `shows` (the names
    of the classes that it was verified to show, joined by ` + `), `rotation` (degrees: 0, 90, 180 or 270) and those of
    `Annotations.images`. Raises ThawError if a class does not exist or has no image, or the cache is damaged.
    """
    ids = _class_ids(params, annotations)
    with _readable(annotations):
        candidates = _sort(_candidates(_labels(params, annotations, ids), params, ids), params.seed)
        _check(candidates, params)
        return _describe(candidates, params, annotations)


def select_several(params: Section, annotations: Annotations) -> tuple[pl.DataFrame, int]:
    """Return the candidates of all classes with what is known of each class, in the order of a hash.

    Of each class there are the first ones that show it, and the first ones that do not: more than `max_per_class` by
    SPARE, since some cannot be read.

    Columns: as `select`, without `label` and `shows`; and of each class `known` and its name, whether it is there:
    true, false, or null where it was not verified, or both ways. Also returns the number of these contradictions.
    Raises ThawError if a class does not exist, or the cache is damaged.
    """
    ids = _class_ids(params, annotations)
    names = params.classes
    with _readable(annotations):
        labels = _labels(params, annotations, ids)
        is_of = {name: pl.col("LabelName") == ids[name] for name in names}
        verified = labels.group_by("subset", "ImageID").agg(
            *((is_of[name] & pl.col("present")).any().alias(f"shows {name}") for name in names),
            *((is_of[name] & ~pl.col("present")).any().alias(f"denies {name}") for name in names),
        )
        shows, denies = ({name: pl.col(f"{word} {name}") for name in names} for word in ("shows", "denies"))
        known = {name: pl.when(shows[name] != denies[name]).then(shows[name]).alias(f"known {name}") for name in names}
        contradicted = pl.sum_horizontal((shows[name] & denies[name]) for name in names)
        candidates = verified.select(
            "subset", "ImageID", *known.values(), contradicted=contradicted, left_out=pl.lit("")
        )
        candidates = _sort(candidates, params.seed)
        if params.max_per_class is not None:
            most = SPARE[0] * params.max_per_class + SPARE[1]
            columns = [pl.col(f"known {name}") for name in names]
            ranked = [is_one & (is_one.cum_sum() <= most) for c in columns for is_one in (c.eq(True), c.eq(False))]
            candidates = candidates.filter(pl.any_horizontal(one.fill_null(value=False) for one in ranked))
        else:
            candidates = candidates.filter(pl.any_horizontal(pl.col(f"known {name}").is_not_null() for name in names))
        count = candidates["contradicted"].sum()
        return _describe(candidates.drop("contradicted"), params, annotations), count


def _class_ids(params: Section, annotations: Annotations) -> dict[str, str]:
    ids = annotations.classes()
    for name in params.all_classes:
        if name not in ids:
            raise ThawError(f"Open Images has no boxable class {name!r}{did_you_mean(name, ids)}")
    return ids


def _labels(params: Section, annotations: Annotations, ids: dict[str, str]) -> pl.DataFrame:
    """Return what was verified of the classes: `subset`, `ImageID`, `LabelName`, `present`."""
    labels = pl.concat([annotations.labels(subset).with_columns(subset=pl.lit(subset)) for subset in params.subsets])
    labels = labels.filter(pl.col("LabelName").is_in([ids[name] for name in params.all_classes]))
    return labels.collect(engine="streaming")


@contextlib.contextmanager
def _readable(annotations: Annotations) -> Iterator[None]:
    """Raise ThawError where polars cannot read the tables."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        why = str(error).splitlines()[0]
        raise ThawError(f"the tables in {annotations.folder} cannot be read ({why}): delete that folder") from None


def _candidates(labels: pl.DataFrame, params: Section, ids: dict[str, str]) -> pl.DataFrame:
    """Give each image that verified labels allow its `label`, or the reason why it is `left_out`.

    An image whose labels contradict one another about its class is left out: nobody knows what it shows.

    `labels` has the columns `subset`, `ImageID`, `LabelName`, `present`; `ids` are those of the classes by name.
    Returns `subset`, `ImageID`, `label`, `left_out` and `shows`.
    """
    target = params.classes[0]
    verified = labels.group_by("subset", "ImageID").agg(
        ((pl.col("LabelName") == ids[name]) & (pl.col("present") == present)).any().alias(f"{present} {name}")
        for name in params.all_classes
        for present in (True, False)
    )
    shows = {name: pl.col(f"True {name}") for name in params.all_classes}
    denied = {name: pl.col(f"False {name}") for name in params.all_classes}
    if params.negatives is None:
        is_negative = pl.lit(False)
    elif params.negatives == "verified":
        is_negative = denied[target]
    else:
        is_negative = pl.any_horizontal(shows[name] & ~denied[name] for name in params.negatives)
    label = pl.when(is_negative).then(pl.lit(f"not {target}"))
    contradicted = pl.lit(False)
    for name in params.classes:
        label = pl.when(shows[name]).then(pl.lit(name)).otherwise(label)
        contradicted |= shows[name] & denied[name]
    two_classes = pl.sum_horizontal(shows[name] for name in params.classes) > 1
    left_out = pl.when(two_classes).then(pl.lit(TWO_CLASSES)).when(contradicted).then(pl.lit(CONTRADICTED))
    names_shown = [pl.when(shows[name]).then(pl.lit(name)) for name in params.all_classes]
    return verified.select(
        "subset",
        "ImageID",
        label=label,
        left_out=left_out.otherwise(pl.lit("")),
        shows=pl.concat_str(names_shown, separator=" + ", ignore_nulls=True),
    ).filter(pl.col("label").is_not_null())


def _sort(candidates: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Sort by a hash of image id and seed."""
    orders = [hashes.order(seed, image_id) for image_id in candidates["ImageID"]]
    return candidates.with_columns(order=pl.Series(orders, dtype=pl.String)).sort("order", "subset").drop("order")


def _check(candidates: pl.DataFrame, params: Section) -> None:
    """Raise ThawError if a class, or the negatives, have no image."""
    where = " and ".join(params.subsets)
    usable = candidates.filter(left_out="")
    for name in params.classes:
        if name not in usable["label"]:
            raise ThawError(f"the class {name!r} has no photograph in {where} that people verified to show it alone")
    if params.negatives is not None and len(usable) == (usable["label"] == params.classes[0]).sum():
        kind = (
            "not to show it"
            if params.negatives == "verified"
            else f"to show {' or '.join(params.negatives)} and not it"
        )
        raise ThawError(
            f"the negatives of {params.classes[0]!r} leave nothing: no photograph in {where} is verified {kind}"
        )


def _describe(candidates: pl.DataFrame, params: Section, annotations: Annotations) -> pl.DataFrame:
    """Join the tables of images; an image without a row there, or with an odd rotation, is left out."""
    tables = []
    for subset in params.subsets:
        image_ids = candidates.filter(subset=subset)["ImageID"].implode()
        table = annotations.images(subset).filter(pl.col("ImageID").is_in(image_ids)).unique("ImageID", keep="first")
        tables.append(table.with_columns(subset=pl.lit(subset)).collect(engine="streaming"))
    joined = candidates.join(pl.concat(tables), on=["subset", "ImageID"], how="left", maintain_order="left")
    rotation = joined["rotation"].replace({"": "0", "nan": "0"}).cast(pl.Float64, strict=False)
    problem = pl.when(pl.col("rotation").is_null()).then(pl.lit(NOT_DESCRIBED))
    problem = problem.when(rotation.is_null() | (rotation % 90 != 0)).then(pl.lit(ODD_ROTATION)).otherwise(pl.lit(""))
    return joined.with_columns(
        pl.col("landing_url", "license", "author_url", "author", "title").fill_null(""),
        left_out=pl.when(pl.col("left_out") == "").then(problem).otherwise(pl.col("left_out")),
        rotation=(rotation.fill_null(0) % 360).cast(pl.Int64),
    )
