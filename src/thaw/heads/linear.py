"""The linear head: logistic regression on frozen features, as scikit-learn fits it and as Keras carries it on."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from thaw.core import arrays, progress
from thaw.core.errors import ThawError
from thaw.core.files import read_json, write_json
from thaw.features.examples import NO_VIEW, Examples, losses, training_weights, weighted_scores
from thaw.heads.protocol import Head, HeadData, Log, Trained, variant_text

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras
    from thaw.parameters.head import Head as HeadParams

# Enough for convergence at every C that was tried; a fit that starts from the one before needs far fewer.
MAX_ITERATIONS = 2000
MAX_RISES = 2  # of the validation loss in a row; then a path ends


@dataclass(frozen=True)
class LinearHead(Head):
    """Softmax(features @ kernel + bias): kernel (channels, classes) and bias (classes,) float32."""

    kernel: np.ndarray
    bias: np.ndarray
    classes: tuple[str, ...]
    C: float  # inverse strength of the penalty, as in scikit-learn; 0 if it was not fitted here

    @threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
    def output_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, classes) float64 probabilities for (n, channels) features."""
        logits = features.astype(np.float64) @ self.kernel + self.bias
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

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


@dataclass(frozen=True)
class Samples:
    """What a head is fitted to."""

    features: np.ndarray  # (n, channels) float32
    labels: np.ndarray  # (n,) int
    weights: np.ndarray  # (n,) float


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
    """Fit multinomial logistic regression at each C, in ascending order. Each fit starts from the one before.

    Features are standardised for the fit, so that the penalty treats every channel alike. The scale is then folded
    into the kernel. All is computed on one thread: sums over several are not the same on every machine.
    """
    from sklearn.linear_model import LogisticRegression  # takes 0.7 s, which loading a head does not need

    x, mean, scale = standardised(samples.features, samples.weights)
    x = x.astype(np.float32)  # half the memory, so half the time; losses are the same to 1e-4
    model = LogisticRegression(max_iter=MAX_ITERATIONS, tol=1e-5, warm_start=True)
    with threadpool_limits(1):
        for C in sorted(Cs):  # noqa: N806
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The number of unique classes")  # of few images, many are usual
                model.set_params(C=C).fit(x, samples.labels, sample_weight=samples.weights)
            kernel, bias = model.coef_.T, model.intercept_
            if len(classes) == 2:  # scikit-learn keeps one logit, of the second class
                kernel, bias = np.hstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
            kernel = kernel / scale[:, None]
            bias = bias - mean @ kernel
            yield LinearHead(kernel.astype(np.float32), bias.astype(np.float32), classes, C)


def until_worse(
    path: Iterable[Head], features: np.ndarray, validation: Examples
) -> Iterator[tuple[Head, float, float]]:
    """Yield each head of a path with its weighted loss and accuracy on the (n, channels) features of validation.

    The path ends when the loss has risen MAX_RISES times in a row. The weaker penalties that follow take longest, and
    only fit the training images more closely.
    """
    rises, last = 0, np.inf
    for head in path:
        loss, accuracy = weighted_scores(head.probabilities(features), validation)
        yield head, loss, accuracy
        rises, last = rises + 1 if loss > last else 0, loss
        if rises == MAX_RISES:
            return


def standardised(features: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (n, channels) features less their weighted mean, divided by their deviation; the mean; the deviation.

    The deviation (channels,) is 1 for a channel that never changes.
    """
    mean = np.average(features, axis=0, weights=weights)
    scale = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights))
    scale[scale < 1e-6] = 1
    return (features - mean) / scale, mean, scale
