"""Groups of near-duplicate images, so that a split never separates the images of one group.

First, a perceptual hash of each image finds candidate pairs. Each look-up compares a few bits of the hash only
(locality-sensitive hashing, Indyk and Motwani 1998), so that a million images do not need a million squared
comparisons. Then the thumbnails of each candidate pair are registered and compared. The hash alone would not do: it
merges different images where all images look alike.

The constants below were measured on 2,624 solar cells (elpv-dataset) and 125 photographs (Open Images), with these
altered copies: JPEG at quality 30 to 90, half and one and a half times the size, 10 % brighter, darker, more or less
contrast, noise, blur, grey, 2 % cut off a side.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np

from thaw.splitting.thumbnails import SIDE

BLOCK_ROWS = 256  # images, or pairs of images, processed at a time: about 5 MB of working arrays

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

# The registration: the standard deviation of a Gaussian blur, in pixels. After it, a shift of 0.64 pixel (2 %) is
# nearly linear in the slopes. 1 and 1.6 fit the cut solar cells worse.
BLUR_SIGMA = 1.3
# Grey levels that weigh as much as a slope of as many per pixel. Between 2 and 8, a few pairs of cells differ.
NOISE_LEVEL = 3.0
# The largest unexplained difference of near-duplicates, as a fraction of the contrast. 99 % of the copies are below it,
# photographs of different things far above. The solar cells determine it: from 0.08 to 0.09, seven more cells that were
# photographed twice are found, and seven pairs of different cells merge; from 0.09 to 0.1 it is six and 16.
MAX_UNEXPLAINED = 0.09
# Added to both mean squares. It decides only where there is no contrast: rounding to whole grey levels gives 9e-4.
ROUNDING_VARIANCE = 1e-4


def group_near_duplicates(image_ids: Sequence[str], thumbnails: np.ndarray) -> list[str]:
    """Return the group of each image: the smallest image_id among all images that near-duplicates connect it to.

    `image_ids`: n unique names. Their order does not change the groups. `thumbnails`: (n, SIDE, SIDE) uint8, as
    `thumbnails.thumbnail` returns them. Identical thumbnails count as one, so exact copies need no comparison. Beside
    the thumbnails, this needs about 0.5 KB of memory an image.
    """
    order = sorted(range(len(image_ids)), key=image_ids.__getitem__)
    numbers: dict[bytes, int] = {}
    digests = (blake2b(thumbnails[i].tobytes(), digest_size=16).digest() for i in order)
    distinct = np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], dtype=int)
    first = np.array(order, dtype=int)[np.unique(distinct, return_index=True)[1]]

    parent = np.arange(len(first))  # a union-find forest: each root is the first image of its group
    for a, b in _in_blocks(_candidates(*_hashes(thumbnails, first))):
        separate = _roots(parent, a) != _roots(parent, b)
        a, b = a[separate], b[separate]
        same = unexplained_difference(thumbnails[first[a]], thumbnails[first[b]]) <= MAX_UNEXPLAINED
        for pair in zip(a[same], b[same], strict=True):
            low, high = sorted(_roots(parent, np.array(pair)))
            parent[high] = low

    groups = [""] * len(image_ids)
    for i, root in zip(order, _roots(parent, distinct), strict=True):
        groups[i] = image_ids[first[root]]
    return groups


def oversized_groups(groups: Sequence[str], max_fraction: float = 0.05) -> list[tuple[str, int]]:
    """Return (group, number of images) of each group that holds more than `max_fraction` of all images.

    The largest comes first. A group of one image is never listed.
    """
    limit = max(1, max_fraction * len(groups))
    large = [(group, size) for group, size in Counter(groups).items() if size > limit]
    return sorted(large, key=lambda item: (-item[1], item[0]))


def unexplained_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the part of each pair's difference that no shift, no stretch and no change of light explains.

    `first`, `second`: (n, SIDE, SIDE) uint8 thumbnails. Returns (n,) float32, as a fraction of the contrast: near 0 for
    copies, about 1 for unrelated images, and 1 for images without contrast.

    One step of image registration (Lucas and Kanade 1981) with a cubic tone curve. It is a least-squares fit of the
    difference on the powers of the brightness and on the slopes. The slopes also count multiplied by their position,
    because cutting off a side stretches the image. An error of a fraction of a pixel is largest where the slope is
    steep. So a pixel weighs 1 / sqrt(noise² + slope²): then the edges that all solar cells share do not hide the
    differences between cells.
    """
    first, second = first.astype(np.float32), second.astype(np.float32)
    mean = (first + second) / 2
    light, change = _filtered(_BLUR, mean, _BLUR), _filtered(_BLUR, second - first, _BLUR)
    dy, dx = _filtered(_SLOPE, mean, _BLUR), _filtered(_BLUR, mean, _SLOPE)
    light -= light.mean(axis=1, keepdims=True)
    unit = light / (light.std(axis=1, keepdims=True) + 1)
    terms = np.stack([unit**0, unit, unit**2, unit**3, dx, dx * _ACROSS, dy, dy * _DOWN], axis=1)
    weight = 1 / np.sqrt(NOISE_LEVEL**2 + dx**2 + dy**2)
    terms, change, light = terms * weight[:, None], change * weight, light * weight
    ridge = 1e-3 * np.eye(terms.shape[1], dtype=np.float32)  # for images without slopes or contrast
    coefficients = np.linalg.solve(terms @ terms.transpose(0, 2, 1) + ridge, terms @ change[:, :, None])
    residual = change - (coefficients.transpose(0, 2, 1) @ terms)[:, 0]
    return np.sqrt(((residual**2).mean(axis=1) + ROUNDING_VARIANCE) / ((light**2).mean(axis=1) + ROUNDING_VARIANCE))


