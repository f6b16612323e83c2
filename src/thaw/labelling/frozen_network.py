"""The frozen network of the run, as `extract_features` uses it, on OpenVINO; and the cache of what it computes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from thaw.backbones.cut_points import FEATURES
from thaw.core import arrays
from thaw.core.errors import ThawError
from thaw.core.section import Section
from thaw.engines import inference
from thaw.features import extraction
from thaw.images import views
from thaw.labelling.candidates import Network
from thaw.labelling.feature_cache import FeatureCache, key
from thaw.labelling.known import Known

WITHOUT_CHOICE = "crop"  # for `image.resize: auto`, before a run has chosen
MIN_SIMILARITY = 0.99  # of features that are the same but for the engine and its precision


def open_network(parameters: Section, backbone: Path, features: Path, cache: Path) -> tuple[Network, FeatureCache]:
    """Return the network that computes the features, and their cache.

    Args:
        parameters: all sections.
        backbone: the folder that the stage `backbone` writes.
        features: that of `extract_features`, which has chosen how images are resized, if it has run.
        cache: the folder of the caches.

    Raises:
        ThawError: there is no backbone yet.
    """
    if not (backbone / "backbone.xml").exists():
        raise ThawError(f"{backbone} is missing: run `dvc repro backbone`, or `dvc pull backbone`")
    image = extraction.sized(parameters.image, backbone)
    if image.resize == extraction.AUTO:
        has_chosen = (features / extraction.RESIZE).exists()
        image = extraction.resolved(image, features) if has_chosen else replace(image, resize=WITHOUT_CHOICE)
    run = inference.compile_openvino(backbone / "backbone.xml", FEATURES, image.size)
    network = Network(run, image.size, image.resize, parameters.download.bits)
    files = [backbone / "backbone.xml", backbone / "backbone.bin"]
    return network, FeatureCache(cache, key(files, f"{image.size} {image.resize} {network.bits}"))


def check_same(known: Known, network: Network) -> None:
    """Raise ThawError if the features of the run are not those of this network: one labelled photograph tells."""
    first = next((i for i, path in enumerate(known.paths) if path.exists()), None)
    if first is None:
        return
    view = views.network_input(known.paths[first], network.size, network.resize)
    (computed,) = (arrays.pooled(batch)[0].astype(np.float64) for batch in network.run([view[None]]))
    kept = known.features[first].astype(np.float64)
    is_same = computed.shape == kept.shape
    if is_same:
        product = np.linalg.norm(computed) * np.linalg.norm(kept)
        is_same = product == 0 or computed @ kept >= MIN_SIMILARITY * product
    if not is_same:
        raise ThawError(
            "the features of the run are of another network, size or resizing than params.yaml and the backbone have: "
            "run `dvc repro`"
        )
