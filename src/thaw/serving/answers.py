"""What a model predicts about one photograph, given as the bytes of its file. Nothing is written to disk."""

import base64
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thaw.core.errors import ThawError
from thaw.core.task import MULTI
from thaw.engines import flips, openvino_setup
from thaw.evaluation import review
from thaw.images import decoding
from thaw.prediction import deployed_model, several_labels, stream
from thaw.prediction.deployed_model import Decision, Description
from thaw.prediction.output import Row, Table
from thaw.prediction.stream import LoadedImage, Prediction
from thaw.serving import activation_graph
from thaw.serving.shared_network import SharedNetwork
from thaw.serving.training_photographs import TrainingPhotographs
from thaw.sources import formats

SIDE = 448  # pixels of the pictures of an answer: sharp on fine screens
MAX_CLASSES = 6  # of an answer, the most probable
JPEG = b"\xff\xd8"
PLACES = (("upper left", "top", "upper right"), ("left", "middle", "right"), ("lower left", "bottom", "lower right"))


@dataclass(frozen=True)
class Photograph:
    """A photograph as bytes.

    Attributes:
        content: of its file.
        ending: of the file's name, with its dot, in lower case: some formats begin alike.
    """

    content: bytes
    ending: str = ""


class Model:
    """A model and its decision rule, which several threads may ask at the same time.

    Args:
        network: the file of its converted network.
        description: its classes and its input.
        decision: how its probabilities become a label, or several; None if they are not calibrated.
        run: what it was trained on; None where that is not there.
        bits: of values in 16 bits, where a file does not say it.
    """

    def __init__(
        self,
        network: Path,
        description: Description,
        decision: Decision | several_labels.Decision | None,
        run: TrainingPhotographs | None,
        bits: int | None = None,
    ):
        full_network = openvino_setup.read(network)
        probabilities = full_network.output(deployed_model.OUTPUT).get_node().input_value(0)
        weighing = activation_graph.find_weighing(probabilities)
        outputs = [probabilities] if weighing is None else [probabilities, weighing.map]
        self._network = SharedNetwork(outputs, full_network.get_parameters(), description.size)
        self._kernel = weighing and weighing.kernel
        self._large_images = ThreadPoolExecutor(1)  # one at a time: see `stream.load_images`
        self.description, self.run, self.is_calibrated = description, run, decision is not None
        self._bits = bits
        self.has_several = description.task == MULTI
        if self.has_several:
            rule, table = decision or several_labels.undecided(description.classes), several_labels.Table
        else:
            rule, table = decision or Decision(), Table
        self.decision, self._table = rule, table(description.classes, rule, max_distance=run and run.limit)

    @property
    def has_map(self) -> bool:
        """Whether answers show where the network looked."""
        return self._kernel is not None

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability above which a class is predicted, of each class that has such a threshold."""
        if self.has_several:
            return dict(zip(self.description.classes, self.decision.thresholds, strict=True))
        return {} if self.decision.threshold is None else {self.description.classes[1]: self.decision.threshold}

    def row(self, photograph: Photograph) -> Row:
        """Return the row of `src/predict.py --json --far` for a photograph, without a path.

        It has `error` alone if the photograph cannot be read.
        """
        try:
            view, _ = self._decode(photograph)
        except ThawError as error:
            return {"error": str(error).removeprefix("image: ")}
        probabilities, _ = self._predict(view)
        return self._row(view, probabilities, self.run and self.run.distance(view))

    def answer(self, photograph: Photograph) -> dict[str, object]:
        """Return all that the page shows of a photograph, as JSON has it; pictures are `data:` addresses.

        A photograph that cannot be read has `error` alone. Else there are, beside what `row` returns:

        - `top`: pairs of class and probability, the most probable first, MAX_CLASSES at most.
        - `subject`: the class that `heatmap` is of: the label, or the most probable one.
        - `rival`: the most probable other class, which speaks against it; null where there may be several labels.
        - `picture`: what the network sees.
        - `heatmap`: where it looked, and `where`, its strongest place in words; null if there is no map.
        - `neighbours`: the nearest training photographs, each as `Neighbour`.
        - `twin`: the photograph of the run with the same bytes, as `Twin`; null if there is none.
        """
        try:
            view, shown = self._decode(photograph)
        except ThawError as error:
            return {"error": str(error).removeprefix("image: ")}
        probabilities, map_ = self._predict(view)
        twin = self.run and self.run.twin(hashlib.sha256(photograph.content).hexdigest())
        place = self.run and self.run.place(view, twin)
        result = self._row(view, probabilities, place and place.distance)
        ranked = sorted(result["probabilities"].items(), key=lambda item: -item[1])
        subject = ranked[0][0] if self.has_several else result["label"]
        rival = None if self.has_several else next(name for name, _ in ranked if name != subject)
        result |= {"top": ranked[:MAX_CLASSES], "subject": subject, "rival": rival}
        result |= {"picture": _address(review.jpeg(shown, SIDE))}
        result |= {"heatmap": None, "where": None, "neighbours": [], "twin": None}
        if map_ is not None:
            index = self.description.classes.index
            other = None if rival is None else index(rival)
            places = activation_graph.activation_map(map_, self._kernel, index(subject), other)
            heatmap = review.heatmap(shown, places)
            result |= {"heatmap": _address(review.jpeg(heatmap, SIDE)), "where": strongest_place(places)}
        if self.run is not None:
            result["twin"] = twin and vars(twin)
            result["neighbours"] = [vars(near) | {"picture": _address(near.picture)} for near in place.neighbours]
        return result

    def _row(self, view: NDArray[np.uint8], probabilities: NDArray[np.floating], distance: float | None) -> Row:
        row = self._table.row(Prediction(LoadedImage("", view), probabilities, distance))
        return {name: value for name, value in row.items() if name != "path"}

    def _decode(self, photograph: Photograph) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return a photograph as the network receives it, and the same square with SIDE pixels a side."""
        stream.check_kind(formats.kind_of(photograph.content[: formats.HEAD], photograph.ending))
        try:
            if _pixels(photograph.content) > stream.MAX_PARALLEL_PIXELS:
                return self._large_images.submit(_views, photograph.content, self.description, self._bits).result()
            return _views(photograph.content, self.description, self._bits)
        except (ThawError, MemoryError):
            raise
        except Exception as error:  # the file may hold anything, and so a decoder may raise anything
            raise ThawError(f"damaged ({type(error).__name__}: {error})") from error

    def _predict(self, view: NDArray[np.uint8]) -> tuple[NDArray[np.floating], NDArray[np.float32] | None]:
        """Return the mean probabilities of a view and the mirror images that the decision names, and the view's map."""
        axes = flips.AXES[self.decision.test_time_flips]
        plain, *mirrored = [self._network(view), *(self._network(np.flip(view[None], flip)[0]) for flip in axes)]
        probabilities = np.mean([plain[0], *(outputs[0] for outputs in mirrored)], axis=0)
        return probabilities, plain[1] if self.has_map else None


def strongest_place(places: NDArray[np.floating]) -> str | None:
    """Return in which part of the picture, one of PLACES, a map (h, w) is largest; None if it is nowhere above 0."""
    if not places.max() > 0:
        return None
    row, column = (int(i) for i in np.unravel_index(places.argmax(), places.shape))
    return PLACES[3 * row // places.shape[0]][3 * column // places.shape[1]]


def _pixels(content: bytes) -> int:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.width * image.height
    except Exception:
        return 0  # `decode` raises a better error


def _views(content: bytes, description: Description, bits: int | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    def view(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        return decoding.centre_crop(decoding.fit(pixels, size, description.resize), size).copy()

    pixels = decoding.decode(content, description.size, bits)
    finer = decoding.decode(content, SIDE) if content.startswith(JPEG) else pixels  # a JPEG is decoded at its scale
    return view(pixels, description.size), view(finer, SIDE)


def _address(picture: bytes | None) -> str | None:
    return picture and f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
