"""The section `backbone`: which pre-trained network, and how much of it."""

from pathlib import Path
from typing import Literal

from pydantic import field_validator, model_validator

from thaw.backbones.own_network import FAMILY as OWN_NETWORK
from thaw.backbones.own_network import NAME, PREPROCESS
from thaw.backbones.registry import BACKBONES, POOLINGS, PUBLISHED_WEIGHTS, WEIGHT_FILES
from thaw.core.section import Section, Seed, as_written

OTHER_FILES = (".bin", ".pt", ".ckpt", ".tar", ".zip", ".gz", ".npz", ".msgpack", ".pkl", ".tflite", ".pb")


class Backbone(Section):
    name: Literal[tuple(BACKBONES)]
    weights: str | None
    top: bool
    preprocess: str | list[list[float]] | None
    cut: str | None
    pooling: Literal[POOLINGS]
    seed: Seed

    @property
    def has_top(self) -> bool:
        """Whether the network keeps its 1000 classes: if it is asked to, or if it costs nothing."""
        family = BACKBONES[self.name]
        return self.top or (family.top_included and not self.cut and self.pooling == family.top_pooling)

    @field_validator("cut")
    @classmethod
    def _cut_is_a_layer(cls, value: str | None) -> str | None:
        if value in ("all", "none"):
            raise ValueError(
                f"backbone.cut should be a layer, a block, or null for all of the network, not {as_written(value)}"
            )
        return value

    @field_validator("preprocess", mode="before")
    @classmethod
    def _preprocess_is_known(cls, value: object) -> object:
        if value is None or (isinstance(value, str) and value in PREPROCESS):
            return value
        if _is_mean_and_deviation(value):
            if all(abs(number) <= 1 for row in value for number in row):
                return value
            scaled = [[float(f"{number / 255:.5g}") for number in row] for row in value]
            raise ValueError(
                f"backbone.preprocess: mean and deviation are of pixels 0-1, not {as_written(value)}: of pixels 0-255, "
                f"divide them by 255, which gives {scaled}"
            )
        raise ValueError(
            f"backbone.preprocess should be null, {', '.join(PREPROCESS)}, or the mean and the deviation of the "
            f"channels, such as [[0.48, 0.46, 0.41], [0.27, 0.26, 0.28]], not {as_written(value)}"
        )

    @field_validator("weights", mode="before")
    @classmethod
    def _weights_have_a_source(cls, value: object) -> object:
        if value is None or value in PUBLISHED_WEIGHTS:
            return value
        if isinstance(value, str) and (value.endswith(WEIGHT_FILES) or _may_be_a_folder(value)):
            return value
        raise ValueError(
            f"backbone.weights should be one of {', '.join(PUBLISHED_WEIGHTS)}, null, a folder (with a /), or a file "
            f"that ends in {', '.join(WEIGHT_FILES[:-1])} or {WEIGHT_FILES[-1]}, not {as_written(value)}"
        )

    @model_validator(mode="after")
    def _weights_and_pooling_fit_the_name(self):
        family = BACKBONES[self.name]
        if family.published and self.weights in PUBLISHED_WEIGHTS and self.weights not in family.published:
            names = " or ".join(family.published)
            raise ValueError(f"backbone.weights: {self.name} was not published with {self.weights}: set it to {names}")
        if self.pooling not in family.poolings:
            names = ", ".join(map(as_written, family.poolings))
            raise ValueError(f"backbone.pooling: {self.name} has {names}, not {as_written(self.pooling)}")
        if self.pooling == "attention" and self.cut:
            raise ValueError("backbone.pooling: attention stands behind the whole network: set backbone.cut to null")
        return self

    @model_validator(mode="after")
    def _top_is_the_end_of_the_network(self):
        family = BACKBONES[self.name]
        if self.top and not (family.build_with_top or family.read):
            raise ValueError(f"backbone.top: true needs a backbone with classes, and {family.name} has none")
        if self.top and (self.cut or self.pooling != family.top_pooling):
            pooling = f"backbone.pooling: {family.top_pooling}"
            raise ValueError(f"backbone.top: true needs backbone.cut: null and {pooling} for {self.name}")
        return self

    @model_validator(mode="after")
    def _own_network_has_a_file(self):
        files = BACKBONES[self.name].files
        is_network = isinstance(self.weights, str) and self.weights.endswith(OWN_NETWORK.files)
        if files and not is_network:
            raise ValueError(
                f"backbone.name: {self.name} needs a network in backbone.weights, a file that ends in "
                f"{' or '.join(files)}, not {as_written(self.weights)}"
            )
        if is_network and not files:
            raise ValueError(f"backbone.weights: {self.weights} is a whole network: set backbone.name to {NAME}")
        if files and self.preprocess is None:
            raise ValueError(
                f"backbone.name: {self.name} needs backbone.preprocess, how the network was given its pixels: "
                f"{', '.join(PREPROCESS)}, or mean and deviation"
            )
        if self.preprocess is not None and not files:
            raise ValueError(f"backbone.preprocess is for backbone.name: {NAME}: {self.name} scales pixels itself")
        return self


def _may_be_a_folder(value: str) -> bool:
    """Return whether a value is no file of a known kind. Names of folders have dots, too, as those of timm's do."""
    return "/" in value and Path(value).suffix.lower() not in OTHER_FILES


def _is_mean_and_deviation(value: object) -> bool:
    """Return whether a value is two lists of three numbers, of which the second are above 0."""
    rows = value if isinstance(value, list) and len(value) == 2 else [[]]
    is_numbers = all(
        isinstance(row, list) and len(row) == 3 and all(type(number) in (int, float) for number in row) for row in rows
    )
    return is_numbers and all(number > 0 for number in rows[1])
