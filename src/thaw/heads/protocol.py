"""What every head does, what it is trained on, and what a training returns."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np

from thaw.core.errors import ThawError
from thaw.core.task import SINGLE
from thaw.features.examples import Examples

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras

Log = Callable[[str, int, dict[str, float]], None]  # (name of the variant, step, scores)
NEGATIVE_PREFIX = "not "  # begins the label of images that show no new class, as Open Images' negatives have it


def is_negative(label: str) -> bool:
    """Return whether images with this label show none of the classes that a model is extended by."""
    return label.startswith(NEGATIVE_PREFIX)


def check_negatives(classes: Sequence[str]) -> None:
    """Raise ThawError unless exactly one of the labels is that of images without the new classes."""
    if sum(map(is_negative, classes)) != 1:
        raise ThawError(
            f"head.extend needs photographs that show none of the new classes, under one label that begins with "
            f"'{NEGATIVE_PREFIX}', such as '{NEGATIVE_PREFIX}{classes[0]}': there are {', '.join(classes)}"
        )


def check_new(classes: Sequence[str], old: Sequence[str]) -> None:
    """Raise ThawError if a label, other than that of the negatives, has the name of a class of the extended model."""
    names = {name.lower() for name in classes if not is_negative(name)}
    if both := names & {name.lower() for name in old}:
        raise ThawError(f"head.extend: the model has a class {min(both)!r} already: rename the new one")


def number_repeated(names: Sequence[str]) -> tuple[str, ...]:
    """Number the names that are repeated: ImageNet has two kinds of crane."""
    counts: Counter[str] = Counter()
    numbered = []
    for name in names:
        counts[name] += 1
        numbered.append(f"{name} ({counts[name]})" if counts[name] > 1 else name)
    return tuple(numbered)


class Head(Protocol):
    """A classifier on the features of a frozen backbone.

    Images have one of `classes` as label. The trained model has one output for each name in `outputs`. These are the
    same, unless the head `extends` a model: then the outputs also include the old classes, which are no labels.
    A head that inherits from this class needs only `classes`, `description`, `output_probabilities`, `attach`, `save`.
    """

    classes: tuple[str, ...]
    extends: ClassVar[bool] = False
    task: ClassVar[str] = SINGLE  # MULTI: the outputs are the probabilities of classes that may be there together

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs."""
        return self.classes

    @property
    def description(self) -> dict[str, object]:
        """The kind and the size, for the report."""
        ...

    def output_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, outputs) float64 probabilities for (n, ...) features or maps."""
        ...

    def label_probabilities(self, output_probabilities: np.ndarray) -> np.ndarray:
        """Return the (n, classes) probabilities of the labels, from those of the outputs."""
        return output_probabilities

    def outputs_for_labels(self, labels: np.ndarray, output_probabilities: np.ndarray) -> np.ndarray:
        """Return for each label (n,) the number of the output that stands for it, (n,) int."""
        return labels

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, classes) float64 probabilities of the labels for (n, ...) features or maps."""
        return self.label_probabilities(self.output_probabilities(features))

    def before(self, features: np.ndarray) -> np.ndarray:
        """Return the (n, old classes) probabilities of the model that was extended; only where `extends`."""
        raise NotImplementedError(f"{type(self).__name__} extends no model")

    def attach(self, backbone: "keras.Model", features: str) -> "keras.Model":
        """Return the model: `backbone` up to its layer `features`, with this head behind it."""
        ...

    def save(self, folder: Path) -> None:
        """Write the head into a folder, which is made if it is missing. Its `head.json` names the `kind`."""
        ...


# Variants of the training, as metrics have them. With several presets of augmentation, each is a variant of its name.
PLAIN, AUGMENTED = "plain", "augmented"


def variant_text(variant: str) -> str:
    """Return what a variant is trained on, for the terminal."""
    return f"{variant} photographs" if variant in (PLAIN, AUGMENTED) else f"photographs augmented {variant}"


class Setting(NamedTuple):
    """What validation chose for a head: what a head of all images is trained with, when folds have chosen."""

    candidate: str  # such as `logistic`; settings of one candidate differ in their values alone
    values: tuple[float, ...]  # such as the strength of the penalty, or the number of epochs


@dataclass(frozen=True)
class HeadData:
    """What heads are trained on. The views of the images are rows of `features`."""

    features: np.ndarray  # (rows, channels), or maps (rows, height, width, channels), float16; a memory map
    training: Mapping[str, Examples]  # by variant: the training images, each with the views to train on
    validation: Examples  # with a `setting`, the training images: nothing is chosen
    classes: tuple[str, ...]
    backbone: Path  # folder of the network that computed the features
    setting: Setting | None = None  # the one to train with; None: validation chooses


@dataclass(frozen=True)
class Trained:
    """A trained head and its quality on the validation split."""

    head: Head
    variant: str  # PLAIN: trained on plain views alone
    setting: Setting
    losses: np.ndarray  # (n,) of each image of validation
    loss: float  # chooses between heads: their weighted mean, and more where more numbers were fitted to validation
    scores: dict[str, float]  # as they were logged
    description: str  # for the terminal
