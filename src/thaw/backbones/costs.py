"""What freezing up to a cut point costs: multiply-adds, bytes of an activation, seconds of an epoch."""

import time
from math import prod
from pathlib import Path

import numpy as np

from thaw.engines import openvino_setup
from thaw.engines.keras_setup import keras
from thaw.engines.model_files import thawed_part
from thaw.engines.openvino_setup import ov

TIMED_DEPTHS = 4  # at which training is timed; between them, the time follows the multiply-adds
BATCH, STEPS = 32, 3


def multiply_adds(network: Path, size: int) -> dict[str, int]:
    """Return the multiply-adds of each output of an OpenVINO network for one image of `size` pixels.

    Only those of convolutions and matrix products count, which are nearly all.
    """
    model = openvino_setup.read(network)
    model.reshape([1, size, size, 3])
    counts = {}
    for output in model.outputs:
        waiting, visited = [output.get_node()], {}
        while waiting:
            step = waiting.pop()
            if step.get_friendly_name() not in visited:
                visited[step.get_friendly_name()] = _step_multiply_adds(step)
                waiting += [source.get_node() for source in step.input_values()]
        for name in output.get_names():  # the output of an Identity has the name of its input, too
            counts[name] = sum(visited.values())
    return counts


def _step_multiply_adds(step: ov.Node) -> int:
    kind = step.get_type_name()
    if kind == "MatMul":
        return prod(step.output(0).shape) * step.input_value(0).shape[-1]
    if kind == "Convolution":  # kernels (out, in, h, w)
        return prod(step.output(0).shape) * prod(list(step.input_value(1).shape)[1:])
    if kind == "GroupConvolution":  # kernels (groups, out / groups, in / groups, h, w)
        return prod(step.output(0).shape) * prod(list(step.input_value(1).shape)[2:])
    return 0


def training_seconds(model: keras.Model, depths: dict[str | None, tuple[int, ...]], behind: list[int]) -> list[float]:
    """Return the seconds that training takes for one image at each depth, on this machine as it is now.

    depths: each layer, and the shape of its output; None is the input. behind: the multiply-adds behind each depth, in
    falling order. Forward, backward and a plain update are timed, in batches of BATCH, at TIMED_DEPTHS depths.
    """
    layers = list(depths)
    targets = np.linspace(behind[0], 0, TIMED_DEPTHS, endpoint=False)
    timed = sorted({int(np.abs(np.array(behind) - target).argmin()) for target in targets}, reverse=True)
    seconds = [_step_seconds(model, layers[i], depths[layers[i]]) / BATCH for i in timed]
    return np.interp(behind, [0, *(behind[i] for i in timed)], [0, *seconds]).tolist()


def _step_seconds(model: keras.Model, layer: str | None, shape: tuple[int, ...]) -> float:
    from thaw.engines.tensorflow_setup import tf

    thawed = thawed_part(model, layer)

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
