"""The linear head for several labels: a logistic regression for each class, fitted to the images that tell it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from thaw.core import arrays, progress
from thaw.core.errors import ThawError
from thaw.core.label_values import lacking
from thaw.core.task import MULTI
from thaw.core.words import plural
from thaw.features import label_pairs
from thaw.features.examples import NO_VIEW, Examples, training_weights
from thaw.features.linear_probe import Probe, fit_path, read_samples, until_worse
from thaw.heads import dense
from thaw.heads.linear import LOGISTIC, require_pooled
from thaw.heads.protocol import Head, HeadData, Log, Setting, Trained, variant_text

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras
    from thaw.parameters.head import Head as HeadParams


@dataclass(frozen=True)
class LinearHead(Head):
    """Sigmoid(features @ kernel + bias): kernel (channels, k) and bias (k,) float32; each class by itself."""

    task: ClassVar[str] = MULTI

    kernel: np.ndarray
    bias: np.ndarray
    classes: tuple[str, ...]
    Cs: tuple[float, ...]  # of each class, the inverse strength of the penalty, as in scikit-learn

    def output_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, k) float64 probabilities for (n, channels) features."""
        return sigmoid(features, self.kernel, self.bias)

    @property
    def description(self) -> dict[str, object]:
        strengths = dict(zip(self.classes, self.Cs, strict=True))
        return {"kind": "linear_multi", "probe": LOGISTIC, "strengths": strengths}

    def attach(self, backbone: "keras.Model", features: str) -> "keras.Model":
        return dense.attach(backbone, features, self.kernel, self.bias, activation="sigmoid")

    def save(self, folder: Path) -> None:
        description = {"kind": "linear_multi", "classes": self.classes, "strengths": self.Cs}
        dense.save(folder, self.kernel, self.bias, description)


def load(folder: Path) -> LinearHead:
    """Return the head that was saved in a folder."""
    kernel, bias, description = dense.load(folder)
    return LinearHead(kernel, bias, tuple(description["classes"]), tuple(description["strengths"]))


@threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
def sigmoid(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return sigmoid(features @ kernel + bias), (n, k) float64, for (n, channels) features."""
    logits = features.astype(np.float64) @ kernel + bias
    small = np.exp(-np.abs(logits))  # never overflows
    return np.where(logits >= 0, 1, small) / (1 + small)


class Step(NamedTuple):
    """A fit of one class, with its weighted loss and accuracy on the images of validation of which it is known."""

    probe: Probe  # of two classes: absent, present
    loss: float
    accuracy: float


def train(params: "HeadParams", data: HeadData, log: Log) -> list[Trained]:
    """Fit a head for each variant of the training; see `thaw.heads.registry.train`.

    Each class is fitted at the Cs of `params.strengths`, and keeps the one with the lowest loss on validation. What is
    logged of a step are the means over all known pairs of validation, where a class whose path has ended stays at what
    it keeps.

    Raises:
        ThawError: The features are maps, or a class cannot be learnt or chosen.
    """
    require_pooled(data.features)
    for name, word in lacking(data.validation.values, data.validation.value_weights, data.classes):
        raise ThawError(f"no photograph of validation is known in which the class {name!r} is {word}")
    validation, trained = data.validation, []
    for variant, images in data.training.items():
        label_pairs.training_weights(images, None, data.classes)  # names a class that cannot be learnt
        numbers = progress.track(range(len(data.classes)), variant_text(variant), "class", len(data.classes))
        paths = [list(fit_class(images, validation, data.features, number, params)) for number in numbers]
        chosen = [min(path, key=lambda step: step.loss) for path in paths]
        kernel = np.stack([step.probe.kernel[:, 1] - step.probe.kernel[:, 0] for step in chosen], axis=1)
        bias = np.array([step.probe.bias[1] - step.probe.bias[0] for step in chosen], np.float32)
        head = LinearHead(kernel, bias, data.classes, tuple(step.probe.C for step in chosen))
        for number, scores in enumerate(_course(paths, chosen, validation)):
            log(variant, number, {"strength": sorted(params.strengths)[number]} | scores)
        p = head.probabilities(data.features[validation.rows])
        loss, accuracy = label_pairs.weighted_scores(p, validation)
        scores = {"validation_loss": loss, "validation_accuracy_weighted": accuracy}
        lowest, highest = min(head.Cs), max(head.Cs)
        strengths = f"C = {lowest:g}" if lowest == highest else f"C from {lowest:g} to {highest:g}"
        count = plural(len(data.classes), "class")
        description = f"logistic regression of each of {count} at {strengths} on {variant_text(variant)}"
        each = label_pairs.losses(p, validation)
        trained.append(Trained(head, variant, Setting(LOGISTIC, head.Cs), each.sum(axis=1), loss, scores, description))
    return trained


def fit_class(
    images: Examples, validation: Examples, features: np.ndarray, number: int, params: "HeadParams"
) -> Iterator[Step]:
    """Yield the Steps of one class, in ascending order of C, until the loss has risen twice in a row.

    Args:
        images: Those to train on, each with the views to train on.
        validation: Those to choose on.
        features: (rows, channels) of all views.
        number: The class.
        params: The section `head`.
    """
    known, seen = label_pairs.of_class(images, number), label_pairs.of_class(validation, number)
    counts, weights = known.view_counts, training_weights(known, params.class_weight)
    rows, shared = known.views[known.views != NO_VIEW], (weights / counts).repeat(counts)
    path = fit_path(read_samples(features, rows, known.labels.repeat(counts), shared), params.strengths)
    for fitted, loss, accuracy in until_worse(path, arrays.Rows(features, seen.rows), seen):
        yield Step(fitted, loss, accuracy)


def _course(paths: Sequence[list[Step]], chosen: Sequence[Step], validation: Examples) -> list[Mapping[str, float]]:
    """Return the mean scores of each step, over all known pairs of validation."""
    weights = validation.value_weights.sum(axis=0)
    course = []
    for number in range(max(map(len, paths))):
        steps = [path[number] if number < len(path) else kept for path, kept in zip(paths, chosen, strict=True)]
        loss, accuracy = (
            np.average([getattr(s, name) for s in steps], weights=weights) for name in ("loss", "accuracy")
        )
        course.append({"validation_loss": float(loss), "validation_accuracy_weighted": float(accuracy)})
    return course
