"""Keras, imported quietly and set to give the same bytes each time: on TensorFlow, or on OpenVINO.

TensorFlow costs 4 s of CPU to import: only modules that build or train a network import this one. Where a process has
imported `thaw.without_tensorflow` first, Keras stands on OpenVINO, which builds, reads, converts and writes networks in
a tenth of the time and trains none; `tf` is None there. All modules get `keras` and `tf` from here, so that the
settings hold whichever of them comes first.
"""

import os
import sys

ON_OPENVINO = "thaw.without_tensorflow" in sys.modules
os.environ["KERAS_BACKEND"] = "openvino" if ON_OPENVINO else "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # errors only
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

# TensorFlow greets on file descriptor 2 before it has read its log level: keep that off the person's terminal.
_stderr = os.dup(2)
_null = os.open(os.devnull, os.O_WRONLY)
os.dup2(_null, 2)
try:
    if ON_OPENVINO:
        import keras

        tf = None
    else:
        import keras
        import tensorflow as tf
finally:
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_null)

if tf:
    tf.config.experimental.enable_op_determinism()

__all__ = ["ON_OPENVINO", "keras", "tf"]
