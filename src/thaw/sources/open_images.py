"""Photographs of Open Images that people verified to show a class, or not to.

Kuznetsova et al., "The Open Images Dataset V4", IJCV 128 (2020); https://storage.googleapis.com/openimages/web.
"""

import contextlib
import fcntl
import hashlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from thaw import images
from thaw.errors import ThawError, nearest
from thaw.files import below_home, whole_file
from thaw.params import OpenImages
from thaw.sources.annotations import Annotations, folder_of
from thaw.sources.fetching import Fetcher
from thaw.sources.photographs import Photograph, Source
from thaw.tables import SPLITS

CITATION = (
    "A. Kuznetsova, H. Rom, N. Alldrin, J. Uijlings, I. Krasin, J. Pont-Tuset, S. Kamali, S. Popov, M. Malloci, "
    "A. Kolesnikov, T. Duerig, V. Ferrari: The Open Images Dataset V4. IJCV 128 (2020), 1956-1981."
)
TWO_CLASSES = "verified to show two of the classes"
CONTRADICTED = "verified both to show its class and not to"
SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # Open Images' own have 16 hexadecimal digits


def find(params: OpenImages, fetcher: Fetcher) -> tuple[Source, list[Photograph]]:
    """List the candidates of each class in the order in which they are taken, of which the first that arrive count.

    The order is that of a hash of image id and seed: it depends on the parameters alone, and a larger
    `max_per_class` takes the same images and more. Images that cannot be used, such as those that show two of the
    classes, are among them with the reason. Raises ThawError where a class has no name of Open Images or no verified
    image, or negatives are left by none.
    """
    annotations = Annotations(params.annotations_url, _cache(params), fetcher)
    ids = _resolve(params, annotations.classes())
    labels = pl.concat([annotations.labels(subset).with_columns(subset=pl.lit(subset)) for subset in params.subsets])
    wanted = [ids[name] for name in _named(params)]
    try:
        chosen = choose(labels.filter(pl.col("LabelName").is_in(wanted)).collect(engine="streaming"), params, ids)
        candidates = _in_order(chosen, params.seed)
        _check(candidates, params)
        described = _describe(candidates, params, annotations)
    except pl.exceptions.PolarsError as error:
        why = str(error).splitlines()[0]
        raise ThawError(f"the tables in {annotations.folder} cannot be read ({why}): delete that folder") from None
    folder = _cache(params) / folder_of(params.images_url)
    with_shows = isinstance(params.negatives, list)  # only there does it say more than the label
    photographs = [_photograph(row, folder, with_shows) for row in described.iter_rows(named=True)]
    return Source("open_images", license="", citation=CITATION, classes=_labels(params)), photographs


def choose(labels: pl.DataFrame, params: OpenImages, ids: dict[str, str]) -> pl.DataFrame:
    """Give each image that verified labels allow its `label`, or the reason why it is `left_out`.

    `labels`: `subset`, `ImageID`, `LabelName`, `present`; `ids`: those of the classes by name. Returns `subset`,
    `ImageID`, `label`, `left_out` (empty for most) and `shows` (the names of the classes that it was verified to
    show, joined by ` + `). Of an image with contradicting labels for its class nobody knows what it shows.
    """
    names, target = _named(params), params.classes[0]
    seen = labels.group_by("subset", "ImageID").agg(
        ((pl.col("LabelName") == ids[name]) & (pl.col("present") == present)).any().alias(f"{present} {name}")
        for name in names
        for present in (True, False)
    )
    shows = {name: pl.col(f"True {name}") for name in names}
    denied = {name: pl.col(f"False {name}") for name in names}
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
    names_shown = [pl.when(shows[name]).then(pl.lit(name)) for name in names]
    return seen.select(
        "subset",
        "ImageID",
        label=label,
        left_out=left_out.otherwise(pl.lit("")),
        shows=pl.concat_str(names_shown, separator=" + ", ignore_nulls=True),
    ).filter(pl.col("label").is_not_null())


def collecting(params: OpenImages, fetcher: Fetcher) -> dict[str, object]:
    """Return how `collect` comes by the photographs: its options `most`, `least`, `read` and `workers`."""
    return {
        "most": params.max_per_class,
        "least": len(SPLITS),  # one for each; how many more a split wants is its own to say
        "read": partial(_read, params.images_url.rstrip("/"), fetcher),
        "workers": params.workers,
    }


