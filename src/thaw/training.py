"""Train a head, or a head and the layers behind the cut, on cached activations: a flat loop with AdamW.

On a CPU a batch is computed in PARTS, side by side, and a part by one core as far as there are cores for no more: where
all cores compute one operation at a time, many are too small to share, and the sums depend on how many cores there are.
"""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from tqdm import tqdm

from thaw import arrays
from thaw.backbones.cut_points import find_cut_points
from thaw.calibration import apply_temperature, fit_temperature
from thaw.errors import ThawError
from thaw.examples import LEAST, Examples, training_weights, weighted_scores
from thaw.folding import folded
from thaw.keras import keras
from thaw.models import thawed_part
from thaw.params import Training
from thaw.tensorflow import in_order, tf

PARTS = 4  # of a batch; in 8, an epoch behind block5 takes a fifth longer on 2 cores
PREDICTION_BATCH = 64  # rows; larger ones are no faster here and hold more memory


def share_cores() -> None:
    """Let TensorFlow compute the parts of a batch side by side, each on its share of the cores.

    To be called before it computes anything; a process in which it has stays as it is. Below 2 * PARTS cores the bytes
    of what is trained do not depend on their number.
    """
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(min(PARTS, os.cpu_count()))
        tf.config.threading.set_intra_op_parallelism_threads(max(1, os.cpu_count() // PARTS))


def fit(
    model: keras.Model,
    cut: str | None,
    depths: list[str | None],
    activations: np.ndarray,
    train: Examples,
    validation: Examples,
    params: Training,
    log: Callable[[dict[str, float]], None],
    *,
    layer_decay: float = 1.0,
    ema: float | None = None,
    prune_above: Sequence[float | None] = (),
    gradients: str = "float32",
) -> int:
    """Train `model` behind `depths` in place and leave it with the weights of the epoch it returns (0: as given).

    The last layer of `model`, which may be a model itself, is the head. activations (rows, ...) float16 or uint8,
    a memory map or anything with its shape, dtype and rows, are the outputs of the layer `cut` (None: the input).
    The epochs fall into one equal part for each of `depths`, in which all behind that layer trains (None: all); a
    depth may lie before or behind the one before it, though none before the cut.

    An epoch shows each photograph once, as the view that is its turn, so that 1 + copies epochs show them all. The
    head drops out while it trains; the layers before it run in inference mode, so that batch normalisation keeps
    its statistics. The loss is the weighted cross-entropy. With `ema`, what is validated and kept is the exponential
    moving average of the weights. The best epoch is that of the lowest calibrated loss on validation, epoch 0 being
    the start: a network that is too sure is mended in the end, one that confuses classes is not (Berta et al. 2025,
    arXiv 2501.19195). Patience counts from the last thawing on; where it is None, the last epoch is kept instead. Where
    the lowest such loss after epoch i lies above the i-th number of `prune_above`, training ends there. `gradients` is
    as in `folded`. Raises ThawError where a loss is not finite.
    """
    generator = np.random.default_rng(params.seed)
    keras.utils.set_random_seed(params.seed)
    weights = training_weights(train, params.class_weight).astype(np.float32)
    steps = math.ceil(len(train.labels) / params.batch_size)
    groups = rate_groups(model, depths, layer_decay)
    optimizers = [adamw(group.variables, params.weight_decay) for group in groups]
    variables = [variable for group in groups for variable in group.variables]
    averages = [tf.Variable(variable) for variable in variables] if ema else []
    step_of_part = [
        _training_step(model, cut, activations, part, groups, optimizers, averages, params.label_smoothing, gradients)
        for part in range(len(depths))
    ]
    thawed = thawed_part(model, cut)
    predict = predictor(thawed, activations)

    first = generator.integers(train.views.shape[1], size=len(train.labels))  # the view each photograph begins with
    last_thawing = math.ceil(params.epochs * (len(depths) - 1) / len(depths))
    limits = {epoch: limit for epoch, limit in enumerate(prune_above, start=1) if limit is not None}
    lowest, kept, weights_kept = math.inf, 0, []
    for epoch in range(params.epochs + 1):
        part = part_of(epoch, params.epochs, len(depths))
        order = generator.permutation(len(train.labels)) if epoch else np.array([], int)
        batches = _batches(order, params.batch_size)
        rows = (train.views[batch, (first[batch] + epoch) % train.views.shape[1]] for batch in batches)
        bar = tqdm(batches, f"epoch {epoch}", disable=None, leave=False)
        losses = []
        for batch, x in zip(bar, arrays.read_ahead(activations, rows), strict=True):
            done = (epoch - 1) * steps + len(losses)
            rate = learning_rate(done, steps, params)
            decay = min(ema or 0.0, (1 + done) / (10 + done))  # a young average forgets the start sooner
            loss = float(step_of_part[part](x, train.labels[batch], weights[batch], rate, decay))
            losses.append(_finite(loss, epoch, params))
        with averaged(variables, averages):
            scores = validation_scores(predict(validation.views[:, 0]), validation)
            _finite(scores["validation_loss"], epoch, params)
            log(scores | ({"train_loss": float(np.mean(losses))} if losses else {}))
            calibrated = scores["validation_loss_calibrated"]
            if params.patience is None or calibrated < lowest:
                kept, weights_kept = epoch, thawed.get_weights()
            lowest = min(lowest, calibrated)
        waited = epoch - max(kept, last_thawing)
        if waited >= (params.patience or math.inf) or lowest > limits.get(epoch, math.inf):
            break
    thawed.set_weights(weights_kept)
    return kept


def validation_scores(probabilities: np.ndarray, examples: Examples) -> dict[str, float]:
    """Return the weighted cross-entropy (nats) of (n, classes) probabilities, plain and calibrated, and the accuracy.

    Calibrated it is at the temperature that makes it lowest, but none below 1: that would reward a network for its
    doubts, most of all where few photographs validate.
    """
    loss, accuracy = weighted_scores(probabilities, examples)
    clipped = probabilities.astype(np.float64).clip(LEAST)  # as for the loss, which a few surest mistakes would rule
    temperature, calibrated = 1.0, loss
    if math.isfinite(loss):
        temperature = fit_temperature(clipped, examples.labels, examples.weights, coolest=1.0)
    if temperature > 1:
        calibrated, _ = weighted_scores(apply_temperature(clipped, temperature), examples)
    return {
        "validation_loss": loss, "validation_loss_calibrated": calibrated, "validation_accuracy_weighted": accuracy,
    }  # fmt: skip


def part_of(epoch: int, epochs: int, parts: int) -> int:
    """Return in which of the equal parts of the training an epoch lies; epochs count from 1, and 0 is the start."""
    return max(0, epoch - 1) * parts // epochs


def predictor(thawed: keras.Model, activations: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from rows of `activations`, or of others of their kind that are its second argument, to their
    (n, classes) float32 probabilities."""
    function = tf.function(
        lambda x: tf.concat([thawed(part, training=False) for part in _parts(tf.cast(x, tf.float32))], 0),
        [_batch_of(activations)],
        autograph=False,
    )

    def predict(rows: np.ndarray, activations: np.ndarray = activations) -> np.ndarray:
        batches = _batches(rows, PREDICTION_BATCH)
        return np.concatenate([function(x).numpy() for x in arrays.read_ahead(activations, batches)])[: len(rows)]

    return predict


def learning_rate(step: int, steps: int, params: Training) -> float:
    """Return the head's rate at a step counted from 0, where an epoch has `steps`.

    It rises to its peak over the first `params.warmup_epochs`, then falls to 0 along a cosine until the last epoch.
    """
    warmup = round(params.warmup_epochs * steps)
    if step < warmup:
        return params.learning_rate * (step + 1) / (warmup + 1)
    fallen = (step - warmup) / max(1, steps * params.epochs - warmup)
    return params.learning_rate * (1 + math.cos(math.pi * fallen)) / 2


@dataclass(frozen=True)
class RateGroup:
    """Variables of one block that train in the same parts of the training, with one optimizer for them."""

    factor: float  # on the rate
    variables: list
    parts: tuple[bool, ...]  # in which of them it trains


def rate_groups(model: keras.Model, depths: list[str | None], decay: float) -> list[RateGroup]:
    """Group the trainable variables behind any of `depths` by block, from the head down.

    The head's factor on the rate is 1, and each block's `decay` times that of the block behind it; blocks without
    weights count for nothing. A block is what lies between two cut points, or between more where the names of those
    that end it say that they are of one block.
    """
    *body, head = model.layers
    position = {layer.name: index for index, layer in enumerate(model.layers)}
    frozen = [position[depth] if depth else -1 for depth in depths]
    features = body[-1].name  # a cut point that is not found as one where the head is a model itself
    ends = {cut.layer for cut in find_cut_points(model, features)} | {features}
    layers = [("", head)]
    for layer in reversed(body):
        layers.append((_block(layer.name) if layer.name in ends else layers[-1][0], layer))

    blocks = []
    for _, block in groupby(layers, key=lambda pair: pair[0]):
        variables: dict[tuple[bool, ...], list] = {}
        for _, layer in block:
            parts = tuple(position[layer.name] > last for last in frozen)
            if any(parts) and layer.trainable_variables:
                variables.setdefault(parts, []).extend(layer.trainable_variables)
        if variables:
            blocks.append(variables)
    return [
        RateGroup(decay**depth, variables, parts)
        for depth, block in enumerate(blocks)
        for parts, variables in block.items()
    ]


def _block(layer: str) -> str:
    """Return what a layer's name says of its block: all up to its last number (`block_16`, `conv5_block3`, `block6a`),
    or up to its first `_` (`stem`)."""
    return (re.match(r".*\d+[a-z]?(?=[_/]|$)", layer) or re.match(r"[^_]*", layer))[0]


def adamw(variables: list, weight_decay: float) -> keras.optimizers.Optimizer:
    """Return AdamW for one group of variables, so that a factor on its rate is a true factor on its steps.

    The rate is set at each step. Biases and norms are not decayed.
    """
    optimizer = keras.optimizers.AdamW(0.0, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
    optimizer.build(variables)
    return optimizer


@contextlib.contextmanager
def averaged(variables: list, averages: list) -> Iterator[None]:
    """Give the variables the values of their averages, where there are any, until the block ends."""
    trained = [variable.numpy() for variable, _ in zip(variables, averages, strict=False)]
    for variable, average in zip(variables, averages, strict=False):
        variable.assign(average)
    yield
    for variable, value in zip(variables, trained, strict=False):
        variable.assign(value)


def _training_step(
    model: keras.Model,
    cut: str | None,
    activations: np.ndarray,
    part: int,
    groups: list[RateGroup],
    optimizers: list[keras.optimizers.Optimizer],
    averages: list,
    smoothing: float,
    gradients: str,
) -> Callable:
    """Return the step of one part of the training: (x, labels, weights, rate, decay of the averages) to the loss."""
    *_, features, head = model.layers
    begins = model.get_layer(cut).output if cut else model.input
    body = folded(keras.Model(begins, features.output), gradients) if cut != features.name else None
    classes = model.output.shape[-1]
    training = [(o, group) for o, group in zip(optimizers, groups, strict=True) if group.parts[part]]
    variables = [variable for _, group in training for variable in group.variables]
    everything = [variable for group in groups for variable in group.variables]
    lanes = min(PARTS, os.cpu_count())

    one = tf.TensorSpec([], tf.float32)
    batch = [_batch_of(activations), tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.float32)]

    def loss_and_gradients(x, labels, weights, count):
        x = tf.cast(x, tf.float32)
        with tf.GradientTape() as tape:
            probabilities = head(body(x, training=False) if body else x, training=True)
            losses = keras.losses.categorical_crossentropy(
                tf.one_hot(labels, classes), probabilities, label_smoothing=smoothing
            )
            loss = tf.reduce_sum(weights * losses) / count
        return loss, tape.gradient(loss, variables)

    if len(head.variables) == len(head.weights):  # the others are the states of dropout, which would queue the calls
        loss_and_gradients = tf.function(loss_and_gradients, [*batch, one], autograph=False)  # traced once for all

    @tf.function(input_signature=[*batch, one, one], autograph=False)
    def step(x, labels, weights, rate, decay):
        found, count = [], tf.cast(tf.size(labels), tf.float32)
        for rows in zip(*map(_parts, (x, labels, weights)), strict=True):
            with tf.control_dependencies(found[-lanes][1] if len(found) >= lanes else []):
                waiting = map(tf.identity, rows)  # until a core is free: else the tensors of all are held at a time
                found.append(loss_and_gradients(*waiting, count))
        losses, slopes = zip(*found, strict=True)
        summed = iter([in_order(of_parts) for of_parts in zip(*slopes, strict=True)])
        for optimizer, group in training:
            optimizer.learning_rate = rate * group.factor
            optimizer.apply([next(summed) for _ in group.variables], group.variables)
        for average, variable in zip(averages, everything, strict=False):
            average.assign_sub((1 - decay) * (average - variable))
        return in_order(losses)

    return step


def _batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Return rows in batches, in order; those of one with fewer than PARTS follow again, each as often as the other."""
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [np.tile(batch, math.ceil(PARTS / len(batch))) for batch in batches]


def _parts(rows: tf.Tensor) -> list[tf.Tensor]:
    """Return PARTS rows or more in as many parts of nearly the same size; a GPU takes them at once."""
    if tf.config.list_physical_devices("GPU"):
        return [rows]
    bounds = [tf.shape(rows)[0] * number // PARTS for number in range(PARTS + 1)]
    return [rows[start:end] for start, end in pairwise(bounds)]


def _batch_of(activations: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec([None, *activations.shape[1:]], activations.dtype)


def _finite(loss: float, epoch: int, params: Training) -> float:
    if not math.isfinite(loss):
        raise ThawError(
            f"the loss is no longer a number in epoch {epoch}: {params.section}.learning_rate, "
            f"{params.learning_rate:g}, is too high"
        )
    return loss
