"""Keras without TensorFlow, for a script that computes nothing with Keras. Import this before any module of Keras.

Keras then has the backend OpenVINO, which is imported in a third of the time.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "openvino"

# Private. Why: Keras imports TensorFlow for its types, if it is installed. Test: test_keras_to_openvino.py.
sys.modules["tensorflow"] = None