# `unexplained_difference` samples every second pixel, not at the border. _BLUR and _SLOPE, (samples, SIDE) float32,
# hold a row of weights for each sampled position: for a Gaussian blur, and for the derivative of the blurred image.
_positions = np.arange(2.5, SIDE - 3, 2)
_offset = np.arange(SIDE) - _positions[:, None]
_BLUR = np.exp(-0.5 * (_offset / BLUR_SIGMA) ** 2)
_BLUR /= _BLUR.sum(axis=1, keepdims=True)
_SLOPE = _BLUR * _offset / BLUR_SIGMA**2
_SLOPE -= _BLUR * _SLOPE.sum(axis=1, keepdims=True)
_BLUR, _SLOPE = _BLUR.astype(np.float32), _SLOPE.astype(np.float32)
_DOWN, _ACROSS = np.repeat(_positions, len(_positions)) / SIDE, np.tile(_positions, len(_positions)) / SIDE
_DOWN, _ACROSS = _DOWN.astype(np.float32), _ACROSS.astype(np.float32)


def _filtered(down: np.ndarray, images: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return (n, samples²): images (n, SIDE, SIDE) under a separable filter of `down` and `across`."""
    return (down @ images @ across.T).reshape(len(images), len(_positions) ** 2)


def _hashes(thumbnails: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hash of each image and which of its bits are certain, both (n,) uint64.

    The threshold of each bit is the median of the images. So each bit separates the images into halves, even where all
    images look alike; with the usual threshold 0 these share most bits. With few images the threshold is 0: the median
    of an image and its copy would lie between the two.
    """
    cosines = np.cos(np.pi * np.outer(np.arange(DCT_SIDE), np.arange(SIDE) + 0.5) / SIDE).astype(np.float32)
    coefficients = np.empty((len(rows), DCT_SIDE**2 - 1), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        images = thumbnails[rows[start : start + BLOCK_ROWS]].astype(np.float32)
        block = (cosines @ images @ cosines.T).reshape(len(images), -1)[:, 1:]
        coefficients[start : start + BLOCK_ROWS] = block / np.sqrt((block**2).sum(axis=1, keepdims=True) + 1)
    hashes, certain = np.zeros((2, len(rows)), np.uint64)
    for bit, values in enumerate(coefficients.T):
        values = values - (np.median(values) if len(values) > 100 else 0)
        hashes |= (values > 0).astype(np.uint64) << np.uint64(bit)
        certain |= (np.abs(values) > MIN_MARGIN).astype(np.uint64) << np.uint64(bit)
    return hashes, certain


def _candidates(hashes: np.ndarray, certain: np.ndarray) -> Iterator[np.ndarray]:
    """Yield (2, m) pairs of rows that share all bits of a look-up and differ in few certain bits; each pair once."""
    bits_per_lookup = round(np.log2(max(1, len(hashes) / IMAGES_PER_BUCKET)))
    masks = np.zeros(LOOKUPS, np.uint64)
    for bits in np.random.default_rng(0).random((LOOKUPS, DCT_SIDE**2 - 1)).argsort(axis=1)[:, :bits_per_lookup].T:
        masks |= np.uint64(1) << bits.astype(np.uint64)
    for lookup, mask in enumerate(masks):
        order = np.argsort(hashes & mask, kind="stable")
        bucket = (hashes & mask)[order]
        position, lag = np.arange(len(order)), 0
        while position.size:  # pairs each image of a bucket with the next one, then with the one after it, and so on
            lag += 1
            position = position[: np.searchsorted(position, len(order) - lag)]
            position = position[bucket[position] == bucket[position + lag]]
            pairs = np.stack([order[position], order[position + lag]])
            different = hashes[pairs[0]] ^ hashes[pairs[1]]
            near = np.bitwise_count(different & certain[pairs[0]] & certain[pairs[1]]) <= MAX_DIFFERENT_BITS
            pairs, different = pairs[:, near], different[near]
            new = ((different[:, None] & masks[:lookup]) != 0).all(axis=1)  # no earlier look-up has found this pair
            yield pairs[:, new]


def _in_blocks(pairs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same pairs, (2, BLOCK_ROWS) at a time."""
    waiting = np.empty((2, 0), int)
    for more in pairs:
        waiting = np.hstack([waiting, more])
        while waiting.shape[1] >= BLOCK_ROWS:
            yield waiting[:, :BLOCK_ROWS]
            waiting = waiting[:, BLOCK_ROWS:]
    yield waiting


def _roots(parent: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the root of each row's tree."""
    while (parent[rows] != rows).any():
        rows = parent[rows]
    return rows
