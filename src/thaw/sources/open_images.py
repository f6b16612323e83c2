"""Photographs of Open Images that people verified to show a class, or not to.

Kuznetsova et al., "The Open Images Dataset V4", IJCV 128 (2020); https://storage.googleapis.com/openimages/web.
"""

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from thaw.core import locks
from thaw.core.errors import ThawError
from thaw.core.files import atomic_file
from thaw.core.paths import named_path
from thaw.core.section import Section, Seed
from thaw.sources import class_names
from thaw.sources.base import DatasetInfo, Known, Listing, Source, SourceImage

if TYPE_CHECKING:
    from thaw.sources.fetching import Fetcher

CITATION = (
    "A. Kuznetsova, H. Rom, N. Alldrin, J. Uijlings, I. Krasin, J. Pont-Tuset, S. Kamali, S. Popov, M. Malloci, "
    "A. Kolesnikov, T. Duerig, V. Ferrari: The Open Images Dataset V4. IJCV 128 (2020), 1956-1981."
)
SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # those of Open Images have 16 hexadecimal digits

Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]


class OpenImages(Section):
    classes: Annotated[list[str], Field(min_length=1)]
    negatives: str | list[str] | None
    max_per_class: Annotated[int, Field(ge=3)] | None
    subsets: Annotated[list[Literal["train", "validation", "test"]], Field(min_length=1)]
    seed: Seed
    annotations_url: Url
    images_url: Url
    cache_dir: Annotated[str, Field(min_length=1)]
    workers: Annotated[int, Field(ge=1, le=256)]

    @field_validator("negatives", mode="before")
    @classmethod
    def _negatives_have_a_valid_form(cls, value: object) -> object:
        names = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
        if value is None or value == "verified" or names:
            return value
        raise ValueError(f"download.open_images.negatives should be verified, a list of classes or null, not {value!r}")

    @field_validator("classes", "negatives", mode="after")
    @classmethod
    def _names_are_composed(cls, value: object) -> object:
        return [class_names.composed(name) for name in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _classes_differ(self):
        section = "download.open_images"
        if len(self.classes) == 1 and self.negatives is None:
            raise ValueError(f"{section}.negatives must be verified or a list of classes where classes names only one")
        if len(self.classes) > 1 and self.negatives is not None:
            raise ValueError(f"{section}.negatives must be null where classes names two or more: they are told apart")
        for names in (self.all_classes, self.subsets):
            if repeated := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{section} names {repeated[0]!r} more than once")
        return self

    @property
    def all_classes(self) -> list[str]:
        """The classes of Open Images that are read: targets, and negatives if they are named."""
        return self.classes + (self.negatives if isinstance(self.negatives, list) else [])

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the images, in the order of the model's outputs."""
        return tuple(self.classes) if self.negatives is None else (f"not {self.classes[0]}", self.classes[0])


def find(params: OpenImages, fetcher: "Fetcher | None" = None) -> Listing:
    """List the candidates of each class, in the order of a hash of image id and seed.

    The order depends on the parameters only: a larger `max_per_class` takes the same images and more. Images that
    cannot be used, such as those that show two of the classes, are in the list with the reason.

    `fetcher` is by default one with `params.workers` connections. Raises ThawError if Open Images has no class of a
    given name, or no image verified to show a class or verified as a negative; UnreachableError without a network.
    """
    from thaw.core.tables import SPLITS
    from thaw.sources import annotations, open_images_selection
    from thaw.sources.fetching import Fetcher

    fetcher = fetcher or Fetcher(params.workers)
    cache = cache_folder(params)
    selected = open_images_selection.select(params, annotations.Annotations(params.annotations_url, cache, fetcher))
    folder = cache / annotations.folder_name(params.images_url)
    with_shows = isinstance(params.negatives, list)  # otherwise the column would repeat the label
    return Listing(
        DatasetInfo("open_images", license="", citation=CITATION, classes=params.labels),
        [source_image(row, folder, with_shows) for row in selected.iter_rows(named=True)],
        max_per_class=params.max_per_class,
        min_per_class=len(SPLITS),  # one for each split; the stage `split` checks whether it needs more
        read=partial(read, params.images_url.rstrip("/"), fetcher),
        workers=params.workers,
    )


def source_image(row: dict, folder: Path, with_shows: bool, known: tuple[Known, ...] = ()) -> SourceImage:
    """Return the image of a row of a selection; its file will be below `folder`. `known`: with several labels."""
    image_id, subset = row["ImageID"], row["subset"]
    if not SAFE_ID.fullmatch(image_id):
        raise ThawError(f"the labels of {subset} hold the image id {image_id!r}, which is not safe as a file name")
    return SourceImage(
        image_id=image_id,
        path=folder / subset / f"{image_id}.jpg",
        file=f"{subset}/{image_id}.jpg",
        label=row["label"],
        left_out=row["left_out"],
        rotation=row["rotation"],
        license=row["license"],
        author=row["author"],
        author_url=row["author_url"],
        title=row["title"],
        landing_url=row["landing_url"],
        meta={"subset": subset, **({"shows": row["shows"]} if with_shows else {})},
        known=known,
    )


def read(url: str, fetcher: "Fetcher", image: SourceImage) -> tuple[int, int]:
    """Return the height and width of an image; it is fetched unless the cache has it undamaged."""
    from thaw.images import decoding

    if image.path.exists():
        with contextlib.suppress(ThawError):
            size = decoding.check(image.path)
            fetcher.count_success()
            return size
    sizes = []
    body = fetcher.get(f"{url}/{image.file}", check=lambda body: sizes.append(decoding.check(body)))
    with atomic_file(image.path) as temporary:
        temporary.write_bytes(body)
    return sizes[-1]


@contextlib.contextmanager
def lock(params: OpenImages) -> Iterator[None]:
    """Allow one download into the cache at a time: a second one waits, and then reuses what the first fetched."""
    cache = cache_folder(params)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ThawError(f"download.open_images.cache_dir {params.cache_dir} cannot be made: {error.strerror}") from None
    (cache / "lock").touch()
    with locks.exclusive(cache / "lock", f"download: waiting for another download into {params.cache_dir}"):
        yield


def cache_folder(params: OpenImages) -> Path:
    """Return the folder of `params.cache_dir`."""
    return named_path(params.cache_dir, "download.open_images.cache_dir")


SOURCE = Source("open_images", OpenImages, find, lock=lock)
