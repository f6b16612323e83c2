"""What a family of backbones is: `Family`.

A new family is a module beside this one, with a function that builds its networks and a `Family` that binds them; it is
registered in `registry`. Every stage checks `backbone.name`, so a family imports Keras only inside its functions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from thaw.engines.keras_setup import keras

KERAS_FILES = (".weights.h5", ".keras", ".h5")  # weights of Keras 3, a model of Keras 3, either of Keras 2


class InputSize(NamedTuple):
    """The side of an image, in pixels."""

    trained: int  # on which the published weights were trained
    smallest: int  # below it, the last map would be empty
    multiple: int = 1  # of which it has to be one: a patch


def _unchanged(network: "keras.Model") -> None:
    pass


@dataclass(frozen=True)
class Family:
    """Backbones that one function builds.

    Attributes:
        name: as error messages call it.
        input_sizes: for each backbone, by its name in `backbone.name`.
        build: takes the name of a backbone and whether it gets the ImageNet weights, and returns its network. This
            takes (n, h, w, 3) RGB pixels 0-255 of any size: the pre-processing is part of it. Random weights come from
            Keras' global generator. It raises ThawError if the ImageNet weights are not available.
        build_with_top: does the same, and its network ends in (n, 1000) probabilities of the ImageNet classes. Some of
            these networks take images of one size only. None: the family has no such networks.
        top_included: `build` makes such networks, too, and their weights have the classes.
        top_pooling: the value of `backbone.pooling` that gives what the classes are made from.
        last_map: the layer of a network of `build` with the last feature map; None is its last layer.
        readers: functions that give a network the weights of a file, for endings in addition to KERAS_FILES. They raise
            ThawError if these are the weights of another network.
        after_loading: corrects a network after it got the weights of a file of the user's.
        published: the names of its published weights in `backbone.weights`.
        fetch: takes the name of a backbone and that of published weights, and returns the file that has them. Without
            it, `build` gives a network its weights.
        prefix: how many tokens stand before those of the patches. None: the network has maps, and no tokens.
        poolings: the values of `backbone.pooling` that it has.
        licence: of the published weights, where it is known.
        files: endings of files that hold a whole network. A family that has some has `read` instead of `build`.
        read: takes such a file, and `backbone.preprocess`, `cut`, `pooling` and `top`, and returns its network. As it
            has no layers of Keras before the features, it stays frozen. It raises ThawError if the network does not
            serve.
    """

    name: str
    input_sizes: Mapping[str, InputSize]
    build: Callable[[str, bool], "keras.Model"] | None = None
    build_with_top: Callable[[str, bool], "keras.Model"] | None = None
    top_included: bool = False
    top_pooling: str = "avg"
    last_map: str | None = None
    readers: Mapping[str, Callable[["keras.Model", Path], None]] = field(default_factory=dict)
    after_loading: Callable[["keras.Model"], None] = _unchanged
    published: tuple[str, ...] = ("imagenet",)
    fetch: Callable[[str, str], Path] | None = None
    prefix: int | None = None
    poolings: tuple[str | None, ...] = ("avg", "max", None)
    licence: str | None = None
    files: tuple[str, ...] = ()
    read: Callable[[Path, str | Sequence, str | None, str | None, bool], "keras.Model"] | None = None
