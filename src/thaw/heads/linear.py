"""The linear head: logistic regression on frozen features, as scikit-learn fits it and as Keras carries it on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thaw.core import arrays, progress
from thaw.core.errors import ThawError
from thaw.core.files import read_json, write_json
from thaw.features import linear_probe
from thaw.features.examples import NO_VIEW, losses, training_weights
from thaw.features.linear_probe import Samples, until_worse
from thaw.heads.protocol import Head, HeadData, Log, Trained, variant_text

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras
    from thaw.parameters.head import Head as HeadParams


@dataclass(frozen=True)
class LinearHead(Head):
    """Softmax(features @ kernel + bias): kernel (channels, classes) and bias (classes,) float32."""

    kernel: np.ndarray
    bias: np.ndarray
    classes: tuple[str, ...]
    C: float  # inverse strength of the penalty, as in scikit-learn; 0 if it was not fitted here

    def output_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, classes) float64 probabilities for (n, channels) features."""
        return linear_probe.softmax(features, self.kernel, self.bias)

    @property
    def description(self) -> dict[str, object]:
        return {"kind": "linear", "strength": self.C}

    def attach(self, backbone: "keras.Model", features: str) -> "keras.Model":
        from thaw.engines.keras_setup import keras

        dense = keras.layers.Dense(len(self.bias), activation="softmax", name="probabilities")
        model = keras.Model(backbone.input, dense(backbone.get_layer(features).output), name=backbone.name)
        dense.set_weights([self.kernel, self.bias])
        return model

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for name, array in (("kernel", self.kernel), ("bias", self.bias)):
            arrays.write_rows(folder / f"{name}.npy", [array], len(array))
        write_json(folder / "head.json", {"kind": "linear", "classes": self.classes, "strength": self.C})


def load(folder: Path) -> LinearHead:
    """Return the head that was saved in a folder."""
    description = read_json(folder / "head.json")
    kernel, bias = np.load(folder / "kernel.npy"), np.load(folder / "bias.npy")
    return LinearHead(kernel, bias, tuple(description["classes"]), description["strength"])


FitPath = Callable[[Samples, tuple[str, ...], Sequence[float]], Iterator[Head]]


def train(params: "HeadParams", data: HeadData, log: Log) -> list[Trained]:
    """Fit heads at the Cs of `params.strengths`; see `thaw.heads.registry.train`."""
    return train_paths(params, data, log, fit_path)


def train_paths(params: "HeadParams", data: HeadData, log: Log, fit_path: FitPath) -> list[Trained]:
    """Fit a path of heads for each variant of the training.

    An augmented image counts as much as a plain one: its weight is shared out over its views.

    Args:
        params: The section `head` of params.yaml.
        data: Pooled features.
        log: Gets the scores of each head on the validation split.
        fit_path: Fits heads to samples of these classes, at each C in ascending order.

    Returns:
        All heads that were fitted.

    Raises:
        ThawError: The features are maps.
    """
    require_pooled(data.features)
    validation, validation_features = data.validation, data.features[data.validation.rows]
    trained, limit = [], len(params.strengths)
    for variant, images in data.training.items():
        counts, weights = images.view_counts, training_weights(images, params.class_weight)
        x = data.features[images.views[images.views != NO_VIEW]].astype(np.float32)
        samples = Samples(x, images.labels.repeat(counts), (weights / counts).repeat(counts))
        path = fit_path(samples, data.classes, params.strengths)
        heads = progress.track(until_worse(path, validation_features, validation), variant_text(variant), "head", limit)
        for step, (head, loss, accuracy) in enumerate(heads):
            scores = {"strength": head.C, "validation_loss": loss, "validation_accuracy_weighted": accuracy}
            log(variant, step, scores)
            description = f"logistic regression at C = {head.C:g} on {variant_text(variant)}"
            description += f" ({x.nbytes / 1e6:.0f} MB of features)"
            each = losses(head.probabilities(validation_features), validation)
            trained.append(Trained(head, variant, each, loss, scores, description))
    return trained


def require_pooled(features: np.ndarray) -> None:
    """Raise ThawError if the features are maps, which a linear head does not take."""
    if features.ndim > 2:
        shape = " x ".join(str(side) for side in features.shape[1:])
        raise ThawError(
            f"`head.kind: linear` needs pooled features, but these are maps of {shape}: set backbone.pooling to avg "
            "or max"
        )


def fit_path(samples: Samples, classes: tuple[str, ...], Cs: Sequence[float]) -> Iterator[LinearHead]:  # noqa: N803
    """Fit a linear head at each C, in ascending order: see `linear_probe.fit_path`."""
    for probe in linear_probe.fit_path(samples, Cs):
        yield LinearHead(probe.kernel, probe.bias, classes, probe.C)
