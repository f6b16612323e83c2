"""Keras, for modules that build, load and save networks.

Its backend is TensorFlow, or OpenVINO if `thaw.engines.keras_without_tensorflow` was imported before.
"""

import sys

if "thaw.engines.keras_without_tensorflow" in sys.modules:
    import thaw.engines.openvino_setup
else:
    import thaw.engines.tensorflow_setup  # noqa: F401  with its settings

from thaw.engines.keras_import import keras

# Otherwise the user's own ~/.keras/keras.json would change every network.
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")

__all__ = ["keras"]
