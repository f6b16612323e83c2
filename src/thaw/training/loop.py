"""Train a head, or a head and the layers behind the frozen ones, on cached activations: a flat loop with AdamW.

On a CPU, a batch is split into PARTS that are computed side by side, each on one core. If all cores shared each
operation instead, many operations would be too small for that, and sums would depend on how many cores there are.
"""

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from thaw.backbones.cut_points import find_cut_points
from thaw.core import arrays, progress
from thaw.core.errors import ThawError
from thaw.core.machine import usable_cores
from thaw.engines.keras_setup import keras
from thaw.engines.model_files import thawed_part
from thaw.engines.tensorflow_setup import ordered_sum, tf
from thaw.features.examples import MIN_PROBABILITY, Examples
from thaw.training.centring import centre, input_axes, is_kernel
from thaw.training.folding import folded
from thaw.training.objectives import kind
from thaw.training.schedule import learning_rate, phase

if TYPE_CHECKING:
    from thaw.parameters.training import Training

PARTS = 4  # of a batch; with 8, an epoch behind block5 takes a fifth longer on 2 cores
PREDICTION_BATCH = 64  # rows; larger batches are no faster here and need more memory


@dataclass(frozen=True)
class TrainingData:
    """The cached activations to train on, and which layers thaw behind them."""

    activations: np.ndarray  # (rows, ...) float16 or uint8: a memory map, or anything with its shape, dtype and rows
    train: Examples
    validation: Examples
    frozen_layer: str | None = None  # the activations are its outputs; None: they are the inputs of the model
    depths: tuple[str | None, ...] = (None,)  # in each phase of the training, all layers behind this one train
    last_epoch: int | None = None  # the training ends after it, and it is kept; None: validation chooses the epoch


def share_cores() -> None:
    """Let TensorFlow compute the parts of a batch side by side, each on one core.

    Cores that share an operation add in an order that depends on how many there are. So the number of cores does not
    change the bytes of a trained model, and more than PARTS cores are of no use. It has no effect once TensorFlow has
    computed anything in this process.
    """
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(min(PARTS, usable_cores()))
        tf.config.threading.set_intra_op_parallelism_threads(1)


