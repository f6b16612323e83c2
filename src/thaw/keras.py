"""Keras, for modules that build, load and save networks: on TensorFlow, or on OpenVINO where `thaw.keras_alone` was
imported before."""

import sys

if "thaw.keras_alone" in sys.modules:
    import thaw.openvino
else:
    import thaw.tensorflow  # noqa: F401  with its settings

import keras

# What a person's own ~/.keras/keras.json says would be in every network.
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")

__all__ = ["keras"]
