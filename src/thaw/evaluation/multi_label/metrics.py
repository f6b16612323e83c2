"""How good a model of several labels is: measures with their intervals, and the counts that they rest on.

Unknown pairs count nowhere. A measure X counts each known pair once, X_weighted as much as it weighs. Every interval is
of 95 %, and near-duplicates count as one in it. Those of a class's precision, recall and accuracy are Wilson's; the
others are a bootstrap over groups: see `thaw.evaluation.multi_label.resampling`.

What a split leaves undefined (no pair is known, or none is present, or none absent) is None, never NaN.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from thaw.core.metrics_file import MEAN_AVERAGE_PRECISION as MAIN
from thaw.evaluation.metrics import wilson
from thaw.evaluation.multi_label.pairs import Pairs
from thaw.evaluation.multi_label.resampling import MEASURES, Resampled, precision_interval, resample, wide_interval
from thaw.evaluation.resampling import Resampling, calibration_interval
from thaw.evaluation.scored import Row

AVERAGED = ("average_precision", "roc_auc", "f1", "log_loss", "brier", "ece")  # measures whose mean over classes counts
ENDS = ("", "_low", "_high")
KINDS = ("", "_weighted")
BY_CHANCE = f"{MAIN}_by_chance"


def mean_name(measure: str) -> str:
    """Return the key of a measure's mean over the classes."""
    return MAIN if measure == "average_precision" else f"macro_{measure}"


def metric_names() -> tuple[str, ...]:
    """Return the keys of `multi_label_metrics` that are measures, in their order."""
    names = [*map(mean_name, AVERAGED), *(f"micro_{measure}" for measure in MEASURES)]
    return tuple(f"{name}{kind}{end}" for name in names for kind in KINDS for end in ENDS)


def multi_label_metrics(pairs: Pairs, classes: Sequence[str], bins: int, resampling: Resampling) -> dict[str, object]:
    """Return the metrics of one model on one split.

    - `mean_average_precision`: the mean over the classes of their average precision, as scikit-learn has it: of a
      class, the mean precision among the images that are ranked at least as high as each image where it is present.
      A class counts if a pair is known to be present and one to be absent: there are `classes_measured` of them.
    - `macro_…`: means over the classes too. `micro_…`: all known pairs together, as if they were of one class.
    - `roc_auc`: how often a present pair is ranked above an absent one.
    - `f1`, `precision`, `recall`, `accuracy` (the share of pairs that are called rightly): at the thresholds.
    - `log_loss`, `brier` ((p - y)², in 0 … 1): of the model's own probabilities. `log_loss` clips them at the machine's
      epsilon, as scikit-learn does.
    - `ece`: over `bins` bins of probability of equal width, how far the mean probability of being present is from the
      share that is present (Guo et al. 2017, arXiv 1706.04599, for each class as Nixon et al. 2019, arXiv 1904.01685).

    Args:
        pairs: of the split.
        classes: their names, in the order of the pairs.
        bins: of the calibration error.
        resampling: how the groups are resampled.

    Returns:
        The counts `photographs` (with a known pair), `known_present`, `known_absent` and `classes_measured`; BY_CHANCE,
        what a ranking by chance has on average; the keys `metric_names()`; and `per_class`: class → its row of
        `class_rows`, without the name.
    """
    return summarise(pairs, classes, resample(pairs, bins, resampling))


def summarise(pairs: Pairs, classes: Sequence[str], resampled: Mapping[str, Resampled]) -> dict[str, object]:
    """Return the `multi_label_metrics` of a split from its resamples."""
    measured = {}
    for kind, values in resampled.items():
        means = values.means()
        for measure in AVERAGED:
            measured |= _with_ends(f"{mean_name(measure)}{kind}", measure, means[measure], of_mean=True)
        for measure in MEASURES:
            measured |= _with_ends(f"micro_{measure}{kind}", measure, values.pooled[measure])
    rows = class_rows(pairs, classes, resampled[""])
    counts = [(row["known_present"], row["known_absent"]) for row in rows if row["average_precision"] is not None]
    return {
        "photographs": int(pairs.known.any(axis=1).sum()),
        "known_present": int(pairs.present.sum()),
        "known_absent": int(pairs.absent.sum()),
        "classes_measured": len(counts),
        BY_CHANCE: float(np.mean([precision_by_chance(*each) for each in counts])) if counts else None,
        **{name: measured[name] for name in metric_names()},
        "per_class": {row["class"]: {key: row[key] for key in row if key != "class"} for row in rows},
    }


