"""More classes for a model that has some: its old rows as they are, beside them new ones.

The new rows are fitted on the frozen features against the old ones. A photograph of a new class asks for that class;
one of none of them asks for what the old model answers: distillation with hard labels (Touvron et al. 2021, arXiv
2012.12877). Since the old logits do not move, the fit is logistic regression between the new classes and one more, the
old answer, whose logit, the largest of the old ones, is given. It is convex, and its decision is the one that counts:
whether a new class takes the place of the old answer.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from thaw import metrics
from thaw.errors import ThawError
from thaw.files import below_home
from thaw.heads import ITERATIONS, LinearHead, standardised

Scores = dict[str, float | int | None]
KEEP = 4  # an old answer that is lost costs as much as so many new ones that are missed
NONE = "not "  # begins the label of photographs that show none of the new classes, as Open Images' negatives have it


@dataclass(frozen=True)
class ExtendedHead:
    """The rows of all classes, the old ones first, and the labels of the photographs that the new ones came from."""

    whole: LinearHead
    known: int  # classes that the model had
    classes: tuple[str, ...]  # labels of the photographs: the new classes, and one that begins with NONE

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs."""
        return self.whole.classes

    @property
    def strength(self) -> float:
        return self.whole.strength

    @property
    def description(self) -> dict[str, object]:
        """What the report says of it."""
        return {"kind": "extended", "strength": self.strength, "known": self.known, "classes": len(self.outputs)}

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return (n, classes) float64 probabilities of the labels, as `collapse` makes them."""
        return self.collapse(self.whole.probabilities(features))

    def collapse(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the (n, classes) probabilities of the labels from those of all classes.

        The likeliest of the old ones stands for them, as it does in the fit: so a label is the likeliest where the
        model's answer bears it. Their sum would call a photograph `not alpaca` that the model calls an alpaca.
        """
        new = iter(probabilities[:, self.known :].T)
        old = probabilities[:, : self.known].max(axis=1)
        labels = np.stack([old if name.startswith(NONE) else next(new) for name in self.classes], axis=1)
        return labels / labels.sum(axis=1, keepdims=True)

    def stand_ins(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Return the class (n,) among all that stands for each label (n,): of the old ones the likeliest by
        `probabilities` (n, all classes)."""
        old = iter(range(self.known, len(self.outputs)))
        new = np.array([-1 if name.startswith(NONE) else next(old) for name in self.classes])[labels]
        return np.where(new < 0, probabilities[:, : self.known].argmax(axis=1), new)

    def before(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, known) float64 probabilities of (n, channels) features that the model gave before."""
        kernel, bias = self.whole.kernel[:, : self.known], self.whole.bias[: self.known]
        return LinearHead(kernel, bias, self.outputs[: self.known], 0.0).probabilities(features)

    def scores(self, probabilities: np.ndarray, before: np.ndarray, labels: np.ndarray) -> Scores:
        """Return what the new classes did to the answers: probabilities (n, all classes) now, those (n, known) before,
        and labels (n,).

        `agreement`: of photographs without a new class, the share whose likeliest class is the one before;
        `accuracy_before` and `accuracy_after`: of those with one, the share answered right. With Wilson's intervals.
        """
        right = self.stand_ins(labels, probabilities)
        without = np.char.startswith(np.array(self.classes)[labels], NONE)
        answers, answers_before = probabilities.argmax(axis=1), before.argmax(axis=1)
        found: Scores = {"without_new": int(without.sum()), "with_new": int((~without).sum())}
        for name, hits in (
            ("agreement", (answers == answers_before)[without]),
            ("accuracy_before", (answers_before == right)[~without]),
            ("accuracy_after", (answers == right)[~without]),
        ):
            ends = metrics.wilson(int(hits.sum()), len(hits)) if len(hits) else (None, None)
            share = float(hits.mean()) if len(hits) else None
            found |= {name: share, f"{name}_low": ends[0], f"{name}_high": ends[1]}
        return found

    def attach(self, backbone, features: str):
        """Return the Keras model `backbone` up to its layer `features` with the rows of all classes behind it."""
        return self.whole.attach(backbone, features)

    def save(self, folder: Path) -> None:
        """Write the head into a folder, which is made where there is none."""
        self.whole.save(folder)
        path = folder / "head.json"
        description = json.loads(path.read_text(encoding="utf-8"))
        description |= {"kind": "extended", "known": self.known, "labels": self.classes}
        path.write_text(json.dumps(description, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ExtendedHead":
        description = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        return cls(LinearHead.load(folder), description["known"], tuple(description["labels"]))


def known_head(extend: bool | str, backbone: Path) -> LinearHead:
    """Return the rows that a model has: with True those of the network in the folder `backbone`, else of a model file.

    Raises ThawError where it has none, or where its features are not those of the folder's network.
    """
    from thaw import models  # Keras, only where a model is extended
    from thaw.backbone_names import FEATURES
    from thaw.keras import keras

    network, metadata = models.load(backbone / "backbone.keras")
    if extend is not True:
        path = below_home(extend, "head.extend")
        if not path.is_file():
            raise ThawError(f"head.extend: {path} is missing")
        model, metadata = models.load(path)
        _compare_layers(network, model, FEATURES, extend)
        network = model
    last = network.layers[-1]
    if not isinstance(last, keras.layers.Dense) or "class_names" not in metadata:
        what = f"the backbone {network.name} comes without its classes" if extend is True else f"{extend} has no rows"
        raise ThawError(f"head.extend: {what}: EfficientNet-Lite's or a model with a linear head can be extended")
    kernel, bias = last.get_weights()
    return LinearHead(kernel, bias, _told_apart(metadata["class_names"]), 0.0)


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Number names that come again: ImageNet has two kinds of crane."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return tuple(found)


def _compare_layers(network, model, last: str, path: str) -> None:
    """Raise ThawError where `model` lacks layers of `network` up to `last`, with their weights, before its head."""
    names = [layer.name for layer in network.layers]
    wanted = network.layers[: names.index(last) + 1]
    found = {layer.name: layer for layer in model.layers[:-1]}
    for name in sorted(found.keys() ^ {layer.name for layer in wanted}):
        has = "has a" if name in found else "has no"
        raise ThawError(f"head.extend: {path} is of another backbone: it {has} layer {name}")
    for layer in wanted:
        if type(layer) is not type(found[layer.name]):  # one that pools otherwise, mostly
            kinds = f"{type(found[layer.name]).__name__}, and not {type(layer).__name__}"
            raise ThawError(f"head.extend: {path} is of another backbone.pooling: it has {kinds}")
        mine, its = layer.get_weights(), found[layer.name].get_weights()
        if len(mine) != len(its) or any(not np.array_equal(a, b) for a, b in zip(mine, its, strict=True)):
            raise ThawError(
                f"head.extend: {path} was fine-tuned, from {layer.name} on: set backbone.weights to it as well, for "
                "its rows stand on its own features"
            )


def fit_path(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    classes: tuple[str, ...],
    strengths: Sequence[float],
    known: LinearHead,
) -> Iterator[ExtendedHead]:
    """Fit rows for the new classes beside those of `known` at each strength (C, ascending), as `heads.fit_path` does.

    features (n, channels) float32, labels (n,) int, weights (n,) float; photographs of no new class weigh KEEP times
    theirs. Raises ThawError where no label or more than one begins with NONE, or a new class has an old one's name.
    """
    none = [label for label, name in enumerate(classes) if name.startswith(NONE)]
    if len(none) != 1:
        raise ThawError(
            f"head.extend wants photographs that show none of the new classes, under one label that begins with "
            f"'{NONE}', such as '{NONE}{classes[0]}': there are {', '.join(classes)}"
        )
    names = [name for name in classes if not name.startswith(NONE)]
    if there := {name.lower() for name in names} & {name.lower() for name in known.classes}:
        raise ThawError(f"head.extend: the model has a class {sorted(there)[0]!r} already: rename the new one")
    x, mean, scale = standardised(features, weights)
    with threadpool_limits(1):
        given = (features.astype(np.float64) @ known.kernel + known.bias).max(axis=1)
    weights = weights * np.where(np.isin(labels, none), KEEP, 1)
    is_label = labels[:, None] == np.array([*none, *(i for i in range(len(classes)) if i not in none)])
    start = np.zeros((x.shape[1] + 1, len(names)))  # the last row is the bias

    def loss(flat: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
        kernel = flat.reshape(start.shape)
        logs = log_softmax(np.column_stack([given, x @ kernel[:-1] + kernel[-1]]), axis=1)
        errors = weights[:, None] * (np.exp(logs) - is_label)[:, 1:]
        slope = np.vstack([x.T @ errors + kernel[:-1] / strength, errors.sum(axis=0)])
        value = -(weights * logs[is_label]).sum() + (kernel[:-1] ** 2).sum() / (2 * strength)
        return value, slope.ravel()

    with threadpool_limits(1):
        for strength in sorted(strengths):
            options = {"maxiter": ITERATIONS, "gtol": 1e-5}
            found = minimize(loss, start.ravel(), (strength,), "L-BFGS-B", jac=True, options=options)
            start = found.x.reshape(start.shape)
            kernel = start[:-1] / scale[:, None]
            bias = start[-1] - mean @ kernel
            rows = LinearHead(
                np.hstack([known.kernel, kernel.astype(np.float32)]),
                np.concatenate([known.bias, bias.astype(np.float32)]),
                (*known.classes, *names),
                strength,
            )
            yield ExtendedHead(rows, len(known.classes), classes)