def fit(model: keras.Model, data: TrainingData, params: "Training", log: Callable[[dict[str, float]], None]) -> int:
    """Train `model` in place and leave it with the weights of the best epoch.

    The epochs are divided into equal phases, one for each of `data.depths`. A depth may lie before or behind the one
    of the phase before, but not before the frozen layer. Each epoch uses one view of each image and cycles through all
    of them. Dropout is active in the head alone. The layers before the head run in inference mode, so that batch
    normalisation keeps its statistics. The loss is that of `objectives`: the weighted cross-entropy.

    The best epoch has the lowest calibrated loss on validation. Epoch 0, the start, counts too. A network that is too
    sure can be calibrated afterwards; one that confuses classes cannot (Berta et al. 2025, arXiv 2501.19195).
    With `data.last_epoch`, that epoch is kept, whatever its loss; the rate falls as if all epochs followed.

    Args:
        model: Its last layer, which may be a model itself, is the head.
        data: Images of the splits train and validation.
        params: `head` or `fine_tune` of params.yaml. Patience is counted from the start of the last phase. Without
            patience, the last epoch is kept. With `ema`, the exponential moving average of the weights is validated
            and kept. Training ends after epoch i if the lowest loss is above the i-th number of `prune_above`.
            `gradients` is as in `folded`. With `centre_gradients`, those of kernels are centred, see `centring`.
        log: Gets the scores of each epoch.

    Returns:
        The epoch that is kept.

    Raises:
        ThawError: A loss is not finite, or all weights of a class are 0.
    """
    generator = np.random.default_rng(params.seed)
    keras.utils.set_random_seed(params.seed)
    train, validation, phases = data.train, data.validation, len(data.depths)
    objective = kind(train)
    targets, weights = objective.targets(train), objective.weights(train, params.class_weight)
    steps = math.ceil(len(train) / params.batch_size)
    variables = trainable_variables(model, data.depths, params)
    training_steps = [_training_step(model, data, variables, number, params) for number in range(phases)]
    thawed = thawed_part(model, data.frozen_layer)
    predict = predictor(thawed, data.activations)

    first_view, view_counts = generator.integers(train.views.shape[1], size=len(train)), train.view_counts
    last_thawing = math.ceil(params.epochs * (phases - 1) / phases)
    limits = {epoch: limit for epoch, limit in enumerate(params.prune_above, start=1) if limit is not None}
    last_epoch, patience = params.epochs, params.patience
    if data.last_epoch is not None:
        last_epoch, patience, limits = data.last_epoch, None, {}
    lowest, best_epoch, best_weights = math.inf, 0, []
    for epoch in range(last_epoch + 1):
        training_step = training_steps[phase(epoch, params.epochs, phases)]
        order = generator.permutation(len(train)) if epoch else np.array([], int)
        batches = _batches(order, params.batch_size)
        rows = (train.views[batch, (first_view[batch] + epoch) % view_counts[batch]] for batch in batches)
        tracked = progress.track(batches, f"epoch {epoch} of {params.epochs}", "step", len(batches))
        losses = []
        for batch, x in zip(tracked, arrays.read_ahead(data.activations, rows), strict=True):
            step = (epoch - 1) * steps + len(losses)
            rate = learning_rate(step, steps, params)
            decay = min(params.ema or 0.0, (1 + step) / (10 + step))  # a young average forgets the start sooner
            loss = float(training_step(x, targets[batch], weights[batch], rate, decay))
            losses.append(_finite(loss, epoch, params))
        train_loss = {"train_loss": float(np.mean(losses))} if losses else {}
        if data.last_epoch is not None and epoch < data.last_epoch:  # nothing is chosen
            log(train_loss)
            continue
        with averaged(variables):
            scores = validation_scores(predict(validation.rows), validation)
            _finite(scores["validation_loss"], epoch, params)
            log(scores | train_loss)
            calibrated = scores["validation_loss_calibrated"]
            if patience is None or calibrated < lowest:
                best_epoch, best_weights = epoch, thawed.get_weights()
            lowest = min(lowest, calibrated)
        waited = epoch - max(best_epoch, last_thawing)
        if waited >= (patience or math.inf) or lowest > limits.get(epoch, math.inf):
            break
    thawed.set_weights(best_weights)
    return best_epoch


def validation_scores(probabilities: np.ndarray, examples: Examples) -> dict[str, float]:
    """Return the weighted cross-entropy (nats) of (n, classes) probabilities, plain and calibrated, and the accuracy.

    The calibrated loss is the one at the best temperature of 1 or more. Temperatures below 1 would reward a network
    that is unsure, most of all if few images validate.
    """
    objective = kind(examples)
    loss, accuracy = objective.scores(probabilities, examples)
    clipped = probabilities.astype(np.float64).clip(MIN_PROBABILITY)  # else a few surest mistakes decide the loss
    calibrated = loss
    if math.isfinite(loss):
        calibrated, _ = objective.scores(objective.calibrated(clipped, examples), examples)
    return {
        "validation_loss": loss, "validation_loss_calibrated": calibrated, "validation_accuracy_weighted": accuracy,
    }  # fmt: skip


