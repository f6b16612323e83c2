"""The engines: batches of photographs in, features or activations out, in order, at the speed of the machine."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from thaw.errors import missing

BATCH = 2  # photographs: on 2 cores a quarter faster than batches of 16, whose activations leave the cache
Batches = Iterable[np.ndarray]


def rebatch(arrays: Batches, size: int = BATCH) -> Iterator[np.ndarray]:
    """Yield the rows of the arrays, in order, in batches of `size`; the last may be shorter."""
    held, count = [], 0
    for array in arrays:
        while count + len(array) >= size:
            head, array = array[: size - count], array[size - count :]
            yield np.concatenate([*held, head])
            held, count = [], 0
        if len(array):
            held.append(array)
            count += len(array)
    if held:
        yield np.concatenate(held)


def openvino(
    network: Path, output: str, size: int, dtype: type[np.floating] = np.float16
) -> Callable[[Batches], Iterator[np.ndarray]]:
    """Compile an OpenVINO network up to one of its outputs, for (n, size, size, 3) uint8 batches of up to BATCH.

    Returns a function that maps batches to arrays of `dtype` (float16 or float32), in order, with several requests
    under way. The arithmetic is float32; the conversions from uint8 and to `dtype` are part of the compiled network.
    """
    from thaw.openvino import ov

    whole = _read(ov.Core(), network)
    model = ov.Model([whole.output(output)], whole.get_parameters(), output)
    return on_openvino(model, (size, size, 3), np.uint8, dtype)


def on_openvino(
    model, shape: tuple[int, ...], dtype_in: np.typing.DTypeLike, dtype_out: np.typing.DTypeLike
) -> Callable[[Batches], Iterator[np.ndarray]]:
    """The same for a network with one input and one output, of rows of any shape and dtype."""
    from thaw.openvino import ov

    model.reshape([BATCH, *shape])
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type(dtype_in))
    steps.output().tensor().set_element_type(ov.Type(dtype_out))
    config = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(steps.build(), "CPU", config)
    requests = [
        compiled.create_infer_request() for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1)
    ]

    def run(batches: Batches) -> Iterator[np.ndarray]:
        idle, busy = deque(requests), deque()

        def collect() -> np.ndarray:
            request, count = busy.popleft()
            request.wait()
            idle.append(request)
            return request.get_output_tensor(0).data[:count].copy()

        try:
            for batch in batches:
                if not idle:
                    yield collect()
                request = idle.popleft()
                request.get_input_tensor(0).data[: len(batch)] = batch
                request.start_async()
                busy.append((request, len(batch)))
            while busy:
                yield collect()
        finally:  # a reader may have broken off: the next one wants every request idle
            for request, _ in busy:
                request.wait()

    return run


def output_shapes(network: Path, layers: Iterable[str], size: int) -> dict[str | None, tuple[int, ...]]:
    """Return the shapes of the outputs of `layers` for one photograph of `size`, after the input's under None."""
    from thaw.openvino import ov

    model = _read(ov.Core(), network)
    model.reshape([1, size, size, 3])
    return {None: (size, size, 3), **{layer: tuple(model.output(layer).shape)[1:] for layer in layers}}


def _read(core, network: Path):
    """Read an OpenVINO network; its own error for one that is not there does not say that."""
    if not network.exists():
        raise missing(network)
    return core.read_model(network)


def tensorflow(network: Path, output: str) -> Callable[[Batches], Iterator[np.ndarray]]:
    """The same as `openvino` with TensorFlow, from the backbone's `.keras` file: for machines with a GPU."""
    from thaw import models
    from thaw.keras import keras
    from thaw.tensorflow import tf

    whole, _ = models.load(network)
    frozen = tf.function(keras.Model(whole.input, whole.get_layer(output).output), reduce_retracing=True)

    def run(batches: Batches) -> Iterator[np.ndarray]:
        for batch in batches:
            yield tf.cast(frozen(tf.cast(batch, tf.float32), training=False), tf.float16).numpy()

    return run
