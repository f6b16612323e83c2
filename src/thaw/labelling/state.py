"""What is labelled now: by the finished run, and by what came back since and waits for the next run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw.labelling import taking
from thaw.labelling.feature_cache import Entry
from thaw.labelling.known import Known
from thaw.labelling.selection import Labelled
from thaw.sources import added


@dataclass(frozen=True)
class State:
    """All labels.

    Attributes:
        known: the photographs of the run.
        classes: that a label may have: those of the run, and new ones.
        images: SHA-256 → image_id → label of the photographs of the run, as they are corrected now.
        added: SHA-256 → label of what came back, whether a run has seen it or not.
        judged: ids of photographs of the run whose label a person has corrected or confirmed.
    """

    known: Known
    classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, str]]
    added: Mapping[str, str]
    judged: frozenset[str]

    @property
    def labels(self) -> set[tuple[str, str]]:
        """(SHA-256, label) of all that is labelled."""
        of_run = {(sha256, label) for sha256, images in self.images.items() for label in images.values()}
        return of_run | {(sha256, label) for sha256, label in self.added.items() if sha256 not in self.images}

    @property
    def waiting(self) -> list[str]:
        """The hashes of what came back and is not in the run."""
        return [sha256 for sha256 in self.added if sha256 not in self.images]

    def labelled(self, entries: Mapping[str, Entry]) -> Labelled:
        """Return what is labelled, with its features: those of the run, and of what waits, as `entries` has them."""
        waiting = [sha256 for sha256 in self.waiting if sha256 in entries and self.added[sha256] in self.classes]
        known = self.known
        if not len(known.labels):
            channels = len(entries[waiting[0]].features) if waiting else 0
            features = np.empty((0, channels), np.float16)
        else:
            features = known.features
        more = [entries[sha256].features for sha256 in waiting]
        return Labelled(
            np.concatenate([features, np.stack(more)]) if more else features,
            np.array([*known.labels, *(self.classes.index(self.added[sha256]) for sha256 in waiting)], int),
            np.concatenate([known.weights, np.ones(len(waiting))]),
        )


def read(known: Known, classes: tuple[str, ...], added_table: Path | None, corrections: Path | None) -> State:
    """Return what is labelled.

    Args:
        known: the photographs of the run.
        classes: those of the run, and new ones; empty: those that came back.
        added_table: the table of what came back, if there is one.
        corrections: the table of corrections, if there is one.

    Raises:
        ThawError: a table cannot be read.
    """
    came_back = taking.read_added(added_table, classes) if added_table else {}
    labels = {sha256: label for sha256, (_, label) in came_back.items()}
    rows = added.read_corrections(corrections) if corrections and corrections.exists() else []
    hashes = dict(known.images.select("image_id", "sha256").iter_rows())
    rows = [row for row in rows if not row.sha256 or hashes.get(row.image_id, row.sha256) == row.sha256]
    current = dict(known.images.select("image_id", "label").iter_rows())
    for row in rows:
        if current.get(row.image_id) == row.old:
            current[row.image_id] = row.new
    images: dict[str, dict[str, str]] = {}
    for sha256, image_id in known.images.select("sha256", "image_id").iter_rows():
        images.setdefault(sha256, {})[image_id] = current[image_id]
    return State(
        known=known,
        classes=classes or tuple(sorted(set(labels.values()))),
        images=images,
        added=labels,
        judged=frozenset(row.image_id for row in rows),
    )