def predictor(thawed: keras.Model, activations: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a function from (n,) row numbers of `activations` to (n, classes) float32 probabilities.

    The function takes other activations of the same shape and dtype as a second argument.
    """
    function = tf.function(
        lambda x: tf.concat([thawed(part, training=False) for part in _parts(tf.cast(x, tf.float32))], 0),
        [_batch_spec(activations)],
        autograph=False,
    )

    def predict(rows: np.ndarray, activations: np.ndarray = activations) -> np.ndarray:
        batches = _batches(rows, PREDICTION_BATCH)
        return np.concatenate([function(x).numpy() for x in arrays.read_ahead(activations, batches)])[: len(rows)]

    return predict


@dataclass(frozen=True)
class RateGroup:
    """Variables of one block that train in the same phases."""

    factor: float  # on the learning rate
    variables: list
    phases: tuple[bool, ...]  # in which of them it trains


@dataclass(frozen=True)
class TrainableVariables:
    """The variables that train in any phase, with all that is kept for them between steps."""

    groups: list[RateGroup]
    optimizers: list[keras.optimizers.Optimizer]  # one for each group
    averages: list[tf.Variable]  # one for each variable, or none at all

    @property
    def all(self) -> list:
        return [variable for group in self.groups for variable in group.variables]


def trainable_variables(model: keras.Model, depths: tuple[str | None, ...], params: "Training") -> TrainableVariables:
    """Return the variables behind any of `depths`, with an AdamW for each group and, with `params.ema`, averages."""
    groups = rate_groups(model, depths, params.layer_decay)
    optimizers = [adamw(group.variables, params.weight_decay) for group in groups]
    averages = [tf.Variable(variable) for group in groups for variable in group.variables] if params.ema else []
    return TrainableVariables(groups, optimizers, averages)


def rate_groups(model: keras.Model, depths: tuple[str | None, ...], decay: float) -> list[RateGroup]:
    """Group the trainable variables behind any of `depths` by block, from the head down.

    The head's factor on the learning rate is 1. The factor of each block is `decay` times that of the block behind it;
    blocks without weights are skipped. A block ends at a cut point. Neighbouring blocks whose last layers have the same
    block name are one.
    """
    *body, head = model.layers
    position = {layer.name: index for index, layer in enumerate(model.layers)}
    last_frozen = [position[depth] if depth else -1 for depth in depths]
    features = body[-1].name  # ends a block, but is no cut point if the head is a model itself
    ends = {point.layer for point in find_cut_points(model, features)} | {features}
    layers = [("", head)]
    for layer in reversed(body):
        layers.append((_block(layer.name) if layer.name in ends else layers[-1][0], layer))

    blocks = []
    for _, block in groupby(layers, key=lambda pair: pair[0]):
        variables: dict[tuple[bool, ...], list] = {}
        for _, layer in block:
            phases = tuple(position[layer.name] > last for last in last_frozen)
            if any(phases) and layer.trainable_variables:
                variables.setdefault(phases, []).extend(layer.trainable_variables)
        if variables:
            blocks.append(variables)
    return [
        RateGroup(decay**number, variables, phases)
        for number, block in enumerate(blocks)
        for phases, variables in block.items()
    ]


def _block(layer: str) -> str:
    """Return the block's part of a layer's name: up to its last number (`block_16`, `conv5_block3`, `block6a`), or up
    to its first `_` (`stem`)."""
    return (re.match(r".*\d+[a-z]?(?=[_/]|$)", layer) or re.match(r"[^_]*", layer))[0]


def adamw(variables: list, weight_decay: float) -> keras.optimizers.Optimizer:
    """Return an AdamW for one group of variables: so a factor on its learning rate is a true factor on its steps.

    The learning rate is set at each step. Only kernels have weight decay: not biases, scales, tokens and positions.
    """
    optimizer = keras.optimizers.AdamW(0.0, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not is_kernel(v)])
    optimizer.build(variables)
    return optimizer


@contextlib.contextmanager
def averaged(variables: TrainableVariables) -> Iterator[None]:
    """Give the variables the values of their averages, if there are any, until the block ends or fails."""
    pairs = list(zip(variables.all, variables.averages, strict=True)) if variables.averages else []
    trained = [variable.numpy() for variable, _ in pairs]
    try:
        for variable, average in pairs:
            variable.assign(average)
        yield
    finally:
        for (variable, _), value in zip(pairs, trained, strict=True):
            variable.assign(value)


def _training_step(
    model: keras.Model, data: TrainingData, variables: TrainableVariables, number: int, params: "Training"
) -> Callable:
    """Return the training step of one phase.

    Args:
        model: As in `fit`.
        data: As in `fit`.
        variables: What may train.
        number: The phase.
        params: As in `fit`.

    Returns:
        A function from x, targets, weights, the learning rate and the decay of the averages to the loss.
    """
    *_, features, head = model.layers
    begin = model.get_layer(data.frozen_layer).output if data.frozen_layer else model.input
    has_body = data.frozen_layer != features.name
    body = folded(keras.Model(begin, features.output), params.gradients) if has_body else None
    objective = kind(data.train)(params)
    training = [
        (optimizer, group)
        for optimizer, group in zip(variables.optimizers, variables.groups, strict=True)
        if group.phases[number]
    ]
    training_variables = [variable for _, group in training for variable in group.variables]
    axes = input_axes(model.layers) if params.centre_gradients else {}
    lanes = min(PARTS, usable_cores())

    scalar = tf.TensorSpec([], tf.float32)
    targets = objective.targets(data.train.take(np.array([0])))
    of_weights = tf.TensorSpec([None, *targets.shape[1:]], tf.float32)
    batch = [_batch_spec(data.activations), _batch_spec(targets), of_weights]

    def loss_and_gradients(x, targets, weights, count):
        x = tf.cast(x, tf.float32)
        with tf.GradientTape() as tape:
            probabilities = head(body(x, training=False) if body else x, training=True)
            loss = tf.reduce_sum(weights * objective.losses(targets, probabilities)) / count
        return loss, tape.gradient(loss, training_variables)

    has_state = len(head.variables) != len(head.weights)  # of dropout: with it, calls of one graph would wait in line
    if not has_state:
        loss_and_gradients = tf.function(loss_and_gradients, [*batch, scalar], autograph=False)  # traced only once

    @tf.function(input_signature=[*batch, scalar, scalar], autograph=False)
    def step(x, targets, weights, rate, decay):
        results, count = [], tf.cast(tf.shape(targets)[0], tf.float32)
        for rows in zip(*map(_parts, (x, targets, weights)), strict=True):
            # A part waits until a core is free: else the tensors of all parts would be in memory at the same time.
            with tf.control_dependencies(results[-lanes][1] if len(results) >= lanes else []):
                waiting = map(tf.identity, rows)
                results.append(loss_and_gradients(*waiting, count))
        losses, gradients = zip(*results, strict=True)
        sums = iter([ordered_sum(parts) for parts in zip(*gradients, strict=True)])
        for optimizer, group in training:
            optimizer.learning_rate = rate * group.factor
            gradients = [centre(next(sums), axes.get(variable.path, ())) for variable in group.variables]
            optimizer.apply(gradients, group.variables)
        for average, variable in zip(variables.averages, variables.all, strict=False):
            average.assign_sub((1 - decay) * (average - variable))
        return ordered_sum(losses)

    return step


def _batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Return rows in batches, in order. A batch of fewer than PARTS rows is repeated until it has at least so many."""
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [np.tile(batch, math.ceil(PARTS / len(batch))) for batch in batches]


def _parts(rows: tf.Tensor) -> list[tf.Tensor]:
    """Divide at least PARTS rows into PARTS of nearly the same size. A GPU computes all rows at once."""
    if tf.config.list_physical_devices("GPU"):
        return [rows]
    bounds = [tf.shape(rows)[0] * number // PARTS for number in range(PARTS + 1)]
    return [rows[start:end] for start, end in pairwise(bounds)]


def _batch_spec(activations: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec([None, *activations.shape[1:]], activations.dtype)


def _finite(loss: float, epoch: int, params: "Training") -> float:
    if not math.isfinite(loss):
        raise ThawError(
            f"the loss is no longer a number in epoch {epoch}: {params.section}.learning_rate, "
            f"{params.learning_rate:g}, is too high"
        )
    return loss
