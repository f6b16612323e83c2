"""New classes for a model that has classes already: its old rows stay as they are, new rows stand beside them.

The new rows are fitted on the frozen features, against the old rows. The target of an image of a new class is that
class. The target of any other image is the class that the old model predicts: distillation with hard labels (Touvron
et al. 2021, arXiv 2012.12877). The old logits do not move. So the fit is logistic regression between the new classes
and one more, "old", whose logit is given: the largest of the old ones. It is convex. What it decides is what counts:
whether a new class replaces the old prediction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from thaw.core import keras_file
from thaw.core.errors import ThawError
from thaw.core.files import read_json, write_json
from thaw.core.paths import named_path
from thaw.core.task import MULTI
from thaw.features.linear_probe import MAX_ITERATIONS, Samples, standardised
from thaw.heads import linear
from thaw.heads.linear import LinearHead
from thaw.heads.protocol import (
    Head,
    HeadData,
    Log,
    Setting,
    Trained,
    check_negatives,
    check_new,
    is_negative,
    number_repeated,
)

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras
    from thaw.parameters.head import Head as HeadParams

NEGATIVE_WEIGHT = 4  # losing one old prediction costs as much as missing this many images of a new class


@dataclass(frozen=True)
class ExtendedHead(Head):
    """The rows of all classes, the old ones first, and the labels of the images that the new ones were fitted to."""

    extends: ClassVar[bool] = True

    full_head: LinearHead
    old_count: int  # classes that the model had before
    classes: tuple[str, ...]  # labels of images: the new classes, and one that `is_negative`
    image: dict[str, object] | None = None  # the section `image` with which the model was trained, if it has a record

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.full_head.classes

    @property
    def C(self) -> float:  # noqa: N802
        return self.full_head.C

    @property
    def setting(self) -> Setting:
        return self.full_head.setting

    @property
    def description(self) -> dict[str, object]:
        return {"kind": "extended", "strength": self.C, "known": self.old_count, "classes": len(self.outputs)}

    def output_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, all classes) float64 probabilities for (n, channels) features."""
        return self.full_head.output_probabilities(features)

    def label_probabilities(self, output_probabilities: np.ndarray) -> np.ndarray:
        """Return the (n, classes) probabilities of the labels, from those of all classes.

        The likeliest old class stands for all old ones, as it does in the fit. So the likeliest label always agrees
        with the model's prediction. The sum of the old ones would label an image `not alpaca` that the model calls an
        alpaca.
        """
        new = iter(output_probabilities[:, self.old_count :].T)
        old = output_probabilities[:, : self.old_count].max(axis=1)
        labels = np.stack([old if is_negative(name) else next(new) for name in self.classes], axis=1)
        return labels / labels.sum(axis=1, keepdims=True)

    def outputs_for_labels(self, labels: np.ndarray, output_probabilities: np.ndarray) -> np.ndarray:
        """Return for each label (n,) the number of the class that stands for it among all classes, (n,) int.

        Of the old classes it is the likeliest.
        """
        numbers = iter(range(self.old_count, len(self.outputs)))
        new = np.array([-1 if is_negative(name) else next(numbers) for name in self.classes])[labels]
        return np.where(new < 0, output_probabilities[:, : self.old_count].argmax(axis=1), new)

    def before(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, old classes) float64 probabilities of the model before, for (n, channels) features."""
        kernel, bias = self.full_head.kernel[:, : self.old_count], self.full_head.bias[: self.old_count]
        return LinearHead(kernel, bias, self.outputs[: self.old_count], 0.0).probabilities(features)

    def attach(self, backbone: "keras.Model", features: str) -> "keras.Model":
        return self.full_head.attach(backbone, features)

    def save(self, folder: Path) -> None:
        self.full_head.save(folder)
        path = folder / "head.json"
        description = read_json(path) | {"kind": "extended", "known": self.old_count, "labels": self.classes}
        description["image"] = self.image
        write_json(path, description)


def load(folder: Path) -> ExtendedHead:
    """Return the head that was saved in a folder."""
    description = read_json(folder / "head.json")
    labels, image = tuple(description["labels"]), description.get("image")
    return ExtendedHead(linear.load(folder), description["known"], labels, image)


def train(params: "HeadParams", data: HeadData, log: Log) -> list[Trained]:
    """Extend the model that `params.extend` names, at the Cs of `params.strengths`; see `thaw.heads.registry.train`."""
    old_head = read_old_head(params.extend, data.backbone)
    strengths = data.setting.values if data.setting else params.strengths
    fit = partial(fit_path, old_head, classes=data.classes, Cs=strengths)
    trained = linear.train_paths(params, data, log, {linear.LOGISTIC: linear.HeadPath(fit, len(strengths))})
    image = read_image(params.extend)
    return [replace(each, head=replace(each.head, image=image)) for each in trained]


def read_image(extend: bool | str) -> dict[str, object] | None:
    """Return the section `image` with which the model to extend was trained; None for a published network."""
    return None if extend is True else keras_file.read_metadata(named_path(extend, "head.extend")).get("image")


def read_old_head(extend: bool | str, backbone: Path) -> LinearHead:
    """Return the rows of the model to extend.

    With True it is the network in the folder `backbone`, else the `.keras` file of that name. Raises ThawError if the
    model has no rows, or if its features are not those of the folder's network.
    """
    from thaw.backbones.cut_points import FEATURES
    from thaw.engines import model_files  # imports Keras, which only extending needs
    from thaw.engines.keras_setup import keras

    network, metadata = model_files.load(backbone / "backbone.keras")
    if extend is not True:
        path = named_path(extend, "head.extend")
        if not path.is_file():
            raise ThawError(f"head.extend: {path} is missing")
        model, metadata = model_files.load(path)
        if metadata.get("task") == MULTI:
            raise ThawError(f"head.extend: {extend} gives several labels: only a model of one label can be extended")
        _compare_layers(network, model, FEATURES, extend)
        network = model
    last = network.layers[-1]
    if not isinstance(last, keras.layers.Dense) or "class_names" not in metadata:
        raise ThawError(
            f"head.extend: the backbone {network.name} comes without its classes: set backbone.top to true"
            if extend is True
            else f"head.extend: {extend} has no rows: only a model with a linear head can be extended"
        )
    kernel, bias = last.get_weights()
    return LinearHead(kernel, bias, number_repeated(metadata["class_names"]), 0.0)


def _compare_layers(network: "keras.Model", model: "keras.Model", last: str, path: str) -> None:
    """Compare the layers of `model` below its head with those of `network`.

    Args:
        network: The backbone of this pipeline.
        model: The model to extend.
        last: The last layer of `network` to compare.
        path: Where `model` comes from, for the error.

    Raises:
        ThawError: A layer is missing in one of the two, or has other weights.
    """
    names = [layer.name for layer in network.layers]
    expected = network.layers[: names.index(last) + 1]
    own = {layer.name: layer for layer in model.layers[:-1]}
    for name in sorted(own.keys() ^ {layer.name for layer in expected}):
        has = "has a" if name in own else "has no"
        raise ThawError(f"head.extend: {path} is of another backbone: it {has} layer {name}")
    for layer in expected:
        if type(layer) is not type(own[layer.name]):  # mostly a pooling of another kind
            kinds = f"{type(own[layer.name]).__name__}, and not {type(layer).__name__}"
            raise ThawError(f"head.extend: {path} is of another backbone.pooling: it has {kinds}")
        for key in ("kind", "scale", "offset"):  # of tokens; of pixels
            if (old := getattr(own[layer.name], key, None)) != (new := getattr(layer, key, None)):
                raise ThawError(
                    f"head.extend: {path} is of another backbone: {key} of its layer {layer.name} is {old}, not {new}"
                )
        weights, own_weights = layer.get_weights(), own[layer.name].get_weights()
        if getattr(layer, "files", None) != getattr(own[layer.name], "files", None):  # of a network from a file
            raise ThawError(f"head.extend: {path} is of another backbone: its network is from another file")
        if len(weights) != len(own_weights) or any(
            not np.array_equal(a, b) for a, b in zip(weights, own_weights, strict=True)
        ):
            raise ThawError(
                f"head.extend: {path} was fine-tuned, from {layer.name} on: set backbone.weights to it as well, "
                "because its rows belong to its own features"
            )


def fit_path(
    old_head: LinearHead,
    samples: Samples,
    classes: tuple[str, ...],
    Cs: Sequence[float],  # noqa: N803
) -> Iterator[ExtendedHead]:
    """Fit rows for the new classes beside the old rows, at each C in ascending order.

    Args:
        old_head: The rows of the model to extend.
        samples: Images of the new classes, and images that show none of them; these weigh NEGATIVE_WEIGHT times more.
        classes: The labels of the samples.
        Cs: Inverse strengths of the penalty on the new rows, as in scikit-learn.

    Yields:
        The extended head for each C. Each fit starts from the one before.

    Raises:
        ThawError: Not exactly one label `is_negative`, or a new class has the name of an old one.
    """
    check_negatives(classes)
    negative = [label for label, name in enumerate(classes) if is_negative(name)]
    names = [name for name in classes if not is_negative(name)]
    check_new(classes, old_head.classes)
    features = samples.features[:]  # held, however many they are
    x, mean, scale = standardised(features, samples.weights, shrinkage=0)
    with threadpool_limits(1):
        old_logits = (features.astype(np.float64) @ old_head.kernel + old_head.bias).max(axis=1)
    weights = samples.weights * np.where(np.isin(samples.labels, negative), NEGATIVE_WEIGHT, 1)
    is_label = samples.labels[:, None] == np.array([*negative, *(i for i in range(len(classes)) if i not in negative)])
    rows = np.zeros((x.shape[1] + 1, len(names)))  # the last row is the bias

    def loss(flat: np.ndarray, C: float) -> tuple[float, np.ndarray]:  # noqa: N803
        kernel = flat.reshape(rows.shape)
        logs = log_softmax(np.column_stack([old_logits, x @ kernel[:-1] + kernel[-1]]), axis=1)
        errors = weights[:, None] * (np.exp(logs) - is_label)[:, 1:]
        gradient = np.vstack([x.T @ errors + kernel[:-1] / C, errors.sum(axis=0)])
        value = -(weights * logs[is_label]).sum() + (kernel[:-1] ** 2).sum() / (2 * C)
        return value, gradient.ravel()

    with threadpool_limits(1):
        for C in sorted(Cs):  # noqa: N806
            options = {"maxiter": MAX_ITERATIONS, "gtol": 1e-5}
            rows = minimize(loss, rows.ravel(), (C,), "L-BFGS-B", jac=True, options=options).x.reshape(rows.shape)
            kernel = rows[:-1] / scale[:, None]
            bias = rows[-1] - mean @ kernel
            full_head = LinearHead(
                np.hstack([old_head.kernel, kernel.astype(np.float32)]),
                np.concatenate([old_head.bias, bias.astype(np.float32)]),
                (*old_head.classes, *names),
                C,
            )
            yield ExtendedHead(full_head, len(old_head.classes), classes)
