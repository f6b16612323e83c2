"""The linear head: logistic regression on frozen features, as scikit-learn fits it and as Keras carries it on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from thaw import arrays
from thaw.files import whole_folder

# Enough for convergence at every strength that was tried; a warm start from the weaker one needs far fewer.
ITERATIONS = 2000


@dataclass(frozen=True)
class LinearHead:
    """Softmax(features @ kernel + bias): kernel (channels, classes) and bias (classes,) float32."""

    kernel: np.ndarray
    bias: np.ndarray
    classes: tuple[str, ...]
    strength: float

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return (n, classes) float64 probabilities of (n, channels) features."""
        logits = features.astype(np.float64) @ self.kernel + self.bias
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def save(self, folder: Path) -> None:
        with whole_folder(folder) as temporary:
            for name, array in (("kernel", self.kernel), ("bias", self.bias)):
                arrays.write_rows(temporary / f"{name}.npy", [array], len(array))
            description = {"kind": "linear", "classes": self.classes, "strength": self.strength}
            (temporary / "head.json").write_text(
                json.dumps(description, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
            )

    @classmethod
    def load(cls, folder: Path) -> "LinearHead":
        description = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        kernel, bias = np.load(folder / "kernel.npy"), np.load(folder / "bias.npy")
        return cls(kernel, bias, tuple(description["classes"]), description["strength"])


def fit_path(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: tuple[str, ...], strengths: list[float]
) -> Iterator[LinearHead]:
    """Fit multinomial logistic regression at each strength (C, ascending), each starting from the one before.

    features (n, channels) float32, labels (n,) int, weights (n,) float. Features are standardised for the fit, so
    that the penalty treats every channel alike, and the scale is folded into the kernel. Computed on one thread:
    sums over several are not the same on every machine.
    """
    mean = np.average(features, axis=0, weights=weights)
    scale = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights))
    scale[scale < 1e-6] = 1  # a channel that never fires
    standardised = (features - mean) / scale
    model = LogisticRegression(max_iter=ITERATIONS, tol=1e-5, warm_start=True)
    with threadpool_limits(1):
        for strength in sorted(strengths):
            model.set_params(C=strength).fit(standardised, labels, sample_weight=weights)
            kernel, bias = model.coef_.T, model.intercept_
            if len(classes) == 2:  # scikit-learn keeps one logit, of the second class
                kernel, bias = np.hstack([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
            kernel = kernel / scale[:, None]
            bias = bias - mean @ kernel
            yield LinearHead(kernel.astype(np.float32), bias.astype(np.float32), classes, strength)
