"""TensorFlow, imported quietly and set to give the same bytes each time.

The import costs 4 to 8 s of CPU: only modules that train a network or run it on TensorFlow import this one. All of
them get `tf` from here, and Keras from `thaw.keras`, so that the settings hold whichever comes first.
"""

import functools
import os
from collections.abc import Sequence

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # errors only
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

# TensorFlow greets on file descriptor 2 before it has read its log level: keep that off the person's terminal.
_stderr = os.dup(2)
_null = os.open(os.devnull, os.O_WRONLY)
os.dup2(_null, 2)
try:
    import keras  # noqa: F401  it greets, too
    import tensorflow as tf
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.eager import backprop
finally:
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_null)


def in_order(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the sum of tensors, added one after the other; `tf.add_n` lets timing choose which come first."""
    return functools.reduce(tf.add, tensors)


def _gradient(parts: Sequence[tf.Tensor | tf.IndexedSlices]) -> tf.Tensor | tf.IndexedSlices:
    """Return the gradient of a tensor that several operations read, from theirs; TensorFlow would take AddN."""
    dense = all(isinstance(part, tf.Tensor) for part in parts)
    return in_order(parts) if dense else backprop._aggregate_grads(parts)


# Nothing that is added may depend on timing: AddN adds first into whichever input's buffer is free.
tf.config.experimental.enable_op_determinism()
tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})  # it makes AddN of additions
pywrap_tfe.TFE_Py_RegisterVSpace(backprop._default_vspace._replace(aggregate_fn=_gradient))

__all__ = ["in_order", "tf"]
