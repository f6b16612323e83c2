"""The pairs of images that may be near-duplicates, by a perceptual hash.

Each look-up compares a few bits of the hash only (locality-sensitive hashing, Indyk and Motwani 1998), so that a
million images do not need a million squared comparisons. The hash of each whole image is looked up among those of the
whole images, and of parts of them: what is left of an image where a side of it is cut off has another hash.

The constants were measured on 2,624 solar cells (elpv-dataset), 2,527 photographs of waste (trashnet), 125 of Open
Images and 116 of clothes (look_alikes), with the copies that `benchmarks/duplicates.py` makes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from thaw.core import arrays
from thaw.splitting.thumbnails import SIDE

# Part of a side that a window leaves out. Copies with up to 10 % cut off are near the whole image or one of these.
CUT = 0.1
SMALL_SIDE = 32  # pixels of the small grey images of `small_images`
# The hash: the signs of the 8 x 8 lowest coefficients of a cosine transform, without the constant one, are 63 bits.
DCT_SIDE = 8
# Look-ups, each with its own bits. 16 look-ups miss 2 % of the solar cells cut at the bottom, 32 miss 0.2 %.
LOOKUPS = 32
# Images that share the bits of a look-up, on average. So the number of bits grows with the logarithm of the data.
IMAGES_PER_BUCKET = 32
# A bit is certain if its coefficient is farther than this from the threshold (all coefficients together have length
# 1). JPEG moves a coefficient by as much.
MIN_MARGIN = 0.002
# Certain bits that may differ. 12 compares 1.4 times as many solar cells, 10 misses 1 % more of the cut ones.
MAX_DIFFERENT_BITS = 11
MIN_IMAGES_FOR_MEDIAN = 100
# Of more images, candidates are only the NEAREST of each image: chance alone gives each image of a million hundreds of
# others with nearly the same hash. `benchmarks/duplicates.py --nearest` measures what is missed.
MAX_ALL_PAIRS = 20_000
NEAREST = 16
MIN_KEPT = 1 << 23  # pairs in memory before those are dropped that are no longer among the nearest: 130 MB

BLOCK_ROWS = 256  # images processed at a time: about 5 MB of working arrays
BLOCK_COSINES = 1 << 14  # pairs whose cosines are computed at a time: about 8 MB
BLOCK_PAIRS = 1 << 18  # pairs whose hashes are compared at a time: about 10 MB


@dataclass(frozen=True)
class Window:
    """A part of an image, mirrored or not. Its point (v, u), from 0 to 1, is the image's (down + step_down v, …)."""

    down: float = 0.0
    step_down: float = 1.0
    across: float = 0.0
    step_across: float = 1.0  # negative: mirrored left to right

    @property
    def is_whole(self) -> bool:
        return self.step_down == abs(self.step_across) == 1

    def mirrored(self) -> "Window":
        return Window(self.down, self.step_down, 1 - self.across, -self.step_across)

    def placing(self) -> np.ndarray:
        """Return (2, 3) float32: from the pixels of this part, as an image of its own, to those of the image."""
        offsets = ((self.across, self.step_across), (self.down, self.step_down))
        x, y = (SIDE * start + (step - 1) / 2 for start, step in offsets)
        return np.array([[self.step_across, 0, x], [0, self.step_down, y]], np.float32)

    def resampling(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights, both (SMALL_SIDE, SIDE) float32, of the rows and of the columns of a small image."""
        return _area_weights(self.down, self.step_down), _area_weights(self.across, self.step_across)


def windows(mirrored: bool) -> list[Window]:
    """Return the parts that whole images are compared with: the whole one first; with `mirrored`, mirrored ones too."""
    rest = 1 - CUT
    parts = [
        Window(),
        Window(CUT, rest),
        Window(0, rest),
        Window(across=CUT, step_across=rest),
        Window(step_across=rest),
    ]
    return parts + [part.mirrored() for part in parts] if mirrored else parts


def small_images(luma: np.ndarray, window: Window) -> np.ndarray:
    """Return the part of each image (n, SIDE, SIDE) as (n, SMALL_SIDE, SMALL_SIDE) float32, means of areas."""
    down, across = window.resampling()
    return down @ luma.astype(np.float32) @ across.T


@dataclass(frozen=True)
class Hashes:
    """The hash of each image, and what it was made from."""

    bits: np.ndarray  # (n,) uint64
    certain: np.ndarray  # (n,) uint64, which of the bits are certain
    directions: np.ndarray | None = (
        None  # (n, 63) int8, for `nearest`: the coefficients less the thresholds, of length 127
    )

    def differences(self, rows: np.ndarray, other: "Hashes", other_rows: np.ndarray) -> np.ndarray:
        """Return the number of certain bits in which the pairs differ."""
        certain = self.certain[rows] & other.certain[other_rows]
        return np.bitwise_count((self.bits[rows] ^ other.bits[other_rows]) & certain)


def hashes(thumbnails: np.ndarray, rows: np.ndarray, parts: list[Window]) -> list[Hashes]:
    """Return the hashes of each of the parts of the images `rows`.

    The threshold of each bit is the median of the whole images. So each bit separates the images into halves, even
    where all images look alike; with the usual threshold 0 these share most bits. With few images the threshold is 0:
    the median of an image and its copy would lie between the two.
    """
    thresholds, result, many_images = np.zeros(DCT_SIDE**2 - 1, np.float32), [], len(rows) > MAX_ALL_PAIRS
    for part in parts:
        coefficients = _coefficients(thumbnails, rows, part)
        if not result and len(rows) > MIN_IMAGES_FOR_MEDIAN:
            thresholds = np.median(coefficients, axis=0)
        coefficients -= thresholds
        bits, certain = np.zeros((2, len(rows)), np.uint64)
        for bit, values in enumerate(coefficients.T):
            bits |= (values > 0).astype(np.uint64) << np.uint64(bit)
            certain |= (np.abs(values) > MIN_MARGIN).astype(np.uint64) << np.uint64(bit)
        result.append(Hashes(bits, certain, _directions(coefficients) if many_images else None))
    return result


def find(parts: list[Window], hashed: list[Hashes]) -> Iterator[np.ndarray]:
    """Yield candidates (3, m): rows of whole images, rows of others, and the number of the part of these.

    A pair shares all bits of a look-up and differs in few certain bits. Each is yielded once for each part; of two
    whole images, the smaller row is the first.
    """
    whole = hashed[0]
    count = len(whole.bits)
    bits_per_lookup = round(np.log2(max(1, count / IMAGES_PER_BUCKET)))
    masks = np.zeros(LOOKUPS, np.uint64)
    for bits in np.random.default_rng(0).random((LOOKUPS, DCT_SIDE**2 - 1)).argsort(axis=1)[:, :bits_per_lookup].T:
        masks |= np.uint64(1) << bits.astype(np.uint64)
    for lookup, mask in enumerate(masks):
        # In the order of their buckets, the images of a bucket lie together in memory.
        order = np.argsort(whole.bits & mask, kind="stable")
        bits, certain = whole.bits[order], whole.certain[order]
        buckets, starts_of, sizes_of = np.unique(bits & mask, return_index=True, return_counts=True)
        for number, (part, other) in enumerate(zip(parts, hashed, strict=True)):
            wanted = other.bits & mask
            bucket = np.searchsorted(buckets, wanted).clip(max=len(buckets) - 1)
            starts, all_sizes = starts_of[bucket], np.where(buckets[bucket] == wanted, sizes_of[bucket], 0)
            for first, last in _blocks(all_sizes):
                sizes = all_sizes[first:last]
                ends = np.cumsum(sizes)
                at = np.repeat(starts[first:last] - ends + sizes, sizes) + np.arange(sizes.sum())
                different = bits[at] ^ np.repeat(other.bits[first:last], sizes)
                both_certain = certain[at] & np.repeat(other.certain[first:last], sizes)
                near = np.flatnonzero(np.bitwise_count(different & both_certain) <= MAX_DIFFERENT_BITS)
                rows, others = order[at[near]], first + np.searchsorted(ends, near, "right")
                new = rows < others if part.is_whole else rows != others
                # no earlier look-up has found this pair
                new &= ((different[near, None] & masks[:lookup]) != 0).all(axis=1)
                yield np.stack([rows[new], others[new], np.full(new.sum(), number)])


def nearest(parts: list[Window], hashed: list[Hashes]) -> Iterator[np.ndarray]:
    """Yield those pairs of `find` that are among the NEAREST of either image, by the cosine of their `directions`."""
    best = np.full((len(hashed[0].bits), NEAREST), -2, np.float32)  # cosines, rising
    kept: list[np.ndarray] = []  # pairs that are among the nearest so far: int32, and the bits of the cosine as a row
    count, limit = 0, MIN_KEPT
    for found in find(parts, hashed):
        cosines = _cosines(hashed, found)
        _keep_best(best, found[:2].ravel(), np.tile(cosines, 2))
        kept.append(_among_nearest(np.vstack([found.astype(np.int32), cosines.view(np.int32)]), best))
        count += kept[-1].shape[1]
        if count > limit:
            kept = [_among_nearest(pairs, best) for pairs in kept]
            count = sum(pairs.shape[1] for pairs in kept)
            limit = max(MIN_KEPT, 2 * count)
    for pairs in kept:
        yield _among_nearest(pairs, best)[:3].astype(np.intp)


def _among_nearest(pairs: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return those of the `kept` pairs (4, m) of `nearest` whose cosine is one of the best of either image."""
    lowest = best[:, 0]
    return pairs[:, pairs[3].view(np.float32) >= np.minimum(lowest[pairs[0]], lowest[pairs[1]])]


def _keep_best(best: np.ndarray, images: np.ndarray, cosines: np.ndarray) -> None:
    """Put the cosines (m,) of images (m,) into the rows of `best` (n, NEAREST), which keep their highest ones."""
    better = cosines > best[images, 0]
    images, cosines = images[better], cosines[better]
    order = np.lexsort((-cosines, images))
    images, cosines = images[order], cosines[order]
    changed, first, row = np.unique(images, return_index=True, return_inverse=True)
    rank = np.arange(len(images)) - first[row]
    new = np.full((len(changed), NEAREST), -2, np.float32)
    new[row[rank < NEAREST], rank[rank < NEAREST]] = cosines[rank < NEAREST]
    best[changed] = np.sort(np.hstack([best[changed], new]), axis=1)[:, NEAREST:]


def _cosines(hashed: list[Hashes], found: np.ndarray) -> np.ndarray:
    """Return the cosine (m,) float32 of each pair of `find` (3, m)."""
    cosines = np.empty(found.shape[1], np.float32)
    for number in range(len(hashed)):
        chosen = np.flatnonzero(found[2] == number)
        for start in range(0, len(chosen), BLOCK_COSINES):
            block = chosen[start : start + BLOCK_COSINES]
            rows, others = hashed[0].directions[found[0, block]], hashed[number].directions[found[1, block]]
            cosines[block] = np.einsum("ij,ij->i", rows.astype(np.float32), others.astype(np.float32)) / 127**2
    return cosines


def _directions(values: np.ndarray) -> np.ndarray:
    """Return rows (n, 63) as int8 of length 127: a quarter of the memory of float32."""
    directions = np.empty(values.shape, np.int8)
    for start in range(0, len(values), BLOCK_COSINES):
        block = values[start : start + BLOCK_COSINES]
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))[:, None]
        directions[start : start + BLOCK_COSINES] = np.rint(127 * block / np.maximum(lengths, 1e-9))
    return directions


