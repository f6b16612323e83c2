"""The linear head on frozen features: logistic regression or the linear discriminant, as Keras carries it on."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thaw.core import arrays, progress
from thaw.core.errors import ThawError
from thaw.features import discriminant, linear_probe
from thaw.features.examples import NO_VIEW, Examples, losses, training_weights
from thaw.features.linear_probe import Samples, until_worse
from thaw.heads import dense
from thaw.heads.protocol import Head, HeadData, Log, Setting, Trained, variant_text

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras
    from thaw.parameters.head import Head as HeadParams


LOGISTIC, DISCRIMINANT = "logistic", "discriminant"  # what fits the head, in `head.probes` and in settings
# Training images of each class, on average, up to which the discriminant is fitted beside logistic regression. Of data
# sets with 99, 181, 202 and 628 it was better on the first alone: see benchmarks/probes.py.
MAX_COMPARED = 200
PROBE_TEXTS = {LOGISTIC: "logistic regression at C =", DISCRIMINANT: "the linear discriminant at strength"}


@dataclass(frozen=True)
class LinearHead(Head):
    """Softmax(features @ kernel + bias): kernel (channels, classes) and bias (classes,) float32."""

    kernel: np.ndarray
    bias: np.ndarray
    classes: tuple[str, ...]
    C: float  # inverse strength of the penalty, as in scikit-learn, or of the shrinkage; 0 if it was not fitted here
    probe: str = LOGISTIC
    factor: float = 1.0  # of the logits, fitted to validation: see `discriminant.calibrate`

    @property
    def setting(self) -> Setting:
        return Setting(self.probe, (self.C, self.factor) if self.probe == DISCRIMINANT else (self.C,))

    def output_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, classes) float64 probabilities for (n, channels) features."""
        return linear_probe.softmax(features, self.kernel, self.bias)

    @property
    def description(self) -> dict[str, object]:
        return {"kind": "linear", "probe": self.probe, "strength": self.C}

    def attach(self, backbone: "keras.Model", features: str) -> "keras.Model":
        return dense.attach(backbone, features, self.kernel, self.bias, activation="softmax")

    def save(self, folder: Path) -> None:
        description = {"kind": "linear", "classes": self.classes, "probe": self.probe}
        dense.save(folder, self.kernel, self.bias, description | {"strength": self.C, "factor": self.factor})


def load(folder: Path) -> LinearHead:
    """Return the head that was saved in a folder."""
    kernel, bias, description = dense.load(folder)
    fitted = (description[name] for name in ("strength", "probe", "factor"))
    return LinearHead(kernel, bias, tuple(description["classes"]), *fitted)


class HeadPath(NamedTuple):
    """Heads of ascending strength that are fitted to samples."""

    fit: Callable[[Samples], Iterator[Head]]
    limit: int  # of heads


def train(params: "HeadParams", data: HeadData, log: Log) -> list[Trained]:
    """Fit heads by each of `params.probes`; see `thaw.heads.registry.train`.

    Logistic regression is fitted at the Cs of `params.strengths`, the discriminant at its own strengths. Beside
    logistic regression, the discriminant is fitted where images are few.
    """
    if data.setting:
        fit = fit_setting(data.setting, data.classes)
        return train_paths(params, data, log, {data.setting.candidate: HeadPath(fit, 1)})
    paths = {
        LOGISTIC: HeadPath(lambda samples: fit_path(samples, data.classes, params.strengths), len(params.strengths)),
        DISCRIMINANT: HeadPath(lambda samples: fit_discriminants(samples, data), len(discriminant.STRENGTHS)),
    }
    images = max(len(training) for training in data.training.values())
    if LOGISTIC in params.probes and images > MAX_COMPARED * len(data.classes):
        return train_paths(params, data, log, {LOGISTIC: paths[LOGISTIC]})
    return train_paths(params, data, log, {probe: paths[probe] for probe in params.probes})


