"""Keras, imported without scikit-learn, which takes 1.6 s of CPU: Keras has wrappers for it that Thaw does not use."""

import sys

# Private. Why: Keras imports scikit-learn if it is installed. Test: test_model_files.py.
sys.modules.setdefault("sklearn", None)

import keras  # noqa: E402

if sys.modules["sklearn"] is None:
    del sys.modules["sklearn"]  # the fits import it

__all__ = ["keras"]
