"""Networks compiled for inference: batches of images in, arrays of features or activations out, in the same order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from thaw.core import kernels
from thaw.core.errors import ThawError
from thaw.core.machine import usable_cores

BATCH = 2  # images: on 2 cores a quarter faster than batches of 16, whose activations do not fit the cache
GPU_BATCH = 64  # images: a GPU would wait for batches of two
HINTS = {"float32": "f32", "bfloat16": "bf16"}  # for OpenVINO
Batches = Iterable[np.ndarray]
Run = Callable[[Batches], Iterator[np.ndarray]]


def rebatch(arrays: Batches, size: int = BATCH) -> Iterator[np.ndarray]:
    """Yield the rows of the arrays, in order, in batches of `size`; the last may be shorter."""
    waiting, count = [], 0
    for array in arrays:
        while count + len(array) >= size:
            head, array = array[: size - count], array[size - count :]
            yield np.concatenate([*waiting, head])
            waiting, count = [], 0
        if len(array):
            waiting.append(array)
            count += len(array)
    if waiting:
        yield np.concatenate(waiting)


def compile_openvino(
    network: Path,
    output: str,
    size: int,
    dtype: type[np.floating] = np.float16,
    precision: str = "float32",
    cores: int | None = None,
) -> Run:
    """Compile an OpenVINO network up to one of its outputs.

    The conversions from uint8 and to `dtype` are part of the compiled network.

    Args:
        network: the `.xml` file.
        output: the name of the output.
        size: of the images, in pixels.
        dtype: of the result, float16 or float32.
        precision: of the arithmetic, float32 or bfloat16.
        cores: of the processor that it uses; None: all. They change no byte.

    Returns:
        A function from batches (n, size, size, 3) uint8, n at most BATCH, to an array (n, ...) of `dtype` for each, in
        order. Several requests run at a time.

    Raises:
        ThawError: the file is missing, or the processor does not multiply bfloat16.
    """
    from thaw.engines import openvino_setup

    full_network = openvino_setup.read(network)
    part = openvino_setup.ov.Model([full_network.output(output)], full_network.get_parameters(), output)
    return compile_model(part, (size, size, 3), np.uint8, dtype, precision, cores)


def compile_model(
    model, shape: tuple[int, ...], dtype_in: np.typing.DTypeLike, dtype_out: np.typing.DTypeLike,
    precision: str = "float32", cores: int | None = None,
) -> Run:  # fmt: skip
    """Compile an OpenVINO model with one input and one output, for rows of any shape and dtype.

    Args:
        model: an `ov.Model`; it is changed.
        shape: of one row of the input.
        dtype_in: of the input.
        dtype_out: of the output.
        precision: of the arithmetic, float32 or bfloat16.
        cores: of the processor that it uses, whichever are idle; None: all.

    Returns:
        A function from batches (n, *shape), n at most BATCH, to an array (n, ...) for each, in order.

    Raises:
        ThawError: the processor, or the kernels in use, do not multiply bfloat16.
    """
    from thaw.engines.openvino_setup import compile_for_cpu, ov

    if precision == "bfloat16":
        if kernels.CHOICE.baseline:
            raise ThawError(f"image.precision: bfloat16 needs {kernels.NATIVE}=native in the environment")
        if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ThawError("image.precision: this processor does not multiply bfloat16: set it to float32")
    model.reshape([BATCH, *shape])
    conversions = ov.preprocess.PrePostProcessor(model)
    conversions.input().tensor().set_element_type(ov.Type(dtype_in))
    conversions.output().tensor().set_element_type(ov.Type(dtype_out))
    # Else OpenVINO binds its threads to the first cores, which would be the same ones in each process.
    binding = {} if cores is None else {"ENABLE_CPU_PINNING": False}
    cores = cores or usable_cores()  # one stream on each: cores that share an operation could add in another order
    config = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": HINTS[precision]}
    config |= {"PERFORMANCE_HINT": "THROUGHPUT", **binding}
    compiled = compile_for_cpu(conversions.build(), config)
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
        finally:  # the consumer may have stopped early: the next run needs every request idle
            for request, _ in busy:
                request.wait()

    return run


def compile_tensorflow(network: Path, output: str, size: int | None = None) -> Run:
    """Compile a Keras network up to one of its layers on TensorFlow, for machines with a GPU.

    The `.keras` file of a backbone takes the place of the `.xml` file in `compile_openvino`, which returns the same.
    Images may have any size, and the result is float16.

    Args:
        network: the `.keras` file.
        output: the name of the layer.
        size: of the batches that are computed; None: BATCH, or GPU_BATCH on a GPU. All but BATCH are filled up: the
            kernels of a GPU depend on the size of the batch, so an image's values would.

    Returns:
        A function from batches (n, height, width, 3) uint8 to arrays (m, ...) float16 with the same rows, in order.
    """
    from thaw.engines import model_files
    from thaw.engines.keras_setup import keras
    from thaw.engines.tensorflow_setup import gpu_names, tf

    full_model, _ = model_files.load(network)
    frozen = tf.function(keras.Model(full_model.input, full_model.get_layer(output).output), reduce_retracing=True)
    size = size or (GPU_BATCH if gpu_names() else BATCH)

    def run(batches: Batches) -> Iterator[np.ndarray]:
        for batch in rebatch(batches, size):
            full = batch if size == BATCH else np.resize(batch, (size, *batch.shape[1:]))
            outputs = tf.cast(frozen(tf.cast(full, tf.float32), training=False), tf.float16)
            yield outputs.numpy()[: len(batch)]

    return run


def output_shapes(network: Path, layers: Iterable[str], size: int) -> dict[str | None, tuple[int, ...]]:
    """Return the shape of the output of each of `layers` for one image of `size` pixels; under None, the input's.

    Raises ThawError if the network takes no images of this size.
    """
    from thaw.engines import openvino_setup

    model = openvino_setup.read(network)
    try:
        model.reshape([1, size, size, 3])
    except RuntimeError as error:
        raise ThawError(
            f"the network takes no images of {size} pixels, set image.size to another value: "
            f"{openvino_setup.reason(error)}"
        ) from error
    return {None: (size, size, 3), **{layer: tuple(model.output(layer).shape)[1:] for layer in layers}}
