"""Which images a person should review, and how they are shown.

Each is shown as the network sees it, with where the network looked and with the nearest training images.
"""

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np
from PIL import Image

from thaw.core import arrays
from thaw.core.cache import Cache
from thaw.core.errors import ThawError
from thaw.core.store import Photograph, Photographs
from thaw.evaluation import comparison, label_errors
from thaw.evaluation.models import TrainedModels
from thaw.evaluation.predictions import Predictions
from thaw.features.examples import Examples
from thaw.images import views

FOR, AGAINST = (255, 205, 0), (115, 50, 215)  # RGB of what speaks for the predicted class, and against it
MAX_COLOUR = 0.6  # share of the colour where the map is strongest; the image is the rest
JPEG_QUALITY = 82  # an image of 224 pixels takes some 8 KB
CARD_PIXELS, NEIGHBOUR_PIXELS = 224, 112  # sides of the pictures: twice what a page shows, for fine screens
NEIGHBOURS = 3

Pixels = Mapping[int, np.ndarray | None]  # position of an image → (size, size, 3) uint8; None if it cannot be read


@dataclass(frozen=True)
class Neighbour:
    """A training image whose frozen features are near to those of a card's image."""

    image_id: str
    label: str
    picture: bytes | None  # JPEG; None where the file is gone or damaged


@dataclass(frozen=True)
class ReviewCard:
    """An image on a contact sheet of the report."""

    image_id: str
    split: str  # with folds, the fold that tests it
    label: str
    weight: float
    predicted: dict[str, tuple[str, float]]  # model → the likeliest class and its probability
    shown: str  # the model whose map the heatmap is
    self_confidence: float
    picture: bytes | None  # JPEG of what the network sees; None where the file is gone or damaged
    heatmap: bytes | None  # JPEG of the same under its activation map
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class ConfusedPair:
    """A class that the saved model takes for another on test, with the surest example."""

    actual: str
    predicted: str
    count: int  # of the images of the actual class that are taken for the predicted one
    fraction: float  # of all images of the actual class
    image_id: str
    picture: bytes | None  # JPEG of what the network sees; None where the file is gone or damaged


@dataclass(frozen=True)
class Review:
    """The images that the report shows."""

    sheets: Mapping[str, Sequence[ReviewCard]]  # name of the sheet → its cards, the most important first
    confused: Sequence[ConfusedPair]  # of the saved model, the most frequent first


def make_sheets(
    models: TrainedModels, predictions: Predictions, outputs: np.ndarray, count: int
) -> dict[str, list[ReviewCard]]:
    """Make the contact sheets of the report, by the names that `choose_images` gives them.

    Args:
        models: of the run.
        predictions: of both models for all images.
        outputs: (n, outputs), `TrainedModels.output_probabilities` of the saved model. With folds, the first rows
            are those of test.
        count: of images on a sheet, at most.

    Returns:
        Name of the sheet → its cards, the most important first.
    """
    predictions = predictions.once()
    chosen = choose_images(predictions, count)
    positions = sorted({int(position) for sheet in chosen.values() for position in sheet})
    neighbours = nearest_training_images(models.features, models.examples, predictions.rounds, positions)
    pixels = load_pixels(models, {*positions, *chain.from_iterable(neighbours.values())})
    maps = compute_activation_maps(models, predictions, outputs, {position: pixels[position] for position in positions})
    cards = make_cards(predictions, neighbours, pixels, maps)
    return {name: [cards[int(position)] for position in sheet] for name, sheet in chosen.items()}


def confused_pairs(models: TrainedModels, predictions: Predictions, count: int) -> list[ConfusedPair]:
    """Return the most frequent confusions of the saved model on test, at most `count`."""
    predictions = predictions.once()
    examples = predictions.examples
    chosen = choose_confusions(predictions, count)
    pixels = load_pixels(models, [position for position, *_ in chosen])
    return [
        ConfusedPair(
            actual=predictions.classes[examples.labels[position]],
            predicted=predictions.classes[predicted],
            count=times,
            fraction=fraction,
            image_id=str(examples.image_ids[position]),
            picture=jpeg(pixels[position], NEIGHBOUR_PIXELS),
        )
        for position, predicted, times, fraction in chosen
    ]


