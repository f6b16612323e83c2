"""Heads: the linear one, logistic regression on frozen features as scikit-learn fits it and Keras carries it on.

A head has `classes`, (n, classes) float64 `probabilities` of features or maps, and stands behind a backbone once it
is told to `attach` itself; the model then has its `outputs`. `load` reads one of any kind; the other kinds are those of
`network_head` and `extension`.
"""

import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from thaw import arrays, examples
from thaw.errors import ThawError
from thaw.files import read_json

# Enough for convergence at every strength that was tried; a warm start from the weaker one needs far fewer.
ITERATIONS = 2000
RISES = 2  # of the validation loss, one after the other, end a path


@dataclass(frozen=True)
class LinearHead:
    """Softmax(features @ kernel + bias): kernel (channels, classes) and bias (classes,) float32."""

    kernel: np.ndarray
    bias: np.ndarray
    classes: tuple[str, ...]
    strength: float

    @threadpool_limits.wrap(limits=1)  # sums over several threads are not the same on every machine
    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return (n, classes) float64 probabilities of (n, channels) features."""
        logits = features.astype(np.float64) @ self.kernel + self.bias
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs."""
        return self.classes

    @property
    def description(self) -> dict[str, object]:
        """What the report says of it."""
        return {"kind": "linear", "strength": self.strength}

    def attach(self, backbone, features: str):
        """Return the Keras model `backbone` up to its layer `features` with this head behind it."""
        from thaw.keras import keras

        dense = keras.layers.Dense(len(self.bias), activation="softmax", name="probabilities")
        model = keras.Model(backbone.input, dense(backbone.get_layer(features).output), name=backbone.name)
        dense.set_weights([self.kernel, self.bias])
        return model

    def save(self, folder: Path) -> None:
        """Write the head into a folder, which is made where there is none."""
        folder.mkdir(exist_ok=True)
        for name, array in (("kernel", self.kernel), ("bias", self.bias)):
            arrays.write_rows(folder / f"{name}.npy", [array], len(array))
        description = {"kind": "linear", "classes": self.classes, "strength": self.strength}
        text = json.dumps(description, ensure_ascii=False, indent=1)
        (folder / "head.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "LinearHead":
        description = read_json(folder / "head.json")
        kernel, bias = np.load(folder / "kernel.npy"), np.load(folder / "bias.npy")
        return cls(kernel, bias, tuple(description["classes"]), description["strength"])


def load(folder: Path):
    """Return the head that a folder holds: a LinearHead, an ExtendedHead, or a NetworkHead, which wants Keras."""
    kind = read_json(folder / "head.json")["kind"]
    if kind == "linear":
        return LinearHead.load(folder)
    if kind == "extended":
        from thaw.extension import ExtendedHead

        return ExtendedHead.load(folder)
    from thaw.network_head import NetworkHead

    return NetworkHead.load(folder)


def require_pooled(features: np.ndarray) -> None:
    """Raise ThawError where the features are maps, which a linear head does not take."""
    if features.ndim > 2:
        shape = " x ".join(str(side) for side in features.shape[1:])
        raise ThawError(f"head.kind linear wants pooled features and these are maps of {shape}: set backbone.pooling")


def fit_path(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: tuple[str, ...], strengths: list[float]
) -> Iterator[LinearHead]:
    """Fit multinomial logistic regression at each strength (C, ascending), each starting from the one before.

    features (n, channels) float32, labels (n,) int, weights (n,) float. Features are standardised for the fit, so
    that the penalty treats every channel alike, and the scale is folded into the kernel. Computed on one thread:
    sums over several are not the same on every machine.
    """
    from sklearn.linear_model import LogisticRegression  # 0.7 s that those who only load a head need not wait

    x, mean, scale = standardised(features, weights)
    x = x.astype(np.float32)  # half the memory to go through, so half the time; losses are the same to 1e-4
    model = LogisticRegression(max_iter=ITERATIONS, tol=1e-5, warm_start=True)
    with threadpool_limits(1):
        for strength in sorted(strengths):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The number of unique classes")  # of few photographs, many are usual
                model.set_params(C=strength).fit(x, labels, sample_weight=weights)
            kernel, bias = model.coef_.T, model.intercept_
            if len(classes) == 2:  # scikit-learn keeps one logit, of the second class
                kernel, bias = np.hstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
            kernel = kernel / scale[:, None]
            bias = bias - mean @ kernel
            yield LinearHead(kernel.astype(np.float32), bias.astype(np.float32), classes, strength)


def until_worse(
    path: Iterable[LinearHead], features: np.ndarray, validation: examples.Examples
) -> Iterator[tuple[LinearHead, float, float]]:
    """Yield each head of a path with its weighted loss and accuracy on the (n, channels) features of validation.

    Ends when the loss has risen RISES times in a row: the weaker penalties behind are the ones that take longest, and
    only fit the training photographs more closely.
    """
    rises, last = 0, np.inf
    for head in path:
        loss, accuracy = examples.weighted_scores(head.probabilities(features), validation)
        yield head, loss, accuracy
        rises, last = rises + 1 if loss > last else 0, loss
        if rises == RISES:
            return


def standardised(features: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (n, channels) features less their weighted mean, in units of their deviation; the mean and the deviation,
    which is 1 for a channel that never fires."""
    mean = np.average(features, axis=0, weights=weights)
    scale = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights))
    scale[scale < 1e-6] = 1
    return (features - mean) / scale, mean, scale
