"""The likeliest wrong labels of a finished run: those that a head which has not seen them finds least probable."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.core.store import Photographs
from thaw.labelling import selection
from thaw.labelling.hand_over import Item
from thaw.labelling.known import Known
from thaw.labelling.selection import Labelled

PREDICTIONS = {"image_id": pl.String, "label": pl.String, "self_confidence": pl.Float64}
FOLDS = 5
LIKELY_RIGHT = 0.5  # a label with this self-confidence is more likely right than wrong: the report shows none either


@dataclass(frozen=True)
class Suspects:
    """Photographs whose label is likely to be wrong, the likeliest first.

    Attributes:
        items: up to as many as were asked for.
        absent: how many were passed over because their file is not on this machine.
        judged: how many were passed over because a person has looked at them.
    """

    items: list[Item]
    absent: int
    judged: int


def find(known: Known, raw: Path, predictions: Path, count: int, judged: Collection[str]) -> Suspects:
    """Return the photographs with the lowest `self_confidence` whose label is not what other photographs predict.

    This prediction is that of a probe which was trained without the photograph's group. The models of the run have seen
    most of the photographs, and may have learnt wrong labels by heart.

    Args:
        known: the labelled photographs of the run.
        raw: the folder of the images.
        predictions: the folder of predictions.csv.
        count: how many are wanted.
        judged: ids of photographs that are passed over.

    Raises:
        ThawError: predictions.csv is missing, or not of this run.
    """
    table = tables.read(predictions / "predictions.csv", PREDICTIONS).sort("image_id")
    labels = np.array(known.classes)[known.labels]
    if table["image_id"].to_list() != list(known.image_ids) or table["label"].to_list() != labels.tolist():
        raise ThawError(f"{predictions} and the features are not of one run: run `dvc repro`")
    unseen = out_of_fold(known)
    photographs, paths = Photographs(raw.resolve()), dict(known.images.select("image_id", "path").iter_rows())
    items, absent, passed = [], 0, 0
    for i in np.argsort(table["self_confidence"].to_numpy(), kind="stable"):
        image_id, predicted = str(known.image_ids[i]), int(unseen[i].argmax())
        confidence = float(table["self_confidence"][int(i)])
        if len(items) == count or confidence >= LIKELY_RIGHT:
            break
        if predicted == known.labels[i]:  # nothing speaks against the label
            continue
        if image_id in judged:
            passed += 1
            continue
        path = photographs[paths[image_id]]
        if not path.exists():
            absent += 1
            continue
        item = Item(
            path=path,
            sha256=known.hashes[i],
            score=1 - confidence,
            reason=f"of the other photographs, {confidence:.1%} for {labels[i]}",
            predicted=known.classes[predicted],
            probability=float(unseen[i, predicted]),
            given=str(labels[i]),
            image_id=image_id,
        )
        items.append(item)
    return Suspects(items, absent, passed)


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def out_of_fold(known: Known) -> NDArray[np.float64]:
    """Return (n, classes) probabilities of probes, each fitted to the groups of the other folds."""
    _, group = np.unique(known.groups, return_inverse=True)
    fold = np.random.default_rng(1).permutation(group.max() + 1)[group] % FOLDS
    result = np.zeros((len(fold), len(known.classes)))
    for i in np.unique(fold):
        rest, own = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
        others = Labelled(known.features[rest], known.labels[rest], known.weights[rest])
        result[own] = selection.probabilities(others, known.features[own], len(known.classes))
    return result
