"""What a training minimises: the cross-entropy of one label for each image, or of several, and how it is validated."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from thaw.core.label_values import PRESENT
from thaw.engines.keras_setup import keras
from thaw.engines.tensorflow_setup import tf
from thaw.features import label_pairs
from thaw.features.examples import MIN_PROBABILITY, Examples, training_weights, weighted_scores
from thaw.training import temperatures
from thaw.training.temperature import apply_temperature, fit_temperature

if TYPE_CHECKING:
    from thaw.parameters.training import Training

MARGIN = 0.05  # of focusing: absent classes below this probability are learnt well enough


class Objective(Protocol):
    """What the loop needs. Targets and weights have a row for each image, and losses the shape of the weights."""

    def __init__(self, params: "Training"): ...

    def losses(self, targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Return the losses, in the shape of the weights."""
        ...

    @staticmethod
    def targets(images: Examples) -> np.ndarray:
        """Return what the probabilities are compared with: (n,) int64, or (n, k) float32."""
        ...

    @staticmethod
    def weights(images: Examples, class_weight: str | None) -> np.ndarray:
        """Return the weights of the losses, float32, of a sum of n."""
        ...

    @staticmethod
    def scores(probabilities: np.ndarray, images: Examples) -> tuple[float, float]:
        """Return the weighted cross-entropy (nats) and accuracy of (n, classes) probabilities."""
        ...

    @staticmethod
    def calibrated(probabilities: np.ndarray, images: Examples) -> np.ndarray:
        """Return the probabilities at the best temperature of 1 or more: of all classes, or of each."""
        ...


def kind(images: Examples) -> type[Objective]:
    """Return the objective for images with one label each, or with several."""
    return OneLabel if images.values is None else SeveralLabels


class OneLabel:
    """The cross-entropy of the one label of each image."""

    def __init__(self, params: "Training"):
        self.smoothing = params.label_smoothing

    def losses(self, targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        one_hot = tf.one_hot(targets, probabilities.shape[-1])
        return keras.losses.categorical_crossentropy(one_hot, probabilities, label_smoothing=self.smoothing)

    @staticmethod
    def targets(images: Examples) -> np.ndarray:
        return images.labels

    @staticmethod
    def weights(images: Examples, class_weight: str | None) -> np.ndarray:
        return training_weights(images, class_weight).astype(np.float32)

    @staticmethod
    def scores(probabilities: np.ndarray, images: Examples) -> tuple[float, float]:
        return weighted_scores(probabilities, images)

    @staticmethod
    def calibrated(probabilities: np.ndarray, images: Examples) -> np.ndarray:
        temperature = fit_temperature(probabilities, images.labels, images.weights, min_temperature=1.0)
        return apply_temperature(probabilities, temperature)


class SeveralLabels:
    """The binary cross-entropy of each known pair of an image and a class. Unknown pairs have the weight 0.

    With `focusing`, an absent class counts the less, the less probable it is: by its probability, less MARGIN, to this
    power (asymmetric loss, Ridnik et al. 2020, arXiv 2009.14119). Of unknown pairs still nothing counts.
    """

    def __init__(self, params: "Training"):
        self.smoothing, self.focusing = params.label_smoothing, params.focusing or 0.0

    def losses(self, targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        targets = targets * (1 - self.smoothing) + self.smoothing / 2
        present = tf.clip_by_value(probabilities, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        absent = present
        if self.focusing:
            absent = tf.clip_by_value(probabilities - MARGIN, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        of_absent = -tf.math.log(1 - absent) * (absent**self.focusing if self.focusing else 1.0)
        return -targets * tf.math.log(present) + (1 - targets) * of_absent

    @staticmethod
    def targets(images: Examples) -> np.ndarray:
        return (images.values == PRESENT).astype(np.float32)

    @staticmethod
    def weights(images: Examples, class_weight: str | None) -> np.ndarray:
        return label_pairs.training_weights(images, class_weight).astype(np.float32)

    @staticmethod
    def scores(probabilities: np.ndarray, images: Examples) -> tuple[float, float]:
        return label_pairs.weighted_scores(probabilities, images)

    @staticmethod
    def calibrated(probabilities: np.ndarray, images: Examples) -> np.ndarray:
        clipped = probabilities.clip(max=1 - MIN_PROBABILITY)
        fitted = temperatures.fit(clipped, images.values, images.value_weights, min_temperature=1.0)
        return temperatures.apply(clipped, fitted)
