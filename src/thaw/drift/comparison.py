"""Are new photographs of the kind that the model was measured on? All that is said about it, as numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.core.errors import ThawError
from thaw.drift import expected_accuracy, two_sample
from thaw.drift.expected_accuracy import ExpectedAccuracy
from thaw.drift.samples import MAX_COMPARED, Files, LeftOut, Sample
from thaw.drift.two_sample import TwoSample
from thaw.prediction import ood
from thaw.prediction.deployed_model import Decision, Description

FAR = 0.99  # share of the validation photographs beyond which one is far
MIDDLE = (0.025, 0.975)  # between these quantiles of the held-out photographs a value is usual
MAX_FAR = (
    0.2  # share of far photographs above which no accuracy is estimated: the model's confidence means nothing there
)
MEASURES = ("brightness", "sharpness", "side")


@dataclass(frozen=True)
class Change:
    """How a measure of the new photographs compares with that of the held-out ones.

    Attributes:
        held_out: its 2.5 %, 50 % and 97.5 % quantiles.
        new: those of the new ones.
        unusual: the share of the new ones outside the outer two of `held_out`; of the same kind, 5 % are.
    """

    held_out: tuple[float, float, float]
    new: tuple[float, float, float]
    unusual: float


@dataclass(frozen=True)
class Far:
    """How many new photographs are nothing like the training ones.

    Attributes:
        share: beyond the limit.
        expected: the share of photographs like the validation ones that lie beyond it.
        limit: the distance; see `prediction.ood`.
        distances: (m,) of the new ones.
    """

    share: float
    expected: float
    limit: float
    distances: NDArray[np.float32]


@dataclass(frozen=True)
class Drift:
    """New photographs against the held-out ones of a run."""

    classes: Sequence[str]
    held_out: Sample
    new: Sample
    left_out: LeftOut
    test: TwoSample  # its scores are of `compared`
    compared: NDArray[np.integer]  # positions of the new photographs that the test compared
    far: Far
    changes: Mapping[str, Change]  # of MEASURES
    predictions: Mapping[str, tuple[float | None, float]]  # class → share: held out, new; empty: none
    accuracy: ExpectedAccuracy | None  # None where no accuracy can be expected
    no_accuracy: str  # why; empty if there is one


def compare(
    held_out: Sample, new: Sample, left_out: LeftOut, files: Files, description: Description, decision: Decision | None
) -> Drift:
    """Compare new photographs with the held-out ones of a run.

    Args:
        held_out: `samples.held_out` of the run.
        new: the first of `samples.new`.
        left_out: the second of it.
        files: of the run.
        description: of the model.
        decision: of the model; None if there is none.

    Returns:
        The comparison. The same photographs give the same.

    Raises:
        ThawError: the run has too few validation photographs.
    """
    ours, theirs = _drawn(len(held_out)), _drawn(len(new))
    _, groups = np.unique(held_out.groups[ours], return_inverse=True)
    _, new_groups = np.unique(new.groups[theirs], return_inverse=True)
    test = two_sample.compare(
        held_out.features[ours], new.features[theirs], np.concatenate([groups, new_groups + groups.max() + 1])
    )
    changes = {name: change(getattr(held_out.measures, name), getattr(new.measures, name)) for name in MEASURES}
    rule, far, accuracy, no_accuracy = decision or Decision(), _far(files, new), None, ""
    if new.probabilities is None:
        no_accuracy = "the model gives several labels for each photograph"
    elif held_out.probabilities is None:
        no_accuracy = "the run has no predictions of this model, or no decision.json"
    elif far.share > MAX_FAR:
        no_accuracy = f"{far.share:.0%} of the photographs are nothing like the training ones"
    else:
        accuracy = expected_accuracy.estimate(held_out.probabilities, held_out.labels, new.probabilities, rule)
    predictions = _predictions(description.classes, held_out, new, rule)
    return Drift(
        description.classes, held_out, new, left_out, test, theirs, far, changes, predictions, accuracy, no_accuracy
    )


def change(held_out: NDArray[np.float64], new: NDArray[np.float64]) -> Change:
    """Return how a measure (m,) of new photographs compares with that (n,) of held-out ones."""
    low, middle, high = np.quantile(held_out, [MIDDLE[0], 0.5, MIDDLE[1]])
    outside = float(np.mean((new < low) | (new > high)))
    quantiles = tuple(float(value) for value in np.quantile(new, [MIDDLE[0], 0.5, MIDDLE[1]]))
    return Change((float(low), float(middle), float(high)), quantiles, outside)


def _drawn(count: int) -> NDArray[np.integer]:
    if count <= MAX_COMPARED:
        return np.arange(count)
    return np.sort(np.random.default_rng(3).choice(count, MAX_COMPARED, replace=False))


def _far(files: Files, new: Sample) -> Far:
    training, validation = ood.read_features(files.run.features, files.run.split)
    distances = ood.held_out_distances(training, validation)
    share = min(FAR, np.floor(10_000 * len(distances) / (len(distances) + 1)) / 10_000)
    if not share:
        raise ThawError(f"{files.run.split} has no photographs of validation")
    limit = ood.distance_limit(distances, share)
    own = ood.distances(training, new.features)
    return Far(float(np.mean(own > limit)), round(1 - share, 4), limit, own)


def _predictions(
    classes: Sequence[str], held_out: Sample, new: Sample, decision: Decision
) -> dict[str, tuple[float | None, float]]:
    """Return class → its share of the predictions on the held-out photographs (None: not known), and on the new ones.

    It is empty where nothing was predicted of the new ones.
    """
    if new.probabilities is None:
        return {}

    def shares(sample: Sample) -> list[float | None]:
        if sample.probabilities is None:
            return [None] * len(classes)
        counts = np.bincount(decision.predict(sample.probabilities), minlength=len(classes))
        return [float(share) for share in counts / len(sample)]

    return dict(zip(classes, zip(shares(held_out), shares(new), strict=True), strict=True))


def as_json(drift: Drift) -> dict[str, object]:
    """Return the numbers of a comparison, as JSON has them."""
    return {
        "new": len(drift.new),
        "held_out": len(drift.held_out),
        "unread": len(drift.left_out.unread),
        "of_the_run": dict(sorted(drift.left_out.known.items())),
        "other_files": len(drift.left_out.others),
        "differ": drift.test.differ,
        "too_few_to_tell": drift.test.is_too_small,
        "p": round(drift.test.p, 6),
        "auc": round(drift.test.auc, 6),
        "auc_by_chance": round(drift.test.chance, 6),
        "far": round(drift.far.share, 6),
        "far_expected": drift.far.expected,
        "far_distance": round(drift.far.limit, 6),
        "measures": {
            name: {
                "held_out": [round(value, 6) for value in change.held_out],
                "new": [round(value, 6) for value in change.new],
                "unusual": round(change.unusual, 6),
            }
            for name, change in drift.changes.items()
        },
        "answers": {
            name: {"held_out": None if known is None else round(known, 6), "new": round(new, 6)}
            for name, (known, new) in drift.predictions.items()
        },
        "accuracy": None
        if drift.accuracy is None
        else {name: round(value, 6) for name, value in vars(drift.accuracy).items()},
    }