def train_paths(params: "HeadParams", data: HeadData, log: Log, paths: Mapping[str, HeadPath]) -> list[Trained]:
    """Fit the heads of each path, for each variant of the training.

    An augmented image counts as much as a plain one: its weight is shared out over its views.

    Args:
        params: The section `head` of params.yaml.
        data: Pooled features.
        log: Gets the scores of each head on the validation split.
        paths: By the name of the probe that is fitted.

    Returns:
        All heads that were fitted.

    Raises:
        ThawError: The features are maps.
    """
    require_pooled(data.features)
    validation, validation_features = data.validation, arrays.Rows(data.features, data.validation.rows)
    trained, limit = [], sum(path.limit for path in paths.values())
    for variant, images in data.training.items():
        counts, weights = images.view_counts, training_weights(images, params.class_weight)
        rows, shared = images.views[images.views != NO_VIEW], (weights / counts).repeat(counts)
        samples = linear_probe.read_samples(data.features, rows, images.labels.repeat(counts), shared)
        fitted = (
            (probe, *scored)
            for probe, path in paths.items()
            for scored in until_worse(path.fit(samples), validation_features, validation)
        )
        heads = progress.track(fitted, variant_text(variant), "head", limit)
        for step, (probe, head, loss, accuracy) in enumerate(heads):
            scores = {"strength": head.C, "validation_loss": loss, "validation_accuracy_weighted": accuracy}
            log(variant, step, scores)
            description = f"{PROBE_TEXTS[probe]} {head.C:g} on {variant_text(variant)}"
            description += f" ({_size_text(samples.features)})"
            each = losses(head.probabilities(validation_features), validation)
            comparable = loss + (flattery(validation) if probe == DISCRIMINANT else 0)
            trained.append(Trained(head, variant, head.setting, each, comparable, scores, description))
    return trained


def _size_text(features: np.ndarray | arrays.Rows) -> str:
    size = f"{4 * math.prod(features.shape) / 1e6:,.0f} MB of features"
    return f"{size}, read in blocks at each step" if isinstance(features, arrays.Rows) else size


def flattery(validation: Examples) -> float:
    """Return by how much one number that is fitted to validation lowers the loss there, compared with new images.

    It is one over the number of images (Akaike 1974). The discriminant's factor is fitted to the images that compare it
    with logistic regression. So where they are few, it has to be better by more.
    """
    return 1 / len(np.unique(validation.groups[validation.weights > 0]))


def require_pooled(features: np.ndarray) -> None:
    """Raise ThawError if the features are maps, which a linear head does not take."""
    if features.ndim > 2:
        shape = " x ".join(str(side) for side in features.shape[1:])
        raise ThawError(
            f"`head.kind: linear` needs pooled features, but these are maps of {shape}: set backbone.pooling to avg "
            "or max"
        )


def fit_path(samples: Samples, classes: tuple[str, ...], Cs: Sequence[float]) -> Iterator[LinearHead]:  # noqa: N803
    """Fit logistic regression at each C, in ascending order: see `linear_probe.fit_path`."""
    for probe in linear_probe.fit_path(samples, Cs):
        yield LinearHead(probe.kernel, probe.bias, classes, probe.C)


def fit_discriminants(samples: Samples, data: HeadData) -> Iterator[LinearHead]:
    """Fit the linear discriminant at each of its strengths, calibrated on the validation images of `data`."""
    validation_features = arrays.Rows(data.features, data.validation.rows)
    for fitted in discriminant.fit_path(samples, discriminant.STRENGTHS):
        factor = discriminant.calibrate(fitted, validation_features, data.validation)
        yield _discriminant(fitted, factor, data.classes)


def fit_setting(setting: Setting, classes: tuple[str, ...]) -> Callable[[Samples], Iterator[LinearHead]]:
    """Return what fits the one head of a setting to samples; nothing is chosen."""
    strength, *factor = setting.values
    if setting.candidate == LOGISTIC:
        return lambda samples: fit_path(samples, classes, [strength])
    return lambda samples: (_discriminant(d, *factor, classes) for d in discriminant.fit_path(samples, [strength]))


def _discriminant(fitted: discriminant.Discriminant, factor: float, classes: tuple[str, ...]) -> LinearHead:
    kernel, bias = ((part * factor).astype(np.float32) for part in (fitted.kernel, fitted.bias))
    return LinearHead(kernel, bias, classes, fitted.strength, DISCRIMINANT, factor)
