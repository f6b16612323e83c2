"""Pre-trained weights from where they are: a package, Keras' download, or a file of one's own."""

import json
import warnings
import zipfile
from itertools import zip_longest
from pathlib import Path

import h5py
import numpy as np

from thaw import models
from thaw.backbone_names import WEIGHT_FILES
from thaw.backbones import efficientnet_lite, torch_weights
from thaw.errors import ThawError
from thaw.keras import keras


def load_file(model: keras.Model, path: Path) -> None:
    """Give `model` the weights of a file: `.weights.h5` or `.keras` as Keras 3 writes them, `.h5` as Keras 2 did and
    as keras.applications comes, or, for EfficientNet-Lite, a PyTorch state dict (`.pth`).

    Raises ThawError where the file is missing, damaged, or of another network: then with the first layer that differs.
    """
    if not path.is_file():
        raise ThawError(f"backbone.weights: there is no file {path}")
    try:
        if path.suffix == ".pth":
            load_state_dict(model, path)
        elif path.name.endswith(WEIGHT_FILES[:2]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one for each layer that differs: the error below names the first
                model.load_weights(path)
        else:
            _load_keras_2(model, path)
    except ThawError:
        raise
    except (OSError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ThawError(f"{path} is damaged, or no file of Keras weights: {_first_line(error)}") from error
    except ValueError as error:  # of Keras, over a dozen lines: the first names the layer, another what is wrong
        lines = [line for line in str(error).splitlines() if line.strip()]
        layer = lines[0].partition("name=")[2].partition(",")[0] or "of the file"
        reason = lines[1].partition(", dtype")[0] if len(lines) > 1 else lines[0]
        raise ThawError(f"{path} holds the weights of another network: layer {layer} differs: {reason}") from error


def trained_model(weights: str | None) -> keras.Model | None:
    """Return the model of a file that Thaw trained, which says so inside, or None for any other weights."""
    if weights is None or not weights.endswith(".keras"):
        return None
    try:
        with zipfile.ZipFile(weights) as file:
            if "fine_tune" not in json.loads(file.read("metadata.json")):
                return None
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        return None  # what is wrong with it `load_file` says
    keras.backend.clear_session()
    return models.load(Path(weights))[0]


def load_state_dict(model: keras.Model, path: Path) -> None:
    """Give an EfficientNet-Lite the weights of a PyTorch state dict; raises ThawError where it is of another network.

    Both keep their tensors in the order of the computation, and within a layer in the same order (weight, bias, mean,
    variance), so they pair off one to one.
    """
    if not model.name.startswith("EfficientNetLite"):
        raise ThawError(f"{path}: a PyTorch state dict is understood for EfficientNet-Lite alone, not for {model.name}")
    tensors = efficientnet_lite.keras_tensors(torch_weights.read_state_dict(path))
    expected = [(variable.path, tuple(variable.shape)) for variable in model.weights]
    _compare(path, expected, [(name, tensor.shape) for name, tensor in tensors])
    for variable, (_, tensor) in zip(model.weights, tensors, strict=True):
        variable.assign(tensor)


def _load_keras_2(model: keras.Model, path: Path) -> None:
    with h5py.File(path) as file:
        group = file.get("model_weights", file)  # a whole model keeps its weights a level deeper
        names = [_text(name) for name in group.attrs["layer_names"]]
        found = [(name, [group[name][_text(w)].shape for w in group[name].attrs["weight_names"]]) for name in names]
    expected = [(layer.name, [tuple(v.shape) for v in layer.weights]) for layer in model.layers]
    _compare(path, *([(name, shapes) for name, shapes in layers if shapes] for layers in (expected, found)))
    model.load_weights(path)


def _compare(path: Path, expected: list, found: list) -> None:
    """Raise ThawError with the first layer whose shapes differ; each list holds names and shapes."""
    for (layer, wanted), (name, shapes) in zip_longest(expected, found, fillvalue=(None, None)):
        if layer is None:
            raise ThawError(f"{path} holds the weights of another network: layer {name} of the file is one too many")
        if name is None:
            raise ThawError(f"{path} holds the weights of another network: it ends before layer {layer}")
        if wanted != shapes:
            raise ThawError(
                f"{path} holds the weights of another network: layer {layer} wants {wanted}, {name} there has {shapes}"
            )


def _text(name: str | bytes | np.bytes_) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
