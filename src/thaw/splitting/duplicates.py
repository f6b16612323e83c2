"""Groups of near-duplicate images, so that a split never separates the images of one group.

A perceptual hash finds candidate pairs (`candidates`), a quick comparison leaves few of them (`first_look`), and a
closer one decides (`second_look`). A chain of such pairs is a group only if its ends are near-duplicates too.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np

from thaw.core import arrays, progress
from thaw.splitting import candidates, first_look, second_look

BLOCK_DIGESTS = 4096  # thumbnails that are in memory at a time
BLOCK_PAIRS = 256  # of the first look: about 5 MB of working arrays
# Pairs of images of two groups that must be near-duplicates before the groups become one: those whose hashes differ
# most, of up to as many images of each group as the second number says.
END_PAIRS = 3
MAX_MEMBERS = 64


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
        pairs = candidates.find if len(first) <= candidates.MAX_ALL_PAIRS else candidates.nearest
        for block in _in_blocks(pairs(parts, hashed)):
            block = block[:, groups.number[block[0]] != groups.number[block[1]]]
            for row, other, placing in _first_look(thumbnails["luma"], first, parts, block):
                groups.unite_if_same(other, row, placing)
            bar.update(block.shape[1])
            arrays.release(thumbnails)

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

    def unite_if_same(self, a: int, b: int, placing: np.ndarray) -> None:
        """Make one group of those of images `a` and `b`, if the two are near-duplicates, and the ends of the groups.

        `placing` is that of `second_look.match`, with which the comparison of the two starts.
        """
        ours, theirs = (self.members.get(self.number[i], [i]) for i in (a, b))
        key = (int(self.number[a]), len(ours), int(self.number[b]), len(theirs))
        if key[0] == key[2] or key in self._refused:
            return
        found = self._match(a, b, placing)
        if found is None:
            return
        # From the pixels of the first image of b's group to those of the first image of a's group.
        between = np.linalg.inv(self._placing(a)) @ np.vstack([found, [0, 0, 1]]) @ self._placing(b)
        if not all(self._is_end_same(*pair, between) for pair in self._ends(ours, theirs) if pair != (a, b)):
            self._refused.add(key)
            return
        for member in theirs:
            self._placings[member] = self._placing(member) @ np.linalg.inv(between)
        self.number[theirs] = key[0]
        self.members.pop(key[2], None)
        self.members[key[0]] = ours + theirs

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


def _first_look(
    luma: np.ndarray, rows: np.ndarray, parts: list[candidates.Window], block: np.ndarray
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield those candidates (3, m) of a block that deserve a second look, the most similar first.

    Instead of the number of the part, each has the placing (2, 3) at which the second look starts.
    """
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
    for i in np.argsort(unexplained, kind="stable"):
        if unexplained[i] <= first_look.MAX_AFTER_TWO_STEPS:
            yield block[0, i], block[1, i], placings[i]


def _in_blocks(found: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same candidates, (3, BLOCK_PAIRS) at a time."""
    waiting = np.empty((3, 0), int)
    for more in found:
        waiting = np.hstack([waiting, more])
        while waiting.shape[1] >= BLOCK_PAIRS:
            yield waiting[:, :BLOCK_PAIRS]
            waiting = waiting[:, BLOCK_PAIRS:]
    yield waiting
