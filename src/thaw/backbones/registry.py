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

MIN_SIZE, MAX_SIZE = 32, 2048  # of `image.size`


def size_problem(name: str, size: int) -> str | None:
    """Return what is wrong with a size of images for a backbone, as the end of a sentence, or None."""
    _, smallest, multiple = input_size(name)
    if size < smallest:
        return f"should be at least {smallest} for {name}, not {size}"
    if size % multiple == 0:
        return None
    below = size // multiple * multiple
    nearest = [str(side) for side in (below, below + multiple) if MIN_SIZE <= side <= MAX_SIZE]
    patch = f"a multiple of {multiple}, the side of a patch"
    return f"should be {patch}, for {name}, not {size}: such as {', '.join(nearest)}"


def input_size(name: str) -> InputSize:
    """Return the image sizes of a backbone."""
    return BACKBONES[name].input_sizes[name]
