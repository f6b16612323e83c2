"""One training of the thawed layers, or one for each fold: what they share, and what they leave."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thaw.backbones.cut_points import FEATURES
from thaw.engines import model_files
from thaw.engines.keras_setup import keras
from thaw.features import examples
from thaw.features.examples import Examples
from thaw.training import loop, out_of_fold
from thaw.training.out_of_fold import mean_scores

if TYPE_CHECKING:
    from thaw.parameters.fine_tune import FineTune

Scores = dict[str, float]
Log = Callable[[Scores], None]


class Head(Protocol):
    """What fine-tuning needs of a head: see `thaw.heads.protocol.Head`, which has more."""

    extends: bool
    outputs: tuple[str, ...]

    def attach(self, backbone: keras.Model, features: str) -> keras.Model: ...

    def probabilities(self, features: np.ndarray) -> np.ndarray: ...

    def label_probabilities(self, output_probabilities: np.ndarray) -> np.ndarray: ...


@dataclass
class History:
    """The course of a training."""

    scores: list[Scores] = field(default_factory=list)  # of each epoch; the first is the start
    ends: list[float] = field(default_factory=list)  # of the epochs, for the terminal: a file would differ between runs
    images: int = 0  # trained on
    best_epoch: int = 0

    @property
    def epochs(self) -> int:
        return max(0, len(self.scores) - 1)

    @property
    def best(self) -> Scores:
        """The scores of the epoch that is kept."""
        return self.scores[self.best_epoch]

    @property
    def seconds(self) -> list[float]:
        """The duration of each epoch, without the start."""
        return [end - start for start, end in pairwise(self.ends)]


@dataclass(frozen=True)
class FineTuning:
    """What all trainings of a run share."""

    backbone: Path  # folder of the network
    activations: np.ndarray  # (rows, ...): a memory map, or anything with its shape, dtype and rows
    frozen_layer: str | None  # the activations are its outputs; None: they are the inputs of the network
    depths: tuple[str | None, ...]  # in each phase, all layers behind this one train
    params: "FineTune"

    def attach(self, head: Head) -> keras.Model:
        """Return the pre-trained network with a head behind it."""
        network, _ = model_files.load(self.backbone / "backbone.keras")
        return head.attach(network, FEATURES)

    def fit(self, head: Head, images: Examples, log: Log) -> tuple[keras.Model, History]:
        """Train the network with a head on the training split of the images; validation chooses the epoch.

        A head that extends a model is not trained: its old rows belong to layers that must stay, and its new rows are
        fitted already.
        """
        train, validation = images.split("train"), images.split("validation")
        model, history = self.attach(head), History(images=len(train))
        if head.extends:
            loss, accuracy = examples.weighted_scores(head.probabilities(self.activations[validation.rows]), validation)
            scores = {"validation_loss": loss, "validation_accuracy_weighted": accuracy}
            _logged(history, log)(scores | {"validation_loss_calibrated": loss})
            return model, history
        data = loop.TrainingData(self.activations, train, validation, self.frozen_layer, self.depths)
        history.best_epoch = loop.fit(model, data, self.params, _logged(history, log))
        return model, history

    def fit_all(self, head: Head, images: Examples, epochs: int) -> tuple[keras.Model, History]:
        """Train the network with a head on all images for a number of epochs. Nothing is chosen."""
        model, history = self.attach(head), History(images=len(images))
        data = loop.TrainingData(self.activations, images, images, self.frozen_layer, self.depths, epochs)
        history.best_epoch = loop.fit(model, data, self.params, _logged(history, lambda scores: None))
        return model, history

    def trained_text(self, model: keras.Model, histories: Sequence[History]) -> str:
        """Say for the terminal what was trained, and how long an epoch took."""
        thawed = model_files.thawed_part(model, self.frozen_layer)
        parameters = sum(v.shape.num_elements() for v in thawed.trainable_variables)
        seconds = median(seconds for history in histories for seconds in history.seconds)
        behind = self.frozen_layer or "the input"
        return f"{parameters:,} parameters behind {behind} trained; {seconds:.1f} s per epoch"

    def fit_rounds(self, heads: Iterable[Head], images: Examples, output: Path) -> tuple[list[History], np.ndarray]:
        """Train in the round of each fold, and write the thawed part of each model as `{round}.keras`.

        Args:
            heads: The one with which each round starts.
            images: With folds.
            output: Folder to write into.

        Returns:
            The course of each training, and for each image the (n, classes) float64 calibrated probabilities of the
            round of the first repeat that tests it.
        """
        # Limits of `prune_above` are for the mean of the rounds: the hardest fold alone would exceed them.
        unpruned = replace(self, params=self.params.model_copy(update={"prune_above": []}))
        histories, predictions = [], np.empty((len(images), images.labels.max() + 1))
        for number, (head, part) in enumerate(zip(heads, images.all_rounds(), strict=True)):
            model, history = unpruned.fit(head, part, lambda scores: None)
            histories.append(history)
            thawed = model_files.thawed_part(model, self.frozen_layer)
            model_files.save(thawed, output / f"{number}.keras", {"class_names": head.outputs})
            if number < len(images.rounds()):
                predictions[part.positions("test")] = out_of_fold.calibrated(part, self._predictor(thawed, head))
        return histories, predictions

    def _predictor(self, thawed: keras.Model, head: Head) -> Callable[[np.ndarray], np.ndarray]:
        predict = loop.predictor(thawed, self.activations)
        return lambda rows: head.label_probabilities(predict(rows))


def mean_course(histories: Sequence[History]) -> Iterator[Scores]:
    """Yield the mean scores of each epoch. A training that has ended stays at the epoch that it keeps."""
    for epoch in range(max(len(history.scores) for history in histories)):
        yield mean_scores(
            [history.scores[epoch] if epoch < len(history.scores) else history.best for history in histories]
        )


def _logged(history: History, log: Log) -> Log:
    def add(scores: Scores) -> None:
        log(scores)
        history.scores.append(scores)
        history.ends.append(time.perf_counter())

    return add
