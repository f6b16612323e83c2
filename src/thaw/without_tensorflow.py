"""Imported before all that imports Keras, this keeps TensorFlow out of a process: see `thaw.keras`."""

import importlib.abc
import sys


class _Absent(importlib.abc.MetaPathFinder):
    """TensorFlow as if it were not installed: Keras would import it to write a file, or to seed it."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "tensorflow":
            raise ModuleNotFoundError(f"{fullname} is kept out of this process")


sys.meta_path.insert(0, _Absent())
