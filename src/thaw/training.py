"""Fine-tune the layers behind the cut on cached activations: a flat loop with AdamW."""

import math
import re
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from thaw import arrays
from thaw.examples import Examples, training_weights, weighted_scores
from thaw.params import FineTune
from thaw.tensorflow import keras, tf

PREDICTION_BATCH = 64  # rows; larger ones are no faster here and hold more memory


def attach_head(backbone: keras.Model, features: str, kernel: np.ndarray, bias: np.ndarray) -> keras.Model:
    """Return the backbone up to its layer `features` with a softmax layer of the given weights behind it."""
    dense = keras.layers.Dense(len(bias), activation="softmax", name="probabilities")
    model = keras.Model(backbone.input, dense(backbone.get_layer(features).output), name=backbone.name)
    dense.set_weights([kernel, bias])
    return model


def thawed_part(model: keras.Model, cut: str | None) -> keras.Model:
    """Return the part of `model` behind the layer `cut`, sharing its weights; None is the whole."""
    return keras.Model(model.get_layer(cut).output, model.output) if cut else model


def fine_tune(
    thawed: keras.Model,
    activations: np.memmap,
    train: Examples,
    validation: Examples,
    params: FineTune,
    log: Callable[[dict[str, float]], None],
) -> int:
    """Train `thawed` in place and leave it with the weights of its best epoch, which is returned (0: as given).

    activations (rows, ...) float16 or uint8. An epoch shows each photograph once, as the view that is its turn, so
    that 1 + copies epochs show them all. Batch normalisation keeps its statistics (it runs in inference mode); the
    loss is the weighted cross-entropy. The best epoch is that of the lowest validation loss; epoch 0 is the start.
    """
    generator = np.random.default_rng(params.seed)
    keras.utils.set_random_seed(params.seed)
    weights = training_weights(train, params.class_weight).astype(np.float32)
    steps = math.ceil(len(train.labels) / params.batch_size)
    groups = rate_groups(thawed, params.layer_decay)
    optimizers = [adamw(variables, params.learning_rate * factor, steps, params) for factor, variables in groups]
    step = _training_step(thawed, activations, groups, optimizers)
    predict = predictor(thawed, activations)

    first = generator.integers(train.views.shape[1], size=len(train.labels))  # the view each photograph begins with
    best, best_epoch, best_weights = math.inf, 0, []
    for epoch in range(params.epochs + 1):
        order = generator.permutation(len(train.labels)) if epoch else []
        losses = []
        for start in tqdm(range(0, len(order), params.batch_size), f"epoch {epoch}", disable=None, leave=False):
            batch = order[start : start + params.batch_size]
            rows = train.views[batch, (first[batch] + epoch) % train.views.shape[1]]
            losses.append(float(step(activations[rows], train.labels[batch], weights[batch])))
            arrays.release(activations)
        loss, accuracy = weighted_scores(predict(validation.views[:, 0]), validation)
        scores = {"validation_loss": loss, "validation_accuracy_weighted": accuracy}
        log(scores | ({"train_loss": float(np.mean(losses))} if losses else {}))
        if loss < best:
            best, best_epoch, best_weights = loss, epoch, thawed.get_weights()
        elif epoch - best_epoch >= params.patience:
            break
    thawed.set_weights(best_weights)
    return best_epoch


def predictor(thawed: keras.Model, activations: np.memmap) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from rows of `activations` to their (n, classes) float32 probabilities."""
    function = tf.function(
        lambda x: thawed(tf.cast(x, tf.float32), training=False), input_signature=[_batch_of(activations)]
    )

    def predict(rows: np.ndarray) -> np.ndarray:
        outputs = []
        for start in range(0, len(rows), PREDICTION_BATCH):
            outputs.append(function(activations[rows[start : start + PREDICTION_BATCH]]).numpy())
            arrays.release(activations)
        return np.concatenate(outputs)

    return predict


def _training_step(thawed: keras.Model, activations: np.memmap, groups: list, optimizers: list) -> Callable:
    variables = [variable for _, group in groups for variable in group]

    def step(x, labels, weights):
        with tf.GradientTape() as tape:
            probabilities = thawed(tf.cast(x, tf.float32), training=False)
            loss = tf.reduce_mean(weights * keras.losses.sparse_categorical_crossentropy(labels, probabilities))
        gradients = iter(tape.gradient(loss, variables))
        for optimizer, (_, group) in zip(optimizers, groups, strict=True):
            optimizer.apply([next(gradients) for _ in group], group)
        return loss

    labels, weights = tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.float32)
    return tf.function(step, input_signature=[_batch_of(activations), labels, weights])


def _batch_of(activations: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec([None, *activations.shape[1:]], activations.dtype)


def rate_groups(thawed: keras.Model, decay: float) -> list[tuple[float, list]]:
    """Group the trainable variables by block, from the head down, each with its factor `decay`**depth on the rate.

    A block is the layers whose names share what stands before the first `_` (`block6a`); blocks without weights
    count for nothing.
    """
    groups: dict[str, list] = {}
    for layer in reversed(thawed.layers):
        if layer.trainable_variables:
            groups.setdefault(re.match(r"[^_]*", layer.name)[0], []).extend(layer.trainable_variables)
    return [(decay**depth, variables) for depth, variables in enumerate(groups.values())]


def adamw(variables: list, peak: float, steps: int, params: FineTune) -> keras.optimizers.Optimizer:
    """Return AdamW for one group of variables, so that a factor on its rate is a true factor on its steps.

    The rate rises to `peak` over the first `params.warmup_epochs` of `steps` steps each, then falls to 0 along a
    cosine. Biases and norms are not decayed.
    """
    warmup = round(params.warmup_epochs * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else peak, max(1, steps * params.epochs - warmup), warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )  # fmt: skip
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=params.weight_decay)
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
    optimizer.build(variables)
    return optimizer
