"""Which photographs to look at, and how they are shown: what the network saw, where it looked, what is like it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from thaw import comparison, images, label_errors
from thaw.errors import ThawError
from thaw.predictions import Photographs

FOR, AGAINST = (255, 205, 0), (115, 50, 215)  # RGB of what speaks for an answer and of what speaks against it
STRONGEST = 0.6  # how much of the colour covers the photograph where the evidence is strongest
QUALITY = 82  # of the JPEGs: a photograph of 224 pixels takes some 8 KB
SIDE, SMALL = 224, 112  # pixels of a photograph and of its neighbours: twice what a page shows, for fine screens
NEIGHBOURS = 3


@dataclass(frozen=True)
class Neighbour:
    """A training photograph whose frozen features are near to those of the one that is shown."""

    image_id: str
    label: str
    picture: bytes | None  # JPEG; None where the file is gone or damaged


@dataclass(frozen=True)
class Shown:
    """A photograph on a contact sheet of the report."""

    image_id: str
    split: str
    label: str
    weight: float
    answers: dict[str, tuple[str, float]]  # model → its answer and the probability of it
    self_confidence: float
    picture: bytes | None  # JPEG of what the network saw; None where the file is gone or damaged
    attention: bytes | None  # JPEG of the same with the evidence laid over it
    neighbours: tuple[Neighbour, ...]


def choose(
    photographs: Photographs, probabilities: np.ndarray, self_confidence: np.ndarray, count: int
) -> dict[str, np.ndarray]:
    """Return the positions, at most `count` each, of the photographs that are worth a look, the first first.

    `mistakes`: of test, the surest wrong answers; `doubts`: of test, the least certain answers; `labels`: of all
    splits, the likeliest wrong labels. probabilities (n, c) and self_confidence (n,) are of all photographs.
    """
    test = photographs.of("test")
    return {
        "mistakes": test[confident_mistakes(probabilities[test], photographs.labels[test], count)],
        "doubts": test[least_certain(probabilities[test], count)],
        "labels": label_errors.suspicious(self_confidence)[:count],
    }


def nearest(features: np.ndarray, photographs: Photographs, positions: Sequence[int]) -> dict[int, list[int]]:
    """Return for each position those of the NEIGHBOURS training photographs with the nearest features, but itself."""
    train = photographs.of("train")
    rows = photographs.rows[np.asarray(positions, dtype=int)]
    found, _ = comparison.nearest_training(features[photographs.rows[train]], features[rows], NEIGHBOURS + 1)
    return {
        position: [int(train[i]) for i in of_position if train[i] != position][:NEIGHBOURS]
        for position, of_position in zip(positions, found, strict=True)
    }


def show(
    positions: Sequence[int],
    photographs: Photographs,
    classes: Sequence[str],
    probabilities: Mapping[str, np.ndarray],
    self_confidence: np.ndarray,
    neighbours: Mapping[int, Sequence[int]],
    seen: Mapping[int, np.ndarray | None],
    evidence: Mapping[int, np.ndarray],
) -> dict[int, Shown]:
    """Return each position's photograph for a contact sheet.

    `seen`: position → pixels, of the neighbours, too; `evidence`: position → map, where there is one.
    """

    def neighbour(position: int) -> Neighbour:
        label = classes[photographs.labels[position]]
        return Neighbour(str(photographs.image_ids[position]), label, jpeg(seen[position], SMALL))

    return {
        position: Shown(
            image_id=str(photographs.image_ids[position]),
            split=str(photographs.splits[position]),
            label=classes[photographs.labels[position]],
            weight=float(photographs.weights[position]),
            answers={m: (classes[p[position].argmax()], float(p[position].max())) for m, p in probabilities.items()},
            self_confidence=float(self_confidence[position]),
            picture=jpeg(seen[position], SIDE),
            attention=jpeg(overlay(seen[position], evidence[position]), SIDE) if position in evidence else None,
            neighbours=tuple(neighbour(n) for n in neighbours[position]),
        )
        for position in positions
    }


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the rows, at most `count`, whose likeliest class is not the label, the surest first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]


def least_certain(probabilities: np.ndarray, count: int) -> np.ndarray:
    """Return the rows, at most `count`, whose two likeliest classes are nearest to each other, the nearest first."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.argsort(two[:, 1] - two[:, 0], kind="stable")[:count]


def rivals(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two classes (n,) for each row: the likeliest, and the one it is to be told from.

    That is the label where the answer is wrong, else the second likeliest class.
    """
    answers = probabilities.argmax(axis=1)
    rest = probabilities.copy()
    rest[np.arange(len(rest)), answers] = -1
    return answers, np.where(answers == labels, rest.argmax(axis=1), labels)


def see(path: Path, size: int, resize: str) -> np.ndarray | None:
    """Return the (size, size, 3) uint8 pixels that the network sees of a photograph; None where it cannot be read."""
    try:
        return images.centre(images.fit(images.decode(path, size), size, resize), size)
    except ThawError:
        return None


def overlay(pixels: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Return (s, s, 3) uint8 pixels, greyed, under the colours FOR and AGAINST in the strength of `evidence` (h, w).

    The strongest evidence of each photograph has the full colour: the colours of two photographs do not compare.
    """
    grey = np.repeat(pixels @ np.array([[0.299], [0.587], [0.114]]), 3, axis=2)
    strength = evidence / max(float(np.abs(evidence).max()), 1e-12)
    strength = cv2.resize(strength.astype(np.float32), pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    strength = strength.clip(-1, 1)[:, :, None]
    colour = np.where(strength > 0, np.float64(FOR), np.float64(AGAINST))
    share = STRONGEST * np.abs(strength)
    return (grey * (1 - share) + colour * share).round().astype(np.uint8)


def jpeg(pixels: np.ndarray | None, size: int) -> bytes | None:
    """Return square pixels as a JPEG of at most `size` a side; None stays None."""
    if pixels is None:
        return None
    if len(pixels) > size:
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