def _read(url: str, fetcher: Fetcher, photograph: Photograph) -> np.ndarray:
    """Return the pixels of a photograph, fetched to its path in the cache unless it is there and whole."""
    if photograph.path.exists():
        with contextlib.suppress(ThawError):
            pixels = images.decode(photograph.path)
            fetcher.arrived()
            return pixels
    pixels = []
    body = fetcher.get(f"{url}/{photograph.origin}", lambda body: pixels.append(images.decode(body)))
    with whole_file(photograph.path) as temporary:
        temporary.write_bytes(body)
    return pixels[-1]


@contextlib.contextmanager
def locked(params: OpenImages) -> Iterator[None]:
    """Keep the cache to one download at a time: a second one waits, and then finds there what the first fetched."""
    cache = _cache(params)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ThawError(f"download.open_images.cache_dir {params.cache_dir} cannot be made: {error.strerror}") from None
    with (cache / "lock").open("w") as lock:  # released by the system even when the process is killed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"download: waiting for another download into {params.cache_dir}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, as some of a network are
            pass
        yield


def _cache(params: OpenImages) -> Path:
    return below_home(params.cache_dir, "download.open_images.cache_dir")


def _named(params: OpenImages) -> list[str]:
    """The names of all classes whose labels count."""
    return params.classes + (params.negatives if isinstance(params.negatives, list) else [])


def _labels(params: OpenImages) -> tuple[str, ...]:
    return (f"not {params.classes[0]}", params.classes[0]) if params.negatives is not None else tuple(params.classes)


def _resolve(params: OpenImages, ids: dict[str, str]) -> dict[str, str]:
    for name in _named(params):
        if name not in ids:
            raise ThawError(f"Open Images has no boxable class {name!r}{nearest(name, ids)}")
    return ids


def _in_order(chosen: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Sort by a hash of image id and seed."""
    orders = [hashlib.sha256(f"{seed}/{image_id}".encode()).digest() for image_id in chosen["ImageID"]]
    return chosen.with_columns(order=pl.Series(orders, dtype=pl.Binary)).sort("order", "subset").drop("order")


def _check(candidates: pl.DataFrame, params: OpenImages) -> None:
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


def _describe(candidates: pl.DataFrame, params: OpenImages, annotations: Annotations) -> pl.DataFrame:
    """Join what the image tables say of each candidate, leaving out those of which they say nothing that serves."""
    described = []
    for subset in params.subsets:
        image_ids = candidates.filter(subset=subset)["ImageID"].implode()
        table = annotations.images(subset).filter(pl.col("ImageID").is_in(image_ids)).unique("ImageID", keep="first")
        described.append(table.with_columns(subset=pl.lit(subset)).collect(engine="streaming"))
    joined = candidates.join(pl.concat(described), on=["subset", "ImageID"], how="left", maintain_order="left")
    turn = joined["rotation"].replace({"": "0", "nan": "0"}).cast(pl.Float64, strict=False)
    unknown = pl.when(pl.col("rotation").is_null()).then(pl.lit("not in the table of images"))
    unknown = unknown.when(turn.is_null() | (turn % 90 != 0)).then(pl.lit("its rotation is no quarter turn"))
    left_out = pl.when(pl.col("left_out") == "").then(unknown.otherwise(pl.lit(""))).otherwise(pl.col("left_out"))
    return joined.with_columns(left_out=left_out, turn=(turn.fill_null(0) % 360).cast(pl.Int64)).with_columns(
        pl.col("landing_url", "license", "author_url", "author", "title").fill_null("")
    )


def _photograph(row: dict, folder: Path, with_shows: bool) -> Photograph:
    image_id, subset = row["ImageID"], row["subset"]
    if not SAFE_ID.fullmatch(image_id):
        raise ThawError(f"the labels of {subset} hold the image id {image_id!r}, which is not safe as a file name")
    return Photograph(
        image_id=image_id,
        path=folder / subset / f"{image_id}.jpg",
        origin=f"{subset}/{image_id}.jpg",
        label=row["label"],
        left_out=row["left_out"],
        turn=row["turn"],
        license=row["license"],
        author=row["author"],
        author_url=row["author_url"],
        title=row["title"],
        landing_url=row["landing_url"],
        meta={"subset": subset, **({"shows": row["shows"]} if with_shows else {})},
    )