def precision_by_chance(present: int, absent: int) -> float:
    """Return the mean average precision of all orders of so many pairs of a class, one or more of each.

    It is above the share that is present, the more the fewer pairs there are: each present pair finds itself. Pairs
    that all have one probability, as `majority` gives them, have the share itself.
    """
    count = present + absent
    harmonic = (1 / np.arange(1, count + 1)).sum()
    return float((harmonic + (present - 1) / (count - 1) * (count - harmonic)) / count)


def class_rows(pairs: Pairs, classes: Sequence[str], resampled: Resampled) -> list[Row]:
    """Return a row for each class, in their order, each known pair counted once.

    Columns: `class`; `known_present`, `known_absent` and `called` (of the known pairs), which count pairs; and each of
    MEASURES with its interval. Those of precision, recall and accuracy are Wilson's.
    """
    present, absent, called = (
        mask.sum(axis=0).tolist() for mask in (pairs.present, pairs.absent, pairs.known & pairs.called)
    )
    rows: list[Row] = [
        {"class": name, "known_present": of_present, "known_absent": of_absent, "called": of_called}
        for name, of_present, of_absent, of_called in zip(classes, present, absent, called, strict=True)
    ]
    for number, row in enumerate(rows):
        for measure in MEASURES:
            row |= _with_ends(measure, measure, resampled.by_class[measure][number])
        row |= _shares(row, pairs, number)
    return rows


def _with_ends(
    name: str, measure: str, values: NDArray[np.float64], *, of_mean: bool = False
) -> dict[str, float | None]:
    """Return a measure with its interval.

    Args:
        name: its key.
        measure: of MEASURES.
        values: on the split and on each resample: (r,), or gaps.
        of_mean: whether they are means over the classes.
    """
    if measure == "ece":
        defined = ~np.isnan(values).any(axis=0)
        defined[0] = True
        bounds = calibration_interval(values[:, defined])
    elif of_mean and measure == "average_precision":
        bounds = precision_interval(values)
    else:
        bounds = wide_interval(values)
    return dict(zip((f"{name}{end}" for end in ENDS), bounds, strict=True))


def _shares(row: Row, pairs: Pairs, number: int) -> dict[str, float | None]:
    """Return Wilson's intervals of the shares of a class's pairs, where they are defined."""
    known, present, called = (mask[:, number] for mask in (pairs.known, pairs.present, pairs.called))
    result = {}
    for measure, among in {"precision": known & called, "recall": present, "accuracy": known}.items():
        effective = effective_number(pairs.groups[among])
        if row[measure] is not None and effective:
            low, high = wilson(row[measure] * effective, effective)
            result |= {f"{measure}_low": low, f"{measure}_high": high}
    return result


def effective_number(groups: NDArray) -> float:
    """Return how many groups of equal size tell as much as the images of these groups (m,): Kish's effective number."""
    _, sizes = np.unique(groups, return_counts=True)
    return float(len(groups) ** 2 / (sizes**2).sum()) if len(groups) else 0.0


def in_brief(metrics: Mapping[str, object], measures: Sequence[str]) -> dict[str, object]:
    """Return the counts of a split and some of its measures alone, each with its interval."""
    counts = {key: metrics[key] for key in ("photographs", "known_present", "known_absent", "classes_measured")}
    return counts | {f"{name}{end}": metrics[f"{name}{end}"] for name in measures for end in ENDS}
