"""All families of backbones, and all backbones by their names in `backbone.name`."""

from thaw.backbones import efficientnet_lite, keras_applications, own_network
from thaw.backbones.base import KERAS_FILES, InputSize

FAMILIES = (efficientnet_lite.FAMILY, keras_applications.FAMILY, own_network.FAMILY)
BACKBONES = {name: family for family in FAMILIES for name in family.input_sizes}
WEIGHT_FILES = (*KERAS_FILES, *(ending for family in FAMILIES for ending in (*family.readers, *family.files)))


def input_size(name: str) -> InputSize:
    """Return the image sizes of a backbone."""
    return BACKBONES[name].input_sizes[name]
