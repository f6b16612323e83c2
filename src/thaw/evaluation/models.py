"""The models of a finished run, and what they predict for its images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from thaw.backbones.cut_points import FEATURES
from thaw.core import archive, arrays, tables
from thaw.core.files import read_json
from thaw.core.metrics_file import HEAD, MODELS
from thaw.engines import flips
from thaw.evaluation.label_errors import self_confidence
from thaw.evaluation.predictions import Predictions
from thaw.features import examples, extraction
from thaw.features.examples import Examples
from thaw.heads import registry

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras
    from thaw.heads.protocol import Head


@dataclass(frozen=True)
class RunFiles:
    """Where a run keeps what its models are measured with."""

    dataset: extraction.Dataset
    backbone: Path
    features: Path
    activations: Path
    head: Path  # the archive
    model: Path
    head_folds: Path  # archives of what the rounds of folds have trained; without folds, they hold none
    model_folds: Path


@dataclass(frozen=True)
class Inputs:
    """What both models take. Both arrays hold the plain images, at rows of their own."""

    features: np.ndarray  # (rows, channels), or maps, of the head
    activations: np.ndarray  # (rows, ...), of the thawed layers


RunThawed = Callable[[np.ndarray, np.ndarray], np.ndarray]  # rows, activations → (rows, outputs) float32


@dataclass(frozen=True)
class Trained:
    """The models of one training."""

    head: "Head"
    thawed: "keras.Model"  # the layers behind the cut
    run_thawed: RunThawed


@dataclass(frozen=True)
class TrainedModels:
    """The head and the fine-tuned model of a run, with the images that they are measured on.

    With folds, the models of the rounds are measured, see `Examples.asked`; the others are of all images.
    """

    files: RunFiles
    head: "Head"
    full_model: "keras.Model"
    metadata: dict  # of the model file
    decided: Mapping[str, object]  # by `fine_tune`: `kept`, what the model file is; with folds, why
    examples: Examples
    images: pl.DataFrame  # images.csv
    features: np.ndarray  # (rows, channels), pooled
    inputs: tuple[Inputs, ...]  # of the images themselves, then of their mirror images
    activation_rows: np.ndarray  # (n,) of each image in the activations, which lack the presets that were not chosen
    rounds: Sequence[Trained]

    @property
    def kept(self) -> str:
        """What the model file is: `head` or `fine_tuned`."""
        return self.decided["kept"]

    def output_probabilities(self, repeat: int = 0) -> dict[str, np.ndarray]:
        """Return model → (m, outputs) float64 for the images that are asked about.

        They are means over an image and its mirror images. `repeat`: of the folds; a further one than the first, with
        which nothing is chosen, is asked about the images of test alone.
        """
        _, predicting = self.examples.asked(repeat)
        predicting = predicting[: len(self.examples)] if repeat else predicting
        image = np.arange(len(predicting)) % len(self.examples)
        first = repeat * (predicting.max() + 1)
        outputs = {name: np.empty((len(predicting), len(self.head.outputs))) for name in MODELS}
        for number in np.unique(predicting):
            asked, trained = np.flatnonzero(predicting == number), self.rounds[first + number]
            rows = self.examples.rows[image[asked]]
            outputs["head"][asked] = self.mean_of_features(trained.head.output_probabilities, rows)
            thawed_rows = self.activation_rows[image[asked]]
            each = [self._as_probabilities(trained.run_thawed(thawed_rows, i.activations)) for i in self.inputs]
            outputs["fine_tuned"][asked] = np.mean(each, axis=0)
        return outputs

    def _as_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return outputs as float64. Those of one label sum to 1 exactly, as metrics need them."""
        outputs = outputs.astype(np.float64)
        return outputs if self.examples.values is not None else outputs / outputs.sum(axis=1, keepdims=True)

    def full_model_of(self, number: int) -> "keras.Model":
        """Return the model of a round that is measured as the saved one: from pixels to probabilities."""
        if self.examples.folds is None:
            return self.full_model
        trained = self.rounds[number]
        if self.kept == HEAD:
            return trained.head.attach(self.full_model, FEATURES)
        from thaw.engines import model_files

        full_model, _ = model_files.load(self.files.model)
        for layer in trained.thawed.layers:
            if layer.weights:
                full_model.get_layer(layer.name).set_weights(layer.get_weights())
        return full_model

    def mean_of_features(self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Return the mean, over the images of these rows and their mirror images, of `function` of the features."""
        outputs = ([function(block) for block in arrays.blocks(inputs.features, rows)] for inputs in self.inputs)
        return np.mean([np.concatenate(blocks) for blocks in outputs], axis=0)

    def predictions(self, outputs: dict[str, np.ndarray], seed: int) -> Predictions:
        """Return what the models predict, from their `output_probabilities`. The seed is that of `self_confidence`."""
        classes, features = self.head.classes, arrays.Rows(self.features, self.examples.rows)
        asked, predicting = self.examples.asked()
        confidence = self_confidence(features, self.examples, len(classes), seed=seed)
        return Predictions(
            examples=asked,
            classes=classes,
            probabilities={model: self.head.label_probabilities(p) for model, p in outputs.items()},
            self_confidence=np.resize(confidence, len(asked)),
            rounds=predicting,
            saved=self.kept,
        )


def load(files: RunFiles, test_time_flips: str | None) -> TrainedModels:
    """Load the models of a run, and the arrays that they run on.

    The engine that extracted the features also runs the thawed layers. `test_time_flips` as in the section `evaluate`.
    """
    cut = read_json(files.activations / "cut.json")
    if cut["image"]["engine"] == "tensorflow":  # before anything imports Keras
        from thaw.training.loop import predictor
    else:
        import thaw.engines.keras_without_tensorflow  # noqa: F401
        from thaw.engines.array_inference import predictor
    from thaw.engines import model_files

    features = arrays.open_rows(files.features / "features.npy")
    activations = extraction.open_activations(files.activations, files.dataset, files.backbone)
    full_model, metadata = model_files.load(files.model)
    head = registry.load_packed(files.head)
    images = examples.read(files.features, files.dataset.split, labels_file=files.dataset.raw / "labels.csv")
    with archive.unpack(files.head_folds) as heads, archive.unpack(files.model_folds) as thawed:
        folds = read_json(thawed / "rounds.json")
        parts = [
            (registry.load(heads / str(number)), model_files.load(thawed / f"{number}.keras")[0])
            for number in range(folds["rounds"])
        ]
    if images.folds is None:
        parts = [(head, model_files.thawed_part(full_model, metadata["cut"]))]
    return TrainedModels(
        files=files,
        head=head,
        full_model=full_model,
        metadata=metadata,
        decided=folds,
        examples=images,
        images=tables.read_images(files.dataset.raw),
        features=arrays.pooled(features),
        inputs=(Inputs(features, activations), *_mirrored(files, cut, test_time_flips)),
        activation_rows=examples.read(files.activations, files.dataset.split).rows,
        rounds=[Trained(of_round, part, predictor(part, activations)) for of_round, part in parts],
    )


def _mirrored(files: RunFiles, cut: dict, test_time_flips: str | None) -> list[Inputs]:
    """Return the inputs of each mirror image, computed when they are read. Row by row, they match the cached arrays."""
    if test_time_flips is None:
        return []
    image = extraction.ImageSettings(**cut["image"])
    all_views, views = (extraction.PlannedViews(files.dataset, image, preset) for preset in (None, cut["preset"]))
    features = extraction.Recomputed(all_views, files.backbone, FEATURES, image)
    activations = extraction.Recomputed(views, files.backbone, cut["layer"], image)
    return [Inputs(features.flipped(axes), activations.flipped(axes)) for axes in flips.AXES[test_time_flips]]
