"""Groups of near-duplicate photographs, so that a split never puts two of one group on different sides.

A perceptual hash names candidates, looked up by a few of its bits at a time (locality-sensitive hashing,
Indyk and Motwani 1998), so that a million images need no million squared comparisons. Then the thumbnails of
each pair are registered and compared: where all pictures look alike, a hash alone merges them.

The numbers below were measured on 2,624 solar cells (elpv-dataset) and 125 photographs (Open Images), against
copies: JPEG at quality 30 to 90, half and one and a half times the size, 10 % brighter, darker, more or less
contrast, noise, blur, grey, 2 % cut off a side.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import cv2
import numpy as np

from thaw import images

# Pixels a side: 1 KB an image. 48 and 64 told no more of the solar cells apart.
SIDE = 32
# Images, or pairs of them, at a time: some 5 MB of working arrays.
BLOCK = 256

# 8 x 8 cosine waves, less the constant one, are the 63 bits of the hash.
WAVES = 8
# Look-ups, each by bits of its own: 16 miss 2 % of the solar cells cut at the bottom, 32 miss 0.2 %.
BANDS = 32
# Images that a look-up leaves together on average; the bits it takes grow with the logarithm of the data.
BUCKET = 32
# A wave this near to the threshold says nothing (all waves together have length 1): JPEG moves it as much.
UNSURE = 0.002
# Sure bits that may differ. 12 compares 1.4 times as many solar cells, 10 misses 1 % more of the cut ones.
MAX_BITS_APART = 11

# Pixels: a shift of 0.64 pixel (2 %) is then nearly linear in the slopes. 1 and 1.6 fit cut cells worse.
BLUR = 1.3
# Grey levels that count as much as a slope of as many a pixel. 2 to 8 differ in a few pairs of cells.
NOISE = 3.0
# As a share of the contrast. 99 % of the copies are under it, photographs of different things far above.
# The solar cells set it. From 0.08 to 0.09, seven more cells that were photographed twice are found and seven
# pairs of different cells merge; from 0.09 to 0.1 it is six and 16.
MAX_UNEXPLAINED = 0.09


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 RGB -> (32, 32) uint8 grey, each the mean of its area; aspect is not kept."""
    grey = images.grey_of(pixels)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if grey is None else grey
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def group_near_duplicates(image_ids: Sequence[str], thumbnails: np.ndarray) -> list[str]:
    """The name of each image's group: the smallest image_id among the images that near-duplicates link it to.

    image_ids: n unique names, in any order: the groups do not depend on it. thumbnails: (n, 32, 32) uint8, of
    `thumbnail`. Identical thumbnails count as one, so that exact copies cost nothing. Memory beyond the
    thumbnails: some 0.5 KB an image.
    """
    order = sorted(range(len(image_ids)), key=image_ids.__getitem__)
    number: dict[bytes, int] = {}
    digests = (blake2b(thumbnails[i].tobytes(), digest_size=16).digest() for i in order)
    distinct = np.array([number.setdefault(digest, len(number)) for digest in digests], dtype=int)
    first = np.array(order, dtype=int)[np.unique(distinct, return_index=True)[1]]

    parent = np.arange(len(first))  # a forest: its roots are the first images of the groups
    for a, b in _in_blocks(_candidates(*_hashes(thumbnails, first))):
        apart = _roots(parent, a) != _roots(parent, b)
        a, b = a[apart], b[apart]
        same = unexplained(thumbnails[first[a]], thumbnails[first[b]]) <= MAX_UNEXPLAINED
        for pair in zip(a[same], b[same], strict=True):
            low, high = sorted(_roots(parent, np.array(pair)))
            parent[high] = low

    group = [""] * len(image_ids)
    for i, root in zip(order, _roots(parent, distinct), strict=True):
        group[i] = image_ids[first[root]]
    return group


def oversized_groups(groups: Sequence[str], share: float = 0.05) -> list[tuple[str, int]]:
    """(group, images) of each group of two or more that has over `share` of all images, the largest first."""
    large = [(group, size) for group, size in Counter(groups).items() if size > max(1, share * len(groups))]
    return sorted(large, key=lambda item: (-item[1], item[0]))


