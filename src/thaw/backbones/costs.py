"""What freezing up to each cut point costs: multiply-adds, bytes of an activation, seconds of an epoch."""

import time
from math import prod
from pathlib import Path

import numpy as np

from thaw.keras import keras
from thaw.openvino import ov

MEASURED = 4  # depths at which training is timed; in between, the time follows the multiply-adds
BATCH, STEPS = 32, 3


def multiply_adds(network: Path, size: int) -> dict[str, int]:
    """Return the multiply-adds that each output of an OpenVINO network takes for one photograph of `size`.

    Those of convolutions and matrix products, which are nearly all that there are.
    """
    model = ov.Core().read_model(network)
    model.reshape([1, size, size, 3])
    counts = {}
    for output in model.outputs:
        ahead, seen = [output.get_node()], {}
        while ahead:
            step = ahead.pop()
            if step.get_friendly_name() not in seen:
                seen[step.get_friendly_name()] = _multiply_adds_of(step)
                ahead += [source.get_node() for source in step.input_values()]
        counts |= dict.fromkeys(
            output.get_names(), sum(seen.values())
        )  # an Identity's output has its input's name, too
    return counts


def _multiply_adds_of(step: ov.Node) -> int:
    kind = step.get_type_name()
    if kind == "MatMul":
        return prod(step.output(0).shape) * step.input_value(0).shape[-1]
    if kind == "Convolution":  # kernels (out, in, h, w)
        return prod(step.output(0).shape) * prod(list(step.input_value(1).shape)[1:])
    if kind == "GroupConvolution":  # kernels (groups, out / groups, in / groups, h, w)
        return prod(step.output(0).shape) * prod(list(step.input_value(1).shape)[2:])
    return 0


def training_seconds(model: keras.Model, depths: dict[str | None, tuple[int, ...]], behind: list[int]) -> list[float]:
    """Return the seconds that training takes for each photograph and depth, on this machine as it is now.

    depths: each layer and the shape of its output, None for the input; `behind`: the multiply-adds behind each,
    falling. Forward, backward and a plain update, in batches of BATCH; timed at MEASURED depths.
    """
    layers = list(depths)
    marks = np.linspace(behind[0], 0, MEASURED, endpoint=False)
    timed = sorted({int(np.abs(np.array(behind) - mark).argmin()) for mark in marks}, reverse=True)
    seconds = [_step_seconds(model, layers[i], depths[layers[i]]) / BATCH for i in timed]
    return np.interp(behind, [0, *(behind[i] for i in timed)], [0, *seconds]).tolist()


def _step_seconds(model: keras.Model, layer: str | None, shape: tuple[int, ...]) -> float:
    from thaw.tensorflow import tf

    thawed = keras.Model(model.get_layer(layer).output, model.output) if layer else model

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(thawed(x, training=False) ** 2)
        gradients = tape.gradient(loss, thawed.trainable_variables)
        for variable, gradient in zip(thawed.trainable_variables, gradients, strict=True):
            variable.assign_sub(1e-6 * gradient)
        return loss

    x = tf.random.stateless_uniform((BATCH, *shape), seed=(1, 1))
    step(x)  # traces
    start = time.perf_counter()
    for _ in range(STEPS):
        step(x).numpy()
    return (time.perf_counter() - start) / STEPS
