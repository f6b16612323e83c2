"""The curves and tables of a run of several labels as rows, for the CSV files that `dvc plots` reads.

The files and their columns are those of single labels: `dvc.yaml` has one shape. What only single labels have is empty.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from thaw.evaluation import curves
from thaw.evaluation.multi_label.metrics import MAIN
from thaw.evaluation.multi_label.pairs import Pairs
from thaw.evaluation.plots import MAX_CONFUSION_ROWS, Curves
from thaw.evaluation.scored import Row, Scored, confidence_bins

CALLS = np.array(["absent", "present"])


def compute_curves(scored: Mapping[str, Pairs], calibrated: Mapping[str, NDArray[np.float64]], bins: int) -> Curves:
    """Compute the curves of one split, of all known pairs together.

    Args:
        scored: model → the pairs.
        calibrated: model → the calibrated (n, k) probabilities.
        bins: of the reliability curves.

    Returns:
        kind → model → rows. `confusion` has a row for each known pair: present or absent, and what it was called.
        `coverage` takes the pairs by how far their probability is from 1/2.
    """
    pooled = {model: pairs.pooled() for model, pairs in scored.items()}
    return {
        "confusion": {model: _confusion(pairs) for model, pairs in scored.items()},
        "roc": {model: curves.roc_curve(pairs) for model, pairs in pooled.items()},
        "precision_recall": {model: curves.precision_recall_curve(pairs) for model, pairs in pooled.items()},
        "coverage": {model: curves.coverage_curve(pairs) for model, pairs in pooled.items()},
        "calibration": {model: reliability(pairs, bins) for model, pairs in pooled.items()},
        "calibrated": {
            model: reliability(_with_probabilities(pairs, calibrated[model]), bins) for model, pairs in scored.items()
        },
    }


def reliability(pooled: Scored, bins: int) -> list[Row]:
    """Return for each of the `bins` that holds a pair the mean probability of being present, as `confidence`.

    Beside it `accuracy`, the share that is present, and `count`.
    """
    p = pooled.probabilities[:, 1]
    _, bin_of, sizes = np.unique(confidence_bins(p, bins), return_inverse=True, return_counts=True)
    means, shares = (np.bincount(bin_of, values) / sizes for values in (p, pooled.labels))
    return [
        {"confidence": round(mean, 6), "accuracy": round(share, 6), "count": size}
        for mean, share, size in zip(means.tolist(), shares.tolist(), sizes.tolist(), strict=True)
    ]


def class_curves(pairs: Pairs, classes: Sequence[str]) -> dict[str, list[Row]]:
    """Return class → its precision-recall curve, of the known pairs; empty where all are present, or all absent."""
    return {
        name: curves.precision_recall_curve(_one_class(pairs, number).pooled()) for number, name in enumerate(classes)
    }


def comparison_rows(comparisons: Mapping[str, Mapping]) -> list[Row]:
    """Return the comparisons of `Measured`, a row for each pair of models.

    `accuracy`, the difference in the share of known pairs that are called rightly, stands where it stands for single
    labels.
    """
    rows = []
    for pair, compared in comparisons.items():
        row: Row = {"pair": pair.replace("_", " "), "mcnemar_p": None}
        measures = {"accuracy": "micro_accuracy", MAIN: MAIN} | {name: name for name in compared["differences"]}
        for column, measure in measures.items():
            values = compared["differences"][measure]
            row |= {column: values["difference"]} | {f"{column}_{end}": values[end] for end in ("low", "high")}
        rows.append(row)
    return rows


def thinned_text(curves: Curves) -> str:
    """Say for the terminal what the files show only a part of; empty where they show all."""
    count = max((len(rows) for rows in curves["confusion"].values()), default=0)
    if count <= MAX_CONFUSION_ROWS:
        return ""
    return f"; plots/confusion_… shows {MAX_CONFUSION_ROWS:,} of the {count:,} pairs"


def _confusion(pairs: Pairs) -> list[Row]:
    known = pairs.known
    actual, called = CALLS[pairs.present[known].astype(int)], CALLS[pairs.called[known].astype(int)]
    return [{"actual": a, "predicted": b} for a, b in zip(actual.tolist(), called.tolist(), strict=True)]


def _with_probabilities(pairs: Pairs, probabilities: NDArray[np.float64]) -> Scored:
    return Pairs(probabilities, pairs.called, pairs.values, pairs.weights, pairs.groups).pooled()


def _one_class(pairs: Pairs, number: int) -> Pairs:
    columns = (pairs.probabilities, pairs.called, pairs.values, pairs.weights)
    return Pairs(*(column[:, number : number + 1] for column in columns), pairs.groups)
