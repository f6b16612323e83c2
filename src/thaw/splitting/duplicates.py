"""Groups of near-duplicate images, so that a split never separates the images of one group.

A perceptual hash finds candidate pairs (`candidates`), a quick comparison leaves few of them (`first_look`), and a
closer one decides (`second_look`). A chain of such pairs is a group only if its ends are near-duplicates too.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import NamedTuple, TypeVar

import numpy as np

from thaw.core import arrays, prefetch, progress
from thaw.core.machine import usable_cores
from thaw.splitting import candidates, first_look, second_look

BLOCK_DIGESTS = 4096  # thumbnails that are in memory at a time
BLOCK_PAIRS = 256  # of the first look: about 5 MB of working arrays
# Pairs of images of two groups that must be near-duplicates before the groups become one: those whose hashes differ
# most, of up to as many images of each group as the second number says.
END_PAIRS = 3
MAX_MEMBERS = 64

Item, Result = TypeVar("Item"), TypeVar("Result")


class Pair(NamedTuple):
    """Two images that may be near-duplicates."""

    a: int
    b: int
    placing: np.ndarray  # where the second look starts: see `second_look.match`


def group_near_duplicates(image_ids: Sequence[str], thumbnails: np.ndarray, *, mirrored: bool = False) -> list[str]:
    """Return the group of each image: the smallest image_id among the images of the group.

    Identical thumbnails count as one, so exact copies need no comparison. Beside the thumbnails, this needs about
    1.5 KB of memory an image.

    Args:
        image_ids: n unique names. Their order does not change the groups.
        thumbnails: (n,) of THUMBNAIL, as `thumbnails.read` returns them.
        mirrored: whether an image that is mirrored left to right is a near-duplicate too.
    """
    order = sorted(range(len(image_ids)), key=image_ids.__getitem__)
    numbers: dict[bytes, int] = {}
    distinct = np.array([numbers.setdefault(d, len(numbers)) for d in _digests(thumbnails, order)], dtype=int)
    first = np.array(order, dtype=int)[np.unique(distinct, return_index=True)[1]]

    parts = candidates.windows(mirrored)
    hashed = candidates.hashes(thumbnails, first, parts)
    groups = _Groups(thumbnails, first, hashed[0])
    with progress.bar("near-duplicates compared", unit="pair") as bar:

        def undecided() -> Iterator[np.ndarray]:
            pairs = candidates.find if len(first) <= candidates.MAX_ALL_PAIRS else candidates.nearest
            for block in _in_blocks(pairs(parts, hashed)):
                block = block[:, groups.number[block[0]] != groups.number[block[1]]]
                bar.update(block.shape[1])
                arrays.release(thumbnails)
                yield block

        look = partial(_first_look, thumbnails["luma"], first, parts)
        groups.unite(pair for pairs in _in_threads(look, undecided()) for pair in pairs)

    result = [""] * len(image_ids)
    smallest = {number: min(members) for number, members in groups.members.items()}
    for i, row in zip(order, distinct, strict=True):
        number = int(groups.number[row])
        result[i] = image_ids[first[smallest.get(number, number)]]
    return result


def _digests(thumbnails: np.ndarray, order: Sequence[int]) -> Iterator[bytes]:
    """Yield the digest of each thumbnail, in this order."""
    for start in range(0, len(order), BLOCK_DIGESTS):
        for i in order[start : start + BLOCK_DIGESTS]:
            yield blake2b(thumbnails[i].tobytes(), digest_size=16).digest()
        arrays.release(thumbnails)


def oversized_groups(groups: Sequence[str], max_fraction: float = 0.05) -> list[tuple[str, int]]:
    """Return (group, number of images) of each group that holds more than `max_fraction` of all images.

    The largest comes first. A group of one image is never listed.
    """
    limit = max(1, max_fraction * len(groups))
    large = [(group, size) for group, size in Counter(groups).items() if size > limit]
    return sorted(large, key=lambda item: (-item[1], item[0]))


def connected(image_ids: Sequence[str], *groupings: Sequence[str | None]) -> list[str]:
    """Return the group of each image: the smallest id of all images that share a group with it, directly or not.

    Args:
        image_ids: n unique names.
        groupings: of each way to group the images, the n groups; None or empty: the image is in no group.
    """
    parent = {image_id: image_id for image_id in image_ids}

    def root(image_id: str) -> str:
        while parent[image_id] != image_id:
            parent[image_id] = image_id = parent[parent[image_id]]
        return image_id

    for grouping in groupings:
        first: dict[str, str] = {}
        for image_id, group in zip(image_ids, grouping, strict=True):
            if group:
                low, high = sorted((root(first.setdefault(group, image_id)), root(image_id)))
                parent[high] = low
    return [root(image_id) for image_id in image_ids]


class _Groups:
    """The groups so far. Each image of a group has a placing: how the first image of the group lies on it."""

    def __init__(self, thumbnails: np.ndarray, rows: np.ndarray, hashes: candidates.Hashes):
        self._thumbnails, self._rows, self._hashes = thumbnails, rows, hashes
        self.number = np.arange(len(rows))
        self.members: dict[int, list[int]] = {}  # of each group of two or more
        self._placings: dict[int, np.ndarray] = {}  # (3, 3), from the pixels of the first image of the group
        self._refused: set[tuple[int, int, int, int]] = set()

    def unite(self, pairs: Iterable[Pair]) -> None:
        """Make one group of those of each pair of near-duplicates, if the ends of the groups are near-duplicates too.

        The pairs are taken in their order. Threads compare those whose groups no pair that waits can change, so that
        no comparison is in vain; the others are compared when their turn comes.
        """
        waiting: Counter[int] = Counter()  # pairs of each group

        def submitted() -> Iterator[tuple[Pair, set[int], bool]]:
            for pair in pairs:
                if self._is_decided(pair):
                    continue
                numbers = {int(self.number[pair.a]), int(self.number[pair.b])}
                is_independent = not any(waiting[number] for number in numbers)
                waiting.update(numbers)
                yield pair, numbers, is_independent

        def compare(item: tuple[Pair, set[int], bool]) -> tuple[Pair, set[int], bool, np.ndarray | None]:
            pair, _, is_independent = item
            return *item, self._match(*pair) if is_independent else None

        for pair, numbers, is_independent, found in _in_threads(compare, submitted()):
            if not self._is_decided(pair):
                self._unite_if_same(pair, found if is_independent else self._match(*pair))
            waiting.subtract(numbers)

    def _is_decided(self, pair: Pair) -> bool:
        key = self._key(pair)
        return key[0] == key[2] or key in self._refused

    def _key(self, pair: Pair) -> tuple[int, int, int, int]:
        """Return the number and the size of both groups: they are not compared again until one has grown."""
        return tuple(value for i in pair[:2] for value in (int(self.number[i]), len(self._members(i))))

    def _members(self, image: int) -> list[int]:
        return self.members.get(int(self.number[image]), [image])

    def _unite_if_same(self, pair: Pair, found: np.ndarray | None) -> None:
        if found is None:
            return
        a, b, _ = pair
        ours, theirs = self._members(a), self._members(b)
        # From the pixels of the first image of b's group to those of the first image of a's group.
        between = np.linalg.inv(self._placing(a)) @ np.vstack([found, [0, 0, 1]]) @ self._placing(b)
        if not all(self._is_end_same(*ends, between) for ends in self._ends(ours, theirs) if ends != (a, b)):
            self._refused.add(self._key(pair))
            return
        for member in theirs:
            self._placings[member] = self._placing(member) @ np.linalg.inv(between)
        number = int(self.number[a])
        self.members.pop(int(self.number[b]), None)
        self.number[theirs] = number
        self.members[number] = ours + theirs

    def _ends(self, ours: list[int], theirs: list[int]) -> list[tuple[int, int]]:
        ours, theirs = ours[:MAX_MEMBERS], theirs[:MAX_MEMBERS]
        rows, others = np.repeat(ours, len(theirs)), np.tile(theirs, len(ours))
        differences = self._hashes.differences(rows, self._hashes, others).astype(int)
        farthest = np.argsort(-differences, kind="stable")[:END_PAIRS]
        return [(int(rows[i]), int(others[i])) for i in farthest]

    def _is_end_same(self, a: int, b: int, between: np.ndarray) -> bool:
        placing = self._placing(a) @ between @ np.linalg.inv(self._placing(b))
        return self._match(a, b, placing[:2].astype(np.float32)) is not None

    def _match(self, a: int, b: int, placing: np.ndarray) -> np.ndarray | None:
        return second_look.match(self._thumbnails[self._rows[a]], self._thumbnails[self._rows[b]], placing)

    def _placing(self, image: int) -> np.ndarray:
        return self._placings.get(image, np.eye(3))


def _first_look(luma: np.ndarray, rows: np.ndarray, parts: list[candidates.Window], block: np.ndarray) -> list[Pair]:
    """Return those candidates (3, m) of a block that deserve a second look, the most similar first."""
    whole = candidates.small_images(luma[rows[block[0]]], parts[0])
    others = np.empty_like(whole)
    for number in np.unique(block[2]):
        chosen = block[2] == number
        others[chosen] = candidates.small_images(luma[rows[block[1][chosen]]], parts[number])
    unexplained, steps = first_look.register(whole, others)
    near = unexplained <= first_look.MAX_AFTER_ONE_STEP
    block, whole, steps = block[:, near], whole[near], steps[near]
    placings = np.array([part.placing() for part in parts])[block[2]] @ steps
    for i, (image, placing) in enumerate(zip(rows[block[1]], placings, strict=True)):
        others[i] = first_look.small_image(luma[image], placing)
    unexplained = first_look.unexplained_difference(whole, others[: len(whole)])
    order = np.argsort(unexplained, kind="stable")
    alike = order[unexplained[order] <= first_look.MAX_AFTER_TWO_STEPS]
    return [Pair(int(block[1, i]), int(block[0, i]), placings[i]) for i in alike]


def _in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result of `function` for each item, in the order of the items, a few items ahead."""
    threads = usable_cores()
    return prefetch.map_in_order(function, items, threads, ahead=threads)


def _in_blocks(found: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same candidates, (3, BLOCK_PAIRS) at a time."""
    waiting = np.empty((3, 0), int)
    for more in found:
        waiting = np.hstack([waiting, more])
        while waiting.shape[1] >= BLOCK_PAIRS:
            yield waiting[:, :BLOCK_PAIRS]
            waiting = waiting[:, BLOCK_PAIRS:]
    yield waiting
