"""TensorFlow, imported without its messages and set to give the same bytes each time.

The import takes 4 to 8 s of CPU: only modules that train a network or run it on TensorFlow import this one. All of
them get `tf` from here, and Keras from `thaw.engines.keras_setup`, so that the settings always hold.

The functions below are also where Thaw uses private interfaces of TensorFlow: no module outside `engines` does.
"""

import functools
import os
from collections.abc import Sequence

from thaw.core import kernels
from thaw.core.silence import silence

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # errors only
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

with silence(2):  # both print there before they read their log level; TensorFlow would import the whole of Keras
    import thaw.engines.keras_import  # noqa: F401

    # isort: split
    import tensorflow as tf
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.eager import backprop
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    from tensorflow.python.ops import math_ops

# TensorFlow gives the proto of a SavedModel no public name. Test: test_export.py.
__all__ = ["SavedModel", "constant_graph", "gelu", "gpu_names", "inverse_root", "ordered_sum", "tf"]


def gpu_names() -> list[str]:
    """Return the names of the GPUs that TensorFlow can use; it computes on the first."""
    gpus = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]


def _set_up_gpus() -> None:
    """Let TensorFlow take memory as it needs it, in float32 as on a CPU, and say that it computes on a GPU.

    By default it takes all memory of all GPUs at its start, and rounds the factors of products to 10 bits (TF32).
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    if names := gpu_names():
        others = f", the first of {len(names)}: the others are not used" if len(names) > 1 else ""
        kernels.say(
            f"TensorFlow computes on the GPU {names[0]}{others}; results differ in their last digits from those on a "
            "CPU, and DVC keeps them: CUDA_VISIBLE_DEVICES=-1 in the environment keeps it to the CPU"
        )


def ordered_sum(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the sum of tensors, added one after the other; `tf.add_n` lets timing choose which come first."""
    return functools.reduce(tf.add, tensors)


def inverse_root(x: tf.Tensor, name: str | None = None) -> tf.Tensor:
    """Return 1 / sqrt(x), by operations that every processor rounds in the same way.

    `tf.math.rsqrt` starts from the processor's estimate, which Intel and AMD compute differently. Of 1 / sqrt(x),
    TensorFlow makes the reciprocal of a root, which does too; so this is 2 / sqrt(4 x). Test: test_tensorflow_setup.py.
    """
    return tf.divide(2.0, tf.sqrt(4.0 * x), name=name)


def gelu(features: tf.Tensor, approximate: bool = False, name: str | None = None) -> tf.Tensor:
    """Return GELU as `tf.nn.gelu` does, by operations that every processor rounds in the same way.

    TensorFlow's own calls erfc, which differs between AVX2 and AVX-512. Test: test_tensorflow_setup.py.
    """
    if approximate:
        return _own_gelu(features, True, name)
    return tf.multiply(0.5 * features, 1.0 + tf.math.erf(features * 0.5**0.5), name=name)


def _add_gradients(gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> tf.Tensor | tf.IndexedSlices:
    """Return the gradient of a tensor that several operations read, from theirs; TensorFlow would use AddN."""
    dense = all(isinstance(gradient, tf.Tensor) for gradient in gradients)
    return ordered_sum(gradients) if dense else backprop._aggregate_grads(gradients)


def _add_gradients_in_order() -> None:
    """Make TensorFlow add gradients one after the other.

    Why: AddN first adds the input whose buffer is free, so timing changes the sum. Test: test_tensorflow_setup.py.
    """
    pywrap_tfe.TFE_Py_RegisterVSpace(backprop._default_vspace._replace(aggregate_fn=_add_gradients))


def constant_graph(function: tf.types.experimental.ConcreteFunction) -> tf.compat.v1.GraphDef:
    """Return the graph of a traced function, its variables as constants.

    Why: no public function makes constants of variables, and swish has an attribute that numbers the process'
    gradients, so other bytes in each process. Test: test_export.py.
    """
    graph = convert_variables_to_constants_v2(function).graph.as_graph_def()
    for node in graph.node:
        node.attr.pop("_gradient_op_type", None)
    return graph


tf.get_logger().setLevel("ERROR")  # with folds, a process trains several models: TensorFlow advises to train one
tf.config.experimental.enable_op_determinism()
math_ops.rsqrt = tf.math.rsqrt = inverse_root  # batch and layer normalisation call it
_own_gelu, tf.nn.gelu = tf.nn.gelu, gelu
tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})  # it makes AddN of additions
_add_gradients_in_order()
_set_up_gpus()