def unexplained(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What neither a shift nor a stretch nor a change of light explains of each pair's difference.

    first, second: (n, 32, 32) uint8. Returns (n,) float32, a share of the contrast: near 0 for copies, about
    1 for strangers, and 1 where there is no contrast to go by.

    One step of image registration (Lucas and Kanade 1981) with a cubic tone curve: least squares of the
    difference on the powers of the light and on the slopes, these also growing across the picture (a cut
    picture is stretched). An error of a fraction of a pixel shows most where the slope is steep, so a pixel
    weighs 1 / sqrt(noise² + slope²): the edges that all solar cells share do not drown what tells them apart.
    """
    first, second = first.astype(np.float32), second.astype(np.float32)
    mean = (first + second) / 2
    light, change = _look(_MEAN, mean, _MEAN), _look(_MEAN, second - first, _MEAN)
    dy, dx = _look(_SLOPE, mean, _MEAN), _look(_MEAN, mean, _SLOPE)
    light -= light.mean(axis=1, keepdims=True)
    unit = light / (light.std(axis=1, keepdims=True) + 1)
    terms = np.stack([unit**0, unit, unit**2, unit**3, dx, dx * _ACROSS, dy, dy * _DOWN], axis=1)
    weight = 1 / np.sqrt(NOISE**2 + dx**2 + dy**2)
    terms, change, light = terms * weight[:, None], change * weight, light * weight
    ridge = 1e-3 * np.eye(terms.shape[1], dtype=np.float32)  # for pictures without slopes or contrast
    fit = np.linalg.solve(terms @ terms.transpose(0, 2, 1) + ridge, terms @ change[:, :, None])
    rest = change - (fit.transpose(0, 2, 1) @ terms)[:, 0]
    least = 1e-4  # decides only where there is no contrast: rounding to whole grey levels leaves 9e-4
    return np.sqrt(((rest**2).mean(axis=1) + least) / ((light**2).mean(axis=1) + least))


# `unexplained` looks at every second pixel, off the border: rows that blur, rows that take the slope as well.
_at = np.arange(2.5, SIDE - 3, 2)
_offset = np.arange(SIDE) - _at[:, None]
_MEAN = np.exp(-0.5 * (_offset / BLUR) ** 2)
_MEAN /= _MEAN.sum(axis=1, keepdims=True)
_SLOPE = _MEAN * _offset / BLUR**2
_SLOPE -= _MEAN * _SLOPE.sum(axis=1, keepdims=True)
_MEAN, _SLOPE = _MEAN.astype(np.float32), _SLOPE.astype(np.float32)
_DOWN, _ACROSS = np.repeat(_at, len(_at)) / SIDE, np.tile(_at, len(_at)) / SIDE
_DOWN, _ACROSS = _DOWN.astype(np.float32), _ACROSS.astype(np.float32)


def _look(down: np.ndarray, images: np.ndarray, across: np.ndarray) -> np.ndarray:
    return (down @ images @ across.T).reshape(len(images), len(_at) ** 2)


def _hashes(thumbnails: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) uint64 each: which cosine waves of the images are above the threshold, and which clearly off it.

    The threshold is the median of the images, so that each bit halves even pictures that look alike; with the
    usual 0 they share most bits. Few images take 0: the median of a photograph and its copy parts the two.
    """
    cosines = np.cos(np.pi * np.outer(np.arange(WAVES), np.arange(SIDE) + 0.5) / SIDE).astype(np.float32)
    waves = np.empty((len(rows), WAVES**2 - 1), np.float32)
    for start in range(0, len(rows), BLOCK):
        images = thumbnails[rows[start : start + BLOCK]].astype(np.float32)
        block = (cosines @ images @ cosines.T).reshape(len(images), -1)[:, 1:]
        waves[start : start + BLOCK] = block / np.sqrt((block**2).sum(axis=1, keepdims=True) + 1)
    above, sure = np.zeros((2, len(rows)), np.uint64)
    for bit, wave in enumerate(waves.T):
        wave = wave - (np.median(wave) if len(wave) > 100 else 0)
        above |= (wave > 0).astype(np.uint64) << np.uint64(bit)
        sure |= (np.abs(wave) > UNSURE).astype(np.uint64) << np.uint64(bit)
    return above, sure


def _candidates(above: np.ndarray, sure: np.ndarray) -> Iterator[np.ndarray]:
    """(2, m) pairs of rows that share all bits of a look-up and differ in few sure ones; each pair once."""
    width = round(np.log2(max(1, len(above) / BUCKET)))
    masks = np.zeros(BANDS, np.uint64)
    for bits in np.random.default_rng(0).random((BANDS, WAVES**2 - 1)).argsort(axis=1)[:, :width].T:
        masks |= np.uint64(1) << bits.astype(np.uint64)
    for band, mask in enumerate(masks):
        order = np.argsort(above & mask, kind="stable")
        bucket = (above & mask)[order]
        at, lag = np.arange(len(order)), 0
        while at.size:  # each image of a bucket with the next one, then with the one after it, and so on
            lag += 1
            at = at[: np.searchsorted(at, len(order) - lag)]
            at = at[bucket[at] == bucket[at + lag]]
            pair = np.stack([order[at], order[at + lag]])
            differ = above[pair[0]] ^ above[pair[1]]
            near = np.bitwise_count(differ & sure[pair[0]] & sure[pair[1]]) <= MAX_BITS_APART
            pair, differ = pair[:, near], differ[near]
            new = ((differ[:, None] & masks[:band]) != 0).all(axis=1)  # no earlier look-up met this pair
            yield pair[:, new]


def _in_blocks(pairs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same pairs, (2, BLOCK) at a time."""
    held = np.empty((2, 0), int)
    for more in pairs:
        held = np.hstack([held, more])
        while held.shape[1] >= BLOCK:
            yield held[:, :BLOCK]
            held = held[:, BLOCK:]
    yield held


def _roots(parent: np.ndarray, rows: np.ndarray) -> np.ndarray:
    while (parent[rows] != rows).any():
        rows = parent[rows]
    return rows
