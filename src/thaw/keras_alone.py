"""Keras without TensorFlow, for a script that computes nothing with it and imports this before anything of Keras'.

Keras then stands on OpenVINO, which is there in a third of the time.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "openvino"
sys.modules["tensorflow"] = None  # Keras looks for it wherever it might have to deal with its types
