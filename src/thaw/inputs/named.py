"""The files and folders of a person's that params.yaml names, wherever they are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from thaw.core.paths import named_path
from thaw.core.section import Section
from thaw.core.weight_files import main_file
from thaw.sources import added
from thaw.sources.base import SourceImage
from thaw.sources.registry import SOURCES


@dataclass(frozen=True)
class Named:
    """A file or folder that a parameter names."""

    parameter: str
    path: Path  # absolute
    what: str  # it is, or holds


def weights(name: str | None) -> Named | None:
    """Return the file that `backbone.weights` names, or None. In a folder, it is the one with the weights.

    The names of published weights have neither a dot nor a slash.
    """
    if name is None or not {".", "/"} & {*name}:
        return None
    return Named("backbone.weights", main_file(named_path(name, "backbone.weights")), "the weights")


def model(extend: bool | str | None) -> Named | None:
    """Return the file that `head.extend` names, or None."""
    return Named("head.extend", named_path(extend, "head.extend"), "the model") if isinstance(extend, str) else None


def photographs(download: Section) -> Named | None:
    """Return the folder or table of the photographs, or None if the source has neither."""
    path = getattr(getattr(download, download.source), "path", None)
    name = f"download.{download.source}.path"
    return Named(name, named_path(path, name), "photographs") if path else None


def labelled(download: Section) -> list[Named]:
    """Return the tables that `download.added` and `download.corrections` name."""
    tables = ((added.ADDED, added.added_path(download)), (added.CORRECTIONS, added.corrections_path(download)))
    return [Named(parameter, path, "your labels") for parameter, path in tables if path]


def images(source: str, images: Iterable[SourceImage]) -> Iterator[Named]:
    """Yield the photographs that are used."""
    for image in images:
        if not image.left_out:
            yield Named(f"download.{source}", image.path, "photographs")


def cache(download: Section) -> Named | None:
    """Return the folder in which the source keeps what it has downloaded, or None if it has none."""
    path = getattr(getattr(download, download.source), "cache_dir", None)
    name = f"download.{download.source}.cache_dir"
    return Named(name, named_path(path, name), "what was downloaded") if path else None


def changeable(download: Section, backbone_weights: str | None, extend: bool | str | None) -> Iterator[str]:
    """Yield the names of what may change without DVC: photographs of one's own, weights, a model."""
    if SOURCES[download.source].is_own or labelled(download):
        yield "photographs"
    if weights(backbone_weights):
        yield "weights"
    if model(extend):
        yield "model"
