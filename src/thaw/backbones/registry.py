"""All families of backbones, and all backbones by their names in `backbone.name`."""

from thaw.backbones import efficientnet_lite, keras_applications, own_network, vision_transformer
from thaw.backbones.base import KERAS_FILES, InputSize

FAMILIES = (
    efficientnet_lite.FAMILY, keras_applications.FAMILY, *vision_transformer.FAMILIES, own_network.FAMILY,
)  # fmt: skip
BACKBONES = {name: family for family in FAMILIES for name in family.input_sizes}
WEIGHT_FILES = (
    *KERAS_FILES, *dict.fromkeys(ending for family in FAMILIES for ending in (*family.readers, *family.files)),
)  # fmt: skip
PUBLISHED_WEIGHTS = tuple(dict.fromkeys(weights for family in FAMILIES for weights in family.published))
POOLINGS = tuple(dict.fromkeys(pooling for family in FAMILIES for pooling in family.poolings))


def input_size(name: str) -> InputSize:
    """Return the image sizes of a backbone."""
    return BACKBONES[name].input_sizes[name]
