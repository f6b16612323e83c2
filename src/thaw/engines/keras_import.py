"""Keras, imported without scikit-learn, which takes 1.6 s of CPU: Keras has wrappers for it that Thaw does not use.

What is imported stays, so that looking through it for garbage would take another 0.9 s of CPU.
"""

import gc
import sys

# Private. Why: Keras imports scikit-learn if it is installed. Test: test_model_files.py.
sys.modules.setdefault("sklearn", None)

gc.disable()
try:
    import keras
finally:
    gc.enable()
gc.freeze()

if sys.modules["sklearn"] is None:
    del sys.modules["sklearn"]  # the fits import it

__all__ = ["keras"]
