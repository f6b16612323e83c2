"""Weights from files of the user's, and what is wrong with a file that does not fit."""

import warnings
import zipfile
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import h5py
import numpy as np

from thaw.backbones.base import KERAS_FILES
from thaw.core.errors import ThawError
from thaw.core.keras_file import read_metadata
from thaw.engines import model_files
from thaw.engines.keras_setup import keras

Reader = Callable[[keras.Model, Path], None]


def load_file(network: keras.Model, path: Path, read: Reader) -> None:
    """Give `network` the weights of a file with the function `read`.

    Raises ThawError if the file is missing, damaged, or of another network. For the last it names the first layer that
    differs.
    """
    if not path.is_file():
        raise ThawError(f"backbone.weights: there is no file {path}")
    try:
        read(network, path)
    except ThawError:
        raise
    except (OSError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ThawError(f"{path} is damaged, or not a file of weights: {_first_line(error)}") from error
    except ValueError as error:  # Keras' has over a dozen lines: the first names the layer, the second the difference
        lines = [line for line in str(error).splitlines() if line.strip()]
        layer = lines[0].partition("name=")[2].partition(",")[0] or "of the file"
        reason = lines[1].partition(", dtype")[0] if len(lines) > 1 else lines[0]
        raise ThawError(f"{path} has the weights of another network: layer {layer} differs: {reason}") from error


def load_keras_file(network: keras.Model, path: Path) -> None:
    """Give `network` the weights of one of KERAS_FILES; an `.h5` file is one of Keras 2, as keras.applications has."""
    if not path.name.endswith(KERAS_FILES[:2]):
        _check_keras_2_file(network, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each layer that differs: the error of `load_file` names the first
        network.load_weights(path)


def trained_model(weights: str | None) -> keras.Model | None:
    """Return the model of a file that Thaw trained, which its metadata say, or None for any other weights."""
    if weights is None or not weights.endswith(".keras"):
        return None
    try:
        if "fine_tune" not in read_metadata(Path(weights)):
            return None
    except ThawError:
        return None  # `load_file` says what is wrong with it
    keras.backend.clear_session()
    return model_files.load(Path(weights))[0]


def check_shapes(path: Path, expected: list, actual: list) -> None:
    """Raise ThawError that names the first layer whose shapes differ; each list has pairs of a name and shapes."""
    other = f"{path} has the weights of another network"
    for (layer, expected_shapes), (name, shapes) in zip_longest(expected, actual, fillvalue=(None, None)):
        if layer is None:
            raise ThawError(f"{other}: its layer {name} is one too many")
        if name is None:
            raise ThawError(f"{other}: it ends before layer {layer}")
        if expected_shapes != shapes:
            raise ThawError(f"{other}: layer {layer} needs {expected_shapes}, {name} in the file has {shapes}")


def _check_keras_2_file(network: keras.Model, path: Path) -> None:
    with h5py.File(path) as file:
        group = file.get("model_weights", file)  # the file of a model has its weights a level deeper
        names = [_text(name) for name in group.attrs["layer_names"]]
        actual = [(name, [group[name][_text(w)].shape for w in group[name].attrs["weight_names"]]) for name in names]
    expected = [(layer.name, [tuple(v.shape) for v in layer.weights]) for layer in network.layers]
    check_shapes(path, *([(name, shapes) for name, shapes in layers if shapes] for layers in (expected, actual)))


def _text(name: str | bytes | np.bytes_) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