def _blocks(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first and the end of successive ranges that hold BLOCK_PAIRS pairs, or a single image, at most."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + BLOCK_PAIRS, "right")))
        yield first, last
        first = last


def _coefficients(thumbnails: np.ndarray, rows: np.ndarray, part: Window) -> np.ndarray:
    """Return (n, DCT_SIDE² - 1) float32: the lowest coefficients of each image's cosine transform, of length 1."""
    cosines = np.cos(np.pi * np.outer(np.arange(DCT_SIDE), np.arange(SMALL_SIDE) + 0.5) / SMALL_SIDE)
    down, across = (cosines.astype(np.float32) @ weights for weights in part.resampling())
    coefficients = np.empty((len(rows), DCT_SIDE**2 - 1), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        luma = thumbnails["luma"][rows[start : start + BLOCK_ROWS]].astype(np.float32)
        block = (down @ luma @ across.T).reshape(len(luma), -1)[:, 1:]
        coefficients[start : start + BLOCK_ROWS] = block / np.sqrt((block**2).sum(axis=1, keepdims=True) + 1)
        arrays.release(thumbnails)
    return coefficients


def _area_weights(start: float, step: float) -> np.ndarray:
    """Return (SMALL_SIDE, SIDE) float32: the fraction of each cell of a resampled line that each pixel fills."""
    edges = SIDE * (start + step * np.arange(SMALL_SIDE + 1) / SMALL_SIDE)
    low, high = np.minimum(edges[:-1], edges[1:])[:, None], np.maximum(edges[:-1], edges[1:])[:, None]
    pixels = np.arange(SIDE)
    filled = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None)
    return (filled / (high - low)).astype(np.float32)
