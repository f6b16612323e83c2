"""The fields of samples with several labels: until they are written, as lists of (label, confidence)."""

import numpy as np

from thaw.core.label_values import ABSENT, PRESENT, SEPARATOR
from thaw.core.metrics_file import MODELS
from thaw.exploration.finished_run import Run

ABSENT_FIELD = "verified_absent"
PART = "classifications"  # of a field of type Classifications

Labels = list[tuple[str, float | None]]


def columns(run: Run) -> dict[str, list[Labels]]:
    """Return {path in a sample: the labels of all photographs}: what is known, and what each model predicts."""
    found = {f"ground_truth.{PART}": _known(run, PRESENT), f"{ABSENT_FIELD}.{PART}": _known(run, ABSENT)}
    numbers = {name: number for number, name in enumerate(run.classes)}
    for model in MODELS:
        texts, probabilities = run.table[f"{model}_label"].to_list(), run.probabilities[model]
        found[f"{model}.{PART}"] = [
            [(name, round(float(p[numbers[name]]), 6)) for name in (text or "").split(SEPARATOR) if name]
            for text, p in zip(texts, probabilities, strict=True)
        ]
    return found


def _known(run: Run, value: int) -> list[Labels]:
    return [[(run.classes[number], None) for number in np.flatnonzero(row == value)] for row in run.values]


def documents(labels: Labels) -> list:
    """Return the labels as FiftyOne's documents."""
    import fiftyone as fo

    return [fo.Classification(label=label, confidence=confidence) for label, confidence in labels]


def differ(stored: list | None, labels: Labels) -> bool:
    """Return whether documents that are stored have other labels, or other confidences."""
    return stored is None or [(one.label, one.confidence) for one in stored] != labels
