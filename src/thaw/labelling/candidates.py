"""Photographs that may be labelled next: read, with their frozen features, and without those that are known already."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thaw.core import arrays
from thaw.core.encodings import printable
from thaw.core.errors import ThawError
from thaw.core.progress import bar
from thaw.core.store import Photograph
from thaw.engines import inference
from thaw.images import decoding, views
from thaw.labelling.feature_cache import Entry, FeatureCache
from thaw.labelling.known import Known
from thaw.labelling.state import State
from thaw.prediction import stream
from thaw.prediction.stream import LoadedImage
from thaw.splitting import duplicates, thumbnails

BLOCK_IMAGES = 256  # whose features are computed before they are kept: what is lost if a person interrupts


@dataclass(frozen=True)
class Network:
    """The frozen network, and how its input is made."""

    run: inference.Run  # batches of views to features, or maps of them, float16
    size: int
    resize: str
    bits: int | None = None


@dataclass
class Photographs:
    """Photographs that could be read, in the order of their names, and those that could not."""

    paths: list[Photograph] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)  # SHA-256 of the files
    unread: dict[str, str] = field(default_factory=dict)  # path → why
    computed: int = 0  # those whose features were not in the cache

    def take(self, positions: Iterable[int]) -> "Photographs":
        """Return the photographs at these positions alone."""
        positions = list(positions)
        return Photographs([self.paths[i] for i in positions], [self.hashes[i] for i in positions], self.unread)


class _Read(NamedTuple):
    """What is read of a file."""

    sha256: str
    view: np.ndarray | None = None  # (size, size, 3) uint8; None: its features are in the cache
    thumbnail: np.ndarray | None = None


def read(items: Iterable[LoadedImage | Photograph], network: Network, cache: FeatureCache) -> Photographs:
    """Read photographs, and compute the features of those that the cache does not have.

    Args:
        items: as `stream.expand` yields them. One that comes twice is taken once.
        network: computes the features.
        cache: has the features and thumbnails of all photographs afterwards.
    """
    photographs = Photographs()
    waiting: list[_Read] = []

    def load(path: Photograph) -> _Read:
        if printable(str(path)) != str(path):  # no table could name it
            raise ThawError("its name is not UTF-8: rename it")
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 in cache.hashes:
            return _Read(sha256)
        try:
            view = views.network_input(content, network.size, network.resize, network.bits)
            pixels = decoding.decode(content, thumbnails.MIN_DECODED_SIDE, network.bits)
        except ThawError as error:
            raise ThawError(str(error).removeprefix("image: ")) from None
        return _Read(sha256, view, thumbnails.thumbnail(pixels))

    def new_views() -> Iterator[np.ndarray]:
        with bar("photographs") as progress:
            for image in stream.load_with(_once(items), load):
                progress.update()
                if image.error is not None:
                    photographs.unread[image.path] = image.error
                    continue
                photographs.paths.append(image.source)
                photographs.hashes.append(image.view.sha256)
                if image.view.view is not None:
                    waiting.append(image.view)
                    yield image.view.view[None]

    new: dict[str, Entry] = {}
    for batch in map(arrays.pooled, network.run(inference.rebatch(new_views()))):
        for features in batch:
            image = waiting.pop(0)
            new[image.sha256] = Entry(features, image.thumbnail)
        if len(new) >= BLOCK_IMAGES:
            photographs.computed += len(new)
            cache.add(new)
            new = {}
    photographs.computed += len(new)
    cache.add(new)
    return photographs


def _once(items: Iterable[LoadedImage | Photograph]) -> Iterator[LoadedImage | Photograph]:
    seen: set[LoadedImage | Photograph] = set()
    for item in items:
        if item not in seen:
            seen.add(item)
            yield item


def add_known(known: Known, cache: FeatureCache) -> int:
    """Put the labelled photographs of a run, whose features are known, into the cache.

    Returns how many are not on this machine: without their files, nothing is known of their near-duplicates.
    """
    new = [i for i, sha256 in enumerate(known.hashes) if sha256 not in cache.hashes and known.paths[i].exists()]
    for start in range(0, len(new), thumbnails.BLOCK_IMAGES):
        block = new[start : start + thumbnails.BLOCK_IMAGES]
        small = thumbnails.read([known.paths[i] for i in block], Path(tempfile.gettempdir()))
        features = (known.features[i].astype(np.float16) for i in block)
        cache.add({known.hashes[i]: Entry(*entry) for i, *entry in zip(block, features, small, strict=True)})
    return sum(sha256 not in cache.hashes for sha256 in known.hashes)


class Distinct(NamedTuple):
    """Which photographs are left when near-duplicates are left out."""

    kept: list[int]  # positions: the first of each group, none of which is labelled
    like_labelled: int  # near-duplicates of labelled photographs
    like_others: int  # near-duplicates of photographs that are kept


def distinct(labelled: np.ndarray, small: np.ndarray, mirrored: bool) -> Distinct:
    """Return one photograph of each group of near-duplicates without a labelled one.

    Args:
        labelled: (m,) of THUMBNAIL, of the labelled photographs.
        small: (n,) of THUMBNAIL, of those that may be labelled.
        mirrored: as in `duplicates.group_near_duplicates`.
    """
    # The group is named after the smallest name in it: that of a labelled photograph, if there is one.
    names = [f"0/{i:09}" for i in range(len(labelled))] + [f"1/{i:09}" for i in range(len(small))]
    groups = duplicates.group_near_duplicates(names, np.concatenate([labelled, small]), mirrored=mirrored)
    own = list(zip(names, groups, strict=True))[len(labelled) :]
    kept = [i for i, (name, group) in enumerate(own) if name == group]
    like_labelled = sum(group.startswith("0/") for _, group in own)
    return Distinct(kept, like_labelled, len(own) - len(kept) - like_labelled)


@dataclass(frozen=True)
class Pool:
    """Photographs that may be labelled next.

    Attributes:
        photographs: n of them, no two of which are near-duplicates.
        features: (n, channels) float16.
        entries: of these and of all that is labelled.
        summary: what was left out, in words.
    """

    photographs: Photographs
    features: NDArray[np.floating]
    entries: Mapping[str, Entry]
    summary: str


def find(photographs: Photographs, state: State, cache: FeatureCache, mirrored: bool) -> Pool:
    """Leave out what is labelled, and near-duplicates.

    Args:
        photographs: as `read` returns them.
        state: what is labelled.
        cache: has all of them, and the labelled ones of the run.
        mirrored: whether an image that is mirrored left to right is a near-duplicate too.

    Raises:
        ThawError: no photograph is left.
    """
    labels, known = {sha256 for sha256, _ in state.labels}, state.known
    new = photographs.take(i for i, sha256 in enumerate(photographs.hashes) if sha256 not in labels)
    labelled = len(photographs.hashes) - len(new.hashes)
    if not photographs.hashes:
        raise ThawError("there is no photograph that can be read")
    if not new.hashes:
        raise ThawError(f"there is nothing to label: all {labelled:,} photographs are labelled already")
    entries = cache.get([*known.hashes, *state.waiting, *new.hashes])
    before = [
        entries[sha256].thumbnail for sha256 in dict.fromkeys([*known.hashes, *state.waiting]) if sha256 in entries
    ]
    small = [entries[sha256].thumbnail for sha256 in new.hashes]
    left = distinct(np.array(before, thumbnails.THUMBNAIL), np.array(small, thumbnails.THUMBNAIL), mirrored)
    if not left.kept:
        raise ThawError(
            f"there is nothing to label: {labelled:,} photographs are labelled already, and {left.like_labelled:,} are "
            "near-duplicates of labelled ones"
        )
    kept = new.take(left.kept)
    summary = (
        f"{len(photographs.hashes):,} photographs, {photographs.computed:,} of them new to the network; "
        f"{labelled:,} are labelled already, {left.like_labelled:,} are near-duplicates of labelled ones and "
        f"{left.like_others:,} of others: {len(kept.hashes):,} are left"
    )
    features = np.stack([entries[sha256].features for sha256 in kept.hashes])
    return Pool(kept, features, entries, summary)
