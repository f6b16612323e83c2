"""Which pairs of an image and a class a person should review, and how they are shown.

Each is shown as the network sees the image, with where it looked for the class, and with the nearest training images of
which it is known whether they show the class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN
from thaw.evaluation.comparison import nearest_training
from thaw.evaluation.models import TrainedModels
from thaw.evaluation.multi_label.label_errors import suspicious
from thaw.evaluation.multi_label.measure import Measured
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.review import (
    CARD_PIXELS,
    NEIGHBOUR_PIXELS,
    NEIGHBOURS,
    Pixels,
    heatmap,
    jpeg,
    load_pixels,
)

Pair = tuple[int, int]  # position of an image, number of a class


@dataclass(frozen=True)
class Neighbour:
    """A training image near to that of a card, of which it is known whether it shows the class."""

    image_id: str
    is_present: bool
    picture: bytes | None  # JPEG; None where the file is gone or damaged


@dataclass(frozen=True)
class PairCard:
    """A pair on a contact sheet of the report."""

    image_id: str
    split: str
    class_name: str
    is_present: bool  # what is known of the pair
    weight: float
    called: Mapping[str, tuple[bool, float]]  # model → whether it calls the class, and the calibrated probability
    self_confidence: float
    others: str  # the other classes that are known to be present
    picture: bytes | None  # JPEG of what the network sees; None where the file is gone or damaged
    heatmap: bytes | None  # JPEG of the same under its activation map
    neighbours: tuple[Neighbour, ...]


def make_sheets(
    models: TrainedModels, predictions: Predictions, measured: Measured, count: int
) -> dict[str, list[PairCard]]:
    """Make the contact sheets of the report, by the names that `choose_pairs` gives them.

    Args:
        models: of the run.
        predictions: of both models for all images.
        measured: of both models.
        count: of pairs on a sheet, at most.

    Returns:
        Name of the sheet → its cards, the most important first.
    """
    chosen = choose_pairs(predictions, measured, count)
    pairs = sorted(set(chain.from_iterable(chosen.values())))
    neighbours = nearest_known(models.features, predictions, pairs)
    pixels = load_pixels(models, {image for image, _ in pairs} | set(chain.from_iterable(neighbours.values())))
    maps = compute_activation_maps(models, pairs, pixels)
    cards = make_cards(predictions, measured, neighbours, pixels, maps)
    return {name: [cards[pair] for pair in sheet] for name, sheet in chosen.items()}


def choose_pairs(predictions: Predictions, measured: Measured, count: int) -> dict[str, list[Pair]]:
    """Return the pairs to review, at most `count` each, the most important first.

    `mistakes`: of test, the known pairs that the saved model calls wrongly, those first of which it is surest.
    `present` and `absent`: of all splits, the likeliest wrong labels: classes that are said to be present, and classes
    that were verified to be absent.
    """
    examples, saved = predictions.examples, predictions.saved
    return {
        "mistakes": surest_mistakes(
            measured.calibrated[saved], measured.called[saved], examples.values, examples.positions("test"), count
        ),
        "present": suspicious(predictions.self_confidence, examples.values, PRESENT, count),
        "absent": suspicious(predictions.self_confidence, examples.values, ABSENT, count),
    }


def surest_mistakes(
    calibrated: np.ndarray, called: np.ndarray, values: np.ndarray, images: np.ndarray, count: int
) -> list[Pair]:
    """Return the known pairs that are called wrongly, those first whose truth has the lowest probability.

    Args:
        calibrated: (n, k) probabilities.
        called: (n, k) bool.
        values: (n, k), as in `core.label_values`.
        images: the positions among which to look.
        count: of pairs, at most.
    """
    known, present = values[images] != UNKNOWN, values[images] == PRESENT
    row, number = np.nonzero(known & (called[images] != present))
    truth = np.where(present, calibrated[images], 1 - calibrated[images])[row, number]
    order = np.lexsort((number, row, truth))[:count]
    return list(zip(images[row[order]].tolist(), number[order].tolist(), strict=True))


def nearest_known(features: np.ndarray, predictions: Predictions, pairs: Sequence[Pair]) -> dict[Pair, list[int]]:
    """Return for each pair the NEIGHBOURS training images with the nearest features whose pair with the class is known.

    features: (rows, channels), as the extraction wrote them.
    """
    examples, found = predictions.examples, {}
    train = examples.positions("train")
    for number in sorted({number for _, number in pairs}):
        known = train[examples.values[train, number] != UNKNOWN]
        images = [image for image, other in pairs if other == number]
        rows = examples.rows[np.asarray(images)]
        nearest, _ = nearest_training(features[examples.rows[known]], features[rows], NEIGHBOURS + 1)
        for image, near in zip(images, nearest, strict=True):
            found[image, number] = [int(known[i]) for i in near if known[i] != image][:NEIGHBOURS]
    return found


def compute_activation_maps(models: TrainedModels, pairs: Sequence[Pair], pixels: Pixels) -> dict[Pair, np.ndarray]:
    """Return pair → what each place (h, w) adds to the logit of the class; none where the saved model has no map.

    pixels: of the images, without those that cannot be read.
    """
    from thaw.evaluation import class_activation  # imports Keras, which `models.load` has set up

    readable = [pair for pair in pairs if pixels[pair[0]] is not None]
    if not readable or class_activation.averaged_map(models.full_model) is None:
        return {}
    images, outputs = (np.array(column) for column in zip(*readable, strict=True))
    if len(models.head.classes) == 1:
        outputs = outputs + 1  # a single sigmoid has two weights, the first of which is 0
    cut = models.metadata["cut"]
    layer = class_activation.map_input(models.full_model, cut)
    if layer == cut:
        inputs = models.inputs[0].activations[models.activation_rows[images]]
    else:
        inputs = np.stack([pixels[image] for image in images])
    maps = class_activation.activation_maps(models.full_model, layer, inputs, outputs, None)
    return dict(zip(readable, maps, strict=True))


def make_cards(
    predictions: Predictions,
    measured: Measured,
    neighbours: Mapping[Pair, Sequence[int]],
    pixels: Pixels,
    maps: Mapping[Pair, np.ndarray],
) -> dict[Pair, PairCard]:
    """Make the card of each pair.

    Args:
        predictions: of both models for all images.
        measured: of both models.
        neighbours: pair → positions of its neighbours.
        pixels: of the images and of their neighbours.
        maps: pair → activation map (h, w), where there is one.

    Returns:
        pair → card.
    """
    examples, classes = predictions.examples, predictions.classes

    def neighbour(image: int, number: int) -> Neighbour:
        is_present = bool(examples.values[image, number] == PRESENT)
        return Neighbour(str(examples.image_ids[image]), is_present, jpeg(pixels[image], NEIGHBOUR_PIXELS))

    cards = {}
    for (image, number), nearest in neighbours.items():
        shown = heatmap(pixels[image], maps[image, number]) if (image, number) in maps else None
        others = [name for k, name in enumerate(classes) if examples.values[image, k] == PRESENT and k != number]
        cards[image, number] = PairCard(
            image_id=str(examples.image_ids[image]),
            split=str(examples.splits[image]),
            class_name=classes[number],
            is_present=bool(examples.values[image, number] == PRESENT),
            weight=float(examples.value_weights[image, number]),
            called={
                model: (bool(measured.called[model][image, number]), float(p[image, number]))
                for model, p in measured.calibrated.items()
            },
            self_confidence=float(predictions.self_confidence[image, number]),
            others=", ".join(others),
            picture=jpeg(pixels[image], CARD_PIXELS),
            heatmap=jpeg(shown, CARD_PIXELS),
            neighbours=tuple(neighbour(i, number) for i in nearest),
        )
    return cards
