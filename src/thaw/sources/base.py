"""What a source is: `Source`, and what it returns: `Listing`.

A new source is a module beside this one, with a section of params.yaml, a function that lists its images, and a
`Source` that binds them; it is registered in `registry`. Every stage reads the sections of all sources, so a source
imports heavy packages (NumPy, polars, Pillow, requests) only inside its functions.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from thaw.core.errors import ThawError
from thaw.core.section import Section
from thaw.core.task import SINGLE


class UnreachableError(ThawError):
    """The network, the server, the disk or the share fails as a whole: nothing more can be read."""


class ChangedError(ThawError):
    """A file of one's own changed, or was removed, while the photographs were read."""


class FailingError(ThawError):
    """The server failed at this file in every attempt: this says nothing about the file."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is true of all images of a source; written to `source.json`."""

    name: str
    license: str
    citation: str
    classes: tuple[str, ...]  # in the order of the model's outputs; of two, the second is the positive one
    strata: tuple[str, ...] = ()  # columns, in addition to the label, whose mix every split should keep


class Known(NamedTuple):
    """What is known of one class in an image with several labels."""

    label: str
    is_present: bool
    weight: float = 1.0


@dataclass(frozen=True)
class SourceImage:
    """One image of a source, which may not have been read yet."""

    image_id: str  # unique, and safe as a file name
    path: Path  # where the file is after `Listing.read`
    label: str  # with several labels, the classes that it shows, as `label_values.as_text` joins them
    weight: float = 1.0
    license: str = ""  # if it differs from that of the source
    author: str = ""
    author_url: str = ""
    title: str = ""
    landing_url: str = ""
    rotation: int = 0  # degrees counter-clockwise that make the stored pixels upright: 0, 90, 180 or 270
    file: str = ""  # its name within the source, for missing.csv; an absolute path of this machine must not be there
    left_out: str = ""  # why it cannot be used, if this is known before it is read
    meta: Mapping[str, str] = field(default_factory=dict)  # further columns, without the prefix `meta_`
    known: tuple[Known, ...] = ()  # with several labels; each class at most once
    labelled_sha256: str = ""  # of the file of one's own that was labelled, if this is known: another is left out


@dataclass(frozen=True)
class Listing:
    """The images that a source offers, and how they are collected.

    Attributes:
        info: what is true of all images.
        images: in the order of preference within a class.
        max_per_class: the number of images to take of each class; None takes all. With several labels, the number of
            those that show the class, and of those that do not.
        min_per_class: with fewer images of a class, collecting them is an error.
        read: brings an image to its path, checks it, and returns its height and width. It raises ThawError if the
            image is to be left out, with the reason; FailingError or UnreachableError if the image may still arrive
            later. It is called in several threads. None: the files are there already.
        workers: the number of these threads; None is one per core.
        bits: of the values of images of more than 8 bits that do not say it; see `images.pixel_values`.
        seen: without `read`: each file that is not left out was there when it was listed. One that is gone has been
            removed since, which is an error.
        notes: what else a person should know, each a few words; printed at the end of the line of the stage.
        warnings: likewise, what a person should look at: it may not be as it was meant.
    """

    info: DatasetInfo
    images: list[SourceImage]
    max_per_class: int | None = None
    min_per_class: int = 1
    read: Callable[[SourceImage], tuple[int, int]] | None = None
    workers: int | None = None
    bits: int | None = None
    seen: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def known_columns(images: Iterable[SourceImage]) -> dict[str, list[str]]:
    """Return the columns of images.csv that are known before the images are read, of those that are used."""
    used = [image for image in images if not image.left_out]
    keys = sorted({key for image in used for key in image.meta})
    meta = {f"meta_{key}": [image.meta.get(key, "") for image in used] for key in keys}
    return {"image_id": [image.image_id for image in used], "label": [image.label for image in used]} | meta


@dataclass(frozen=True)
class Source:
    """A kind of source that `download.source` can choose.

    Attributes:
        name: its name in `download.source`, and that of its section below `download`.
        section: the model of that section.
        find: lists the images; it takes the section and raises ThawError if there are fewer than two classes.
        find_several: the same for images with several labels; None: the source has one label for each image.
        required: keys of the section that may be null unless the source is chosen, each with what it must name.
        lock: takes the section and returns a context, inside which the images are listed and collected.
        is_own: whether the images are files of a person's, which may change at any time.
        is_here: takes the section, of which what it names is there; returns whether any image is; None: they are.
    """

    name: str
    section: type[Section]
    find: Callable[[Any], Listing]
    find_several: Callable[[Any], Listing] | None = None
    required: Mapping[str, str] = field(default_factory=dict)
    lock: Callable[[Any], AbstractContextManager] = nullcontext
    is_own: bool = False
    is_here: Callable[[Any], bool] | None = None

    def list_images(self, section: Section, task: str) -> Listing:
        """Return the listing of the images: with one label each, or with several, as `task` says."""
        return self.find(section) if task == SINGLE else self.find_several(section)


def is_one_line(name: str) -> bool:
    """Return whether the name of a class has no line break, which would make two labels of it in an exported file."""
    return not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name)