def choose_confusions(predictions: Predictions, count: int) -> list[tuple[int, int, int, float]]:
    """Choose the most frequent confusions of the saved model on test, at most `count`.

    Returns for each the position of the image that it is surest of, the predicted class, how many images of the actual
    class are taken for it, and which fraction of that class they are. Of equally frequent ones, those of the larger
    fraction come first, then in the order of the classes.
    """
    test = predictions.examples.positions("test")
    probabilities, labels = predictions.probabilities[predictions.saved][test], predictions.examples.labels[test]
    predicted = probabilities.argmax(axis=1)
    sizes = np.bincount(labels, minlength=len(predictions.classes)).tolist()
    wrong = confident_mistakes(probabilities, labels, len(test))  # the surest first
    pairs = list(zip(labels[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    surest = dict(zip(reversed(pairs), test[wrong][::-1].tolist(), strict=True))
    frequent = sorted(Counter(pairs).items(), key=lambda item: (-item[1], sizes[item[0][0]], item[0]))
    return [(surest[pair], pair[1], times, times / sizes[pair[0]]) for pair, times in frequent[:count]]


def choose_images(predictions: Predictions, count: int) -> dict[str, np.ndarray]:
    """Return the positions of the images to review, at most `count` each, the most important first.

    `mistakes`: of test, the surest wrong predictions of the saved model. `doubts`: of test, its least certain
    predictions. `labels`: of all splits, the likeliest wrong labels, but for those that are probably right.
    """
    examples = predictions.examples
    test = examples.positions("test")
    probabilities = predictions.probabilities[predictions.saved][test]
    suspicious = label_errors.suspicious(predictions.self_confidence)
    return {
        "mistakes": test[confident_mistakes(probabilities, examples.labels[test], count)],
        "doubts": test[least_certain(probabilities, count)],
        "labels": suspicious[predictions.self_confidence[suspicious] < 0.5][:count],
    }


def nearest_training_images(
    features: np.ndarray, examples: Examples, rounds: np.ndarray, positions: Sequence[int]
) -> dict[int, list[int]]:
    """Return for each position the NEIGHBOURS training images with the nearest features, but itself.

    Args:
        features: (rows, channels), as the extraction wrote them.
        examples: all images of the run.
        rounds: (n,) int, of each image the round that predicts it: it was trained on the images that are returned.
        positions: of the images.

    Returns:
        Position → positions of the training images, the nearest first.
    """
    found = {}
    for number, part in enumerate(examples.rounds()):
        asked, train = [position for position in positions if rounds[position] == number], part.positions("train")
        rows = examples.rows[np.asarray(asked, dtype=int)]
        nearest, _ = comparison.nearest_training(
            arrays.Rows(features, examples.rows[train]), features[rows], NEIGHBOURS + 1
        )
        for position, neighbours in zip(asked, nearest, strict=True):
            found[position] = [int(train[i]) for i in neighbours if train[i] != position][:NEIGHBOURS]
    return found


def load_pixels(models: TrainedModels, positions: Iterable[int]) -> Pixels:
    """Return what the network sees of each image. An image that is gone since the run is no reason to stop."""
    paths, image = dict(models.images.select("image_id", "path").iter_rows()), models.metadata["image"]
    ids, dataset = models.examples.image_ids, models.files.dataset
    photographs = Photographs(dataset.raw)
    return {
        position: load_image(photographs[paths[ids[position]]], image["size"], image["resize"], dataset.cache)
        for position in sorted(positions)
    }


def compute_activation_maps(
    models: TrainedModels, predictions: Predictions, outputs: np.ndarray, pixels: Pixels
) -> dict[int, np.ndarray]:
    """Compute the activation maps of images, by the models that predict them; none where the model has none.

    A map shows what speaks for the predicted class and against its rival: see `predicted_and_rivals`.

    Args:
        models: of the run.
        predictions: of both models for all images.
        outputs: (n, outputs), `TrainedModels.output_probabilities` of the saved model.
        pixels: of the images.

    Returns:
        position → map (h, w) float32, of each image that could be read.
    """
    from thaw.evaluation import class_activation  # imports Keras, which `models.load` has set up

    positions = [position for position in pixels if pixels[position] is not None]
    if not positions or class_activation.averaged_map(models.full_model) is None:
        return {}
    cut, examples = models.metadata["cut"], models.examples
    layer = class_activation.map_input(models.full_model, cut)
    if layer == cut:
        inputs = models.inputs[0].activations[models.activation_rows[positions]]
    else:
        inputs = np.stack([pixels[position] for position in positions])
    probabilities = predictions.probabilities[predictions.saved][positions]
    predicted, rivals = (
        models.head.outputs_for_labels(labels, outputs[positions])
        for labels in predicted_and_rivals(probabilities, examples.labels[positions])
    )
    maps = {}
    for number in np.unique(predicting := predictions.rounds[positions]):
        asked = np.flatnonzero(predicting == number)
        model, of_round = models.full_model_of(number), (inputs[asked], predicted[asked], rivals[asked])
        maps |= zip(asked, class_activation.activation_maps(model, layer, *of_round), strict=True)
    return {position: maps[i] for i, position in enumerate(positions)}


def make_cards(
    predictions: Predictions, neighbours: Mapping[int, Sequence[int]], pixels: Pixels, maps: Mapping[int, np.ndarray]
) -> dict[int, ReviewCard]:
    """Make the card of each image.

    Args:
        predictions: of both models for all images.
        neighbours: position of each image → positions of its neighbours.
        pixels: of the images and of their neighbours.
        maps: position → activation map (h, w), where there is one.

    Returns:
        position → card.
    """
    examples, classes = predictions.examples, predictions.classes
    splits = examples.splits if examples.folds is None else [f"fold {number}" for number in predictions.rounds]

    def neighbour(position: int) -> Neighbour:
        label = classes[examples.labels[position]]
        return Neighbour(str(examples.image_ids[position]), label, jpeg(pixels[position], NEIGHBOUR_PIXELS))

    cards = {}
    for position, nearest in neighbours.items():
        probabilities = {model: p[position] for model, p in predictions.probabilities.items()}
        shown = heatmap(pixels[position], maps[position]) if position in maps else None
        cards[position] = ReviewCard(
            image_id=str(examples.image_ids[position]),
            split=str(splits[position]),
            label=classes[examples.labels[position]],
            weight=float(examples.weights[position]),
            shown=predictions.saved,
            predicted={model: (classes[p.argmax()], float(p.max())) for model, p in probabilities.items()},
            self_confidence=float(predictions.self_confidence[position]),
            picture=jpeg(pixels[position], CARD_PIXELS),
            heatmap=jpeg(shown, CARD_PIXELS),
            neighbours=tuple(map(neighbour, nearest)),
        )
    return cards


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the rows, at most `count`, whose likeliest class is not the label, the surest first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]


def least_certain(probabilities: np.ndarray, count: int) -> np.ndarray:
    """Return the rows, at most `count`, whose two likeliest classes are nearest to each other, the nearest first."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.argsort(two[:, 1] - two[:, 0], kind="stable")[:count]


def predicted_and_rivals(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the likeliest class of each row, and its rival, (n,) each.

    The rival is the label where the prediction is wrong, else the second likeliest class.
    """
    predicted = probabilities.argmax(axis=1)
    rest = probabilities.copy()
    rest[np.arange(len(rest)), predicted] = -1
    return predicted, np.where(predicted == labels, rest.argmax(axis=1), labels)


def load_image(path: Photograph, size: int, resize: str, cache: Cache | None = None) -> np.ndarray | None:
    """Return the (size, size, 3) uint8 pixels that the network sees of an image; None where it cannot be read.

    `cache`: of decoded pixels.
    """
    try:
        return next(views.draw([path], [[None]], size, resize, cache))[0]
    except ThawError:
        return None


def heatmap(pixels: np.ndarray, activation_map: np.ndarray) -> np.ndarray:
    """Return (s, s, 3) uint8 pixels, greyed, under the colours FOR and AGAINST in the strength of a map (h, w).

    The strongest place of each image has the full colour: the colours of two images do not compare.
    """
    grey = np.repeat(pixels @ np.array([[0.299], [0.587], [0.114]]), 3, axis=2)
    strength = activation_map / max(float(np.abs(activation_map).max()), 1e-12)
    strength = cv2.resize(strength.astype(np.float32), pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    strength = strength.clip(-1, 1)[:, :, None]
    colour = np.where(strength > 0, np.float64(FOR), np.float64(AGAINST))
    share = MAX_COLOUR * np.abs(strength)
    return (grey * (1 - share) + colour * share).round().astype(np.uint8)


def jpeg(pixels: np.ndarray | None, size: int) -> bytes | None:
    """Return square pixels as a JPEG of at most `size` a side; None stays None."""
    if pixels is None:
        return None
    if len(pixels) > size:
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
