"""A compiled network that several threads ask at the same time."""

import queue
from collections.abc import Sequence

import numpy as np

from thaw.core.machine import usable_cores
from thaw.engines.openvino_setup import compile_for_cpu, ov


class SharedNetwork:
    """Computes outputs of a network for one image at a time, on one core each.

    Its numbers are those of `inference.compile_openvino`, which is for many images and one thread: no two cores share
    an operation, so sums are added in the same order.

    Args:
        outputs: of the network.
        parameters: its inputs; the one that there is takes RGB pixels 0-255.
        size: of an image, in pixels.
        dtype: of the results.
    """

    def __init__(
        self, outputs: Sequence[ov.Output], parameters: Sequence, size: int, dtype: type[np.floating] = np.float32
    ):
        network = ov.Model(list(outputs), list(parameters), "shared")
        network.reshape([1, size, size, 3])
        conversions = ov.preprocess.PrePostProcessor(network)
        conversions.input().tensor().set_element_type(ov.Type(np.uint8))
        for number in range(len(outputs)):
            conversions.output(number).tensor().set_element_type(ov.Type(dtype))
        cores = usable_cores()
        config = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = compile_for_cpu(conversions.build(), config | {"PERFORMANCE_HINT": "THROUGHPUT"})
        self._count = len(outputs)
        self._idle = queue.SimpleQueue()
        for _ in range(cores):
            self._idle.put(compiled.create_infer_request())

    def __call__(self, view: np.ndarray) -> list[np.ndarray]:
        """Return the row of each output for a view (size, size, 3) uint8. Waits while all cores are busy."""
        request = self._idle.get()
        try:
            request.get_input_tensor(0).data[0] = view
            request.infer()
            return [request.get_output_tensor(number).data[0].copy() for number in range(self._count)]
        finally:
            self._idle.put(request)
