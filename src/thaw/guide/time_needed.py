"""How long a run will take on this machine: counted from multiply-adds, and from how fast these are here and now."""

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from thaw.backbones import registry
from thaw.core.machine import usable_cores

if TYPE_CHECKING:
    from thaw.core.section import Section

# Multiply-adds of an image of 224 pixels, and the part of them up to the end of each block.
NETWORKS = {
    "EfficientNetLite0": (384e6, (0.054, 0.197, 0.296, 0.410, 0.634, 0.871, 0.948)),
    "EfficientNetLite1": (501e6, (0.042, 0.203, 0.318, 0.436, 0.673, 0.901, 0.960)),
    "EfficientNetLite2": (575e6, (0.036, 0.177, 0.305, 0.433, 0.670, 0.901, 0.962)),
}
MATRIX = 512  # rows and columns of the matrices that are multiplied
EFFICIENCY = 0.75  # of networks, against a large matrix product (`benchmarks/steps.py`: 0.75 to 0.83)
TRAINING = 3.0  # multiply-adds of a training step, for one of a prediction
DECODINGS = 3.0  # of each photograph, by the four stages that read it; some read a smaller scale
VIEW_SECONDS = 3e-4  # of one core, to draw an augmented view in colour
START_SECONDS = 22.0  # nine stages without photographs, on a core of REFERENCE_RATE
HEAD_SECONDS = 5e-4  # for each view, times classes^0.7: the head, its learning curve and the intervals
REFERENCE_RATE = 75e9  # multiply-adds per second and core
RANGE = (0.6, 1.8)  # of the estimate


@dataclass(frozen=True)
class Counts:
    """How many photographs are in each split, and how many classes there are. With folds: in each round."""

    train: int
    validation: int
    test: int
    classes: int
    folds: int = 0


@dataclass(frozen=True)
class Speed:
    """How fast this machine is, with what else it does now."""

    multiply_adds: float  # per second, of all cores together
    share: float  # of a core that one thread gets


def measure_speed(seconds: float = 0.5) -> Speed:
    """Multiply large matrices for some seconds: on one core, because how two share a busy machine says little."""
    matrix = np.ones((MATRIX, MATRIX), np.float32)
    with threadpool_limits(1):
        product = matrix @ matrix
        count, start, start_of_thread = 0, time.perf_counter(), time.thread_time()
        while (wall := time.perf_counter() - start) < seconds:
            np.matmul(matrix, matrix, out=product)
            count += 1
        share = (time.thread_time() - start_of_thread) / wall
    return Speed(usable_cores() * count * MATRIX**3 / wall, min(1.0, share))


def estimate(parameters: "Section", counts: Counts, decode_seconds: float, speed: Speed) -> tuple[float, float] | None:
    """Return between which numbers of seconds a run will take, or None if the network is not known.

    Args:
        parameters: all sections.
        counts: of the photographs.
        decode_seconds: to decode one photograph, on one core.
        speed: of this machine.
    """
    if parameters.backbone.name not in NETWORKS or parameters.backbone.cut or parameters.image.engine != "openvino":
        return None
    size = parameters.image.size or registry.input_size(parameters.backbone.name).trained
    per_image, blocks = NETWORKS[parameters.backbone.name]
    per_image *= (size / 224) ** 2
    frozen = _frozen_part(parameters.fine_tune.freeze_depth, blocks)
    photographs, cores = counts.train + counts.validation + counts.test, usable_cores()
    copies = [candidate.copies for candidate in parameters.augment.candidates]
    training = photographs if counts.folds else counts.train  # that train some model, and so have copies
    featured, activated = photographs + training * sum(copies), photographs + training * max(copies)
    per_epoch = counts.train * TRAINING + counts.validation
    if counts.folds:
        rounds = counts.folds * parameters.split.repeats
        per_epoch = rounds * per_epoch + photographs * TRAINING  # then, the final model
    epochs = parameters.fine_tune.epochs if frozen < 1 else 0
    network = featured + activated * frozen + epochs * per_epoch * (1 - frozen)
    drawing = photographs * DECODINGS * decode_seconds + (featured + activated) * VIEW_SECONDS
    slower = REFERENCE_RATE / (speed.multiply_adds / cores)
    seconds = (
        network * per_image / (speed.multiply_adds * EFFICIENCY)
        + drawing / (cores * speed.share)
        + slower * (START_SECONDS + HEAD_SECONDS * featured * counts.classes**0.7)
    )
    return RANGE[0] * seconds, RANGE[1] * seconds


def text(seconds: tuple[float, float]) -> str:
    """Return a range of seconds as text, such as `3 to 7 minutes`."""
    low, high = seconds
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if high >= 2 * size:
            first, last = max(1, round(low / size)), math.ceil(high / size)
            return f"{first} to {last} {unit}"
    return f"{round(low, -1):.0f} to {round(high, -1):.0f} seconds"


def _frozen_part(depth: str | list[str], blocks: tuple[float, ...]) -> float:
    """Return the part of the multiply-adds before the layers that train; of a list of depths, the mean."""
    if isinstance(depth, list):
        return sum(_frozen_part(part, blocks) for part in depth) / len(depth)
    if depth in ("all", "none"):
        return float(depth == "all")
    block = re.match(r"block([1-7])", depth)
    return blocks[int(block[1]) - 1] if block else 0.0
