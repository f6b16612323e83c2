"""The course of a training: the learning rate of each step, which layers thaw in each epoch, and what it all costs."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from thaw.backbones.cut_points import FEATURES

if TYPE_CHECKING:
    from thaw.parameters.training import Training


def learning_rate(step: int, steps: int, params: "Training") -> float:
    """Return the head's learning rate at a step, counted from 0, where an epoch has `steps`.

    It rises to its highest value over the first `params.warmup_epochs`, then falls to 0 along a cosine until the last
    epoch.
    """
    warmup = round(params.warmup_epochs * steps)
    if step < warmup:
        return params.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps * params.epochs - warmup)
    return params.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def phase(epoch: int, epochs: int, phases: int) -> int:
    """Return in which of the equal phases of a training an epoch lies. Epochs count from 1; 0 is the start."""
    return max(0, epoch - 1) * phases // epochs


def training_cost(
    multiply_adds: Mapping[str, int], depths: Sequence[str | None], trained_epochs: int, planned_epochs: int
) -> int:
    """Return the multiply-adds of a training for each image: in each epoch one pass forwards and two backwards.

    Args:
        multiply_adds: Those of the backbone from its input to each layer, FEATURES among them.
        depths: The last frozen layer of each phase; None is the input.
        trained_epochs: How many epochs were trained.
        planned_epochs: How many were planned, which are divided into the phases.

    Returns:
        Those of the layers that thaw. The head is not counted.
    """
    to_layer = {None: 0, **multiply_adds}
    thawed = [to_layer[FEATURES] - to_layer[layer] for layer in depths]
    return 3 * sum(thawed[phase(epoch, planned_epochs, len(depths))] for epoch in range(1, trained_epochs + 1))
