"""The classes of ImageNet, and the files of installed packages."""

import importlib.util
import json
from pathlib import Path

from thaw.core.errors import ThawError


def imagenet_classes() -> list[tuple[str, str]]:
    """List the WordNet id and the first name of each of the 1000 ImageNet classes, in the order of the outputs."""
    ids = json.loads(package_file("imagenet_classes", "imagenet1k_to_21k.json").read_text(encoding="utf-8"))
    names = json.loads(package_file("imagenet_classes", "imagenet1k_label_to_names.json").read_text(encoding="utf-8"))
    return [(ids[str(i)], names[str(i)].split(",")[0]) for i in range(1000)]


def package_file(package: str, file: str) -> Path:
    """Return the path of a data file of an installed package, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not (path := Path(spec.submodule_search_locations[0]) / file).exists():
        raise ThawError(f"the package {package} is not installed or lacks {file}: run `make setup`")
    return path
