"""TensorFlow and Keras, imported quietly and set to give the same bytes each time.

The import costs 4 to 8 s of CPU: only modules that train a network or run it on TensorFlow import this one. All of
them get `keras` and `tf` from here, so that the settings hold whichever comes first; the others have `thaw.keras`.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # errors only
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

# TensorFlow greets on file descriptor 2 before it has read its log level: keep that off the person's terminal.
_stderr = os.dup(2)
_null = os.open(os.devnull, os.O_WRONLY)
os.dup2(_null, 2)
try:
    import keras
    import tensorflow as tf
finally:
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_null)

tf.config.experimental.enable_op_determinism()
# AddN adds first into whichever buffer is free, so that its sum depends on timing; this makes it of two additions.
tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})

__all__ = ["keras", "tf"]
