"""Keras, for modules that build, load and save networks: on TensorFlow, or on OpenVINO where `thaw.keras_alone` was
imported before."""

import sys

if "thaw.keras_alone" in sys.modules:
    import thaw.openvino
else:
    import thaw.tensorflow  # noqa: F401  with its settings

import keras

__all__ = ["keras"]
