"""A backbone as the parameters have it: built, with its weights, cut, and pooled."""

from collections.abc import Sequence
from pathlib import Path

from thaw.backbones import weights as weight_files
from thaw.backbones.cut_points import FEATURES, find_cut_points, resolve
from thaw.backbones.registry import BACKBONES, FAMILIES
from thaw.backbones.top import with_features
from thaw.core.errors import ThawError
from thaw.core.weight_files import main_file
from thaw.engines.keras_setup import keras
from thaw.engines.transformer_layers import TokenPooling

MAP_POOLINGS = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    None: keras.layers.Identity,
}


def build(
    name: str,
    weights: str | None,
    seed: int,
    cut: str | None = None,
    pooling: str | None = "avg",
    top: bool = False,
    preprocess: str | Sequence | None = None,
) -> tuple[keras.Model, list[str]]:
    """Build a backbone: a network that ends in the layer `features`, or behind it in its 1000 ImageNet classes.

    Args:
        name: one of `registry.BACKBONES`.
        weights: `imagenet`, for a family without `fetch`; a file or folder; or None for random ones. Of a model that
            Thaw trained, the backbone is the network up to its layer `features`.
        seed: of random weights.
        cut: the last cut point, or block, that is kept; None keeps all.
        pooling: of the last map over its places, or of the tokens: one of `Family.poolings`; None for none.
        top: keeps the classes, and as `features` what their last layer reads. Then `cut` and `pooling` have no effect.
        preprocess: of the pixels, for a family that reads networks from files: see `own_network`.

    Returns:
        The network, from (n, h, w, 3) RGB pixels 0-255 of any size (unless a file fixes it), and the cut points that
        `cut` left out.

    Raises:
        ThawError: `cut` is no cut point, or the weights are missing, damaged or those of another network.
    """
    if read := BACKBONES[name].read:
        network = read(Path(weights), preprocess, cut, pooling, top)
        if top:
            return network, []
        pool = pooling_layer(pooling if len(network.output.shape) == 4 else None, prefix=None)
        return keras.Model(network.input, pool(network.output), name=name), []
    if trained := weight_files.trained_model(weights):
        if top and not BACKBONES[name].top_included:
            raise ThawError(
                f"backbone.weights: {weights} is a trained model: set backbone.top to false; to add classes to it, set "
                "head.extend to this file, too"
            )
        return _trained_backbone(trained, name, weights, cut, pooling), []
    network, family = full_network(name, weights, seed, top), BACKBONES[name]
    if top:
        return with_features(network), []
    layers = [point.layer for point in find_cut_points(network, family.last_map or network.layers[-1].name)]
    if family.prefix is not None:  # before the first block there are no tokens, or none that has seen another
        layers = [layer for layer in layers if not layer.startswith("embedding")]
    kept = layers[: layers.index(resolve(cut, layers, parameter="backbone.cut")) + 1] if cut else layers
    tensor = network.output if pooling == "attention" else network.get_layer(kept[-1]).output
    pooled = pooling_layer(pooling, family.prefix)(tensor)
    return keras.Model(network.input, pooled, name=name), layers[len(kept) :]


def pooling_layer(pooling: str | None, prefix: int | None) -> keras.layers.Layer:
    """Return the layer `features` for a value of `backbone.pooling`. `prefix`: of tokens; None for maps."""
    if prefix is None:
        return MAP_POOLINGS[pooling](name=FEATURES)
    if pooling == "attention":
        return keras.layers.Identity(name=FEATURES)  # of the output of the network
    return TokenPooling(pooling, prefix, name=FEATURES)


def _trained_backbone(trained: keras.Model, name: str, path: str, cut: str | None, pooling: str | None) -> keras.Model:
    if trained.name != name:
        raise ThawError(f"backbone.weights: {path} has the backbone {trained.name}; backbone.name is {name}")
    if cut:
        raise ThawError(f"backbone.weights: {path} is a trained model, which cannot be cut: set backbone.cut to null")
    expected, features = pooling_layer(pooling, BACKBONES[name].prefix), trained.get_layer(FEATURES)
    is_pooled = type(features) is type(expected) and features.get_config() == expected.get_config()
    if not is_pooled and not isinstance(features, keras.layers.Flatten):  # these are the features of a top
        raise ThawError(f"backbone.weights: {path} was trained with another backbone.pooling than {pooling}")
    return keras.Model(trained.input, trained.get_layer(FEATURES).output, name=name)


def full_network(name: str, weights: str | None, seed: int, top: bool = False) -> keras.Model:
    """Return the network of a backbone before it is cut and pooled, with `weights` and `top` as in `build`."""
    family = BACKBONES[name]
    network = _new_network(name, weights == "imagenet", seed, top)
    if weights not in (None, "imagenet"):
        path = main_file(Path(weights))
        read = _reader(name, path)
        try:
            weight_files.load_file(network, path, read)
        except ThawError:
            if family.build_with_top and _fits(_new_network(name, False, seed, not top), path, read):
                has, needed, other = ("without", "with", "false") if top else ("with", "without", "true")
                raise ThawError(
                    f"{path} has the weights of {name} {has} those of its 1000 classes: set backbone.top to {other}, "
                    f"or name a file {needed} them"
                ) from None
            raise
        family.after_loading(network)
    return network


def _new_network(name: str, imagenet: bool, seed: int, top: bool) -> keras.Model:
    keras.backend.clear_session()  # Keras numbers layers without a name: their numbers should not depend on the past
    keras.utils.set_random_seed(seed)
    family = BACKBONES[name]
    return (family.build_with_top if top else family.build)(name, imagenet)


def _fits(network: keras.Model, path: Path, read: weight_files.Reader) -> bool:
    try:
        weight_files.load_file(network, path, read)
    except ThawError:
        return False
    return True


def _reader(name: str, path: Path) -> weight_files.Reader:
    """Return the function that reads a file of weights for the backbone `name`, by the file's ending."""
    for ending, read in BACKBONES[name].readers.items():
        if path.name.endswith(ending):
            return read
    for ending in {ending for family in FAMILIES for ending in family.readers}:
        if path.name.endswith(ending):
            families = ", ".join(family.name for family in FAMILIES if ending in family.readers)
            raise ThawError(f"{path}: a {ending} file has weights for {families} only, not for {name}")
    return weight_files.load_keras_file
