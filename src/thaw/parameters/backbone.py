"""The section `backbone`: which pre-trained network, and how much of it."""

from pathlib import Path
from typing import Literal

from pydantic import field_validator, model_validator

from thaw.backbones.registry import BACKBONES, POOLINGS, PUBLISHED_WEIGHTS, WEIGHT_FILES
from thaw.core.section import Section, Seed, as_written


class Backbone(Section):
    name: Literal[tuple(BACKBONES)]
    weights: str | None
    cut: str | None
    pooling: Literal[POOLINGS]
    seed: Seed

    @field_validator("cut")
    @classmethod
    def _cut_is_a_layer(cls, value: str | None) -> str | None:
        if value in ("all", "none"):
            raise ValueError(
                f"backbone.cut should be a layer, a block, or null for all of the network, not {as_written(value)}"
            )
        return value

    @field_validator("weights", mode="before")
    @classmethod
    def _weights_have_a_source(cls, value: object) -> object:
        if value is None or value in PUBLISHED_WEIGHTS:
            return value
        if isinstance(value, str) and (value.endswith(WEIGHT_FILES) or ("/" in value and not Path(value).suffix)):
            return value
        raise ValueError(
            f"backbone.weights should be one of {', '.join(PUBLISHED_WEIGHTS)}, null, a folder (with a /), or a file "
            f"that ends in {', '.join(WEIGHT_FILES[:-1])} or {WEIGHT_FILES[-1]}, not {as_written(value)}"
        )

    @model_validator(mode="after")
    def _weights_and_pooling_fit_the_name(self):
        family = BACKBONES[self.name]
        if self.weights in PUBLISHED_WEIGHTS and self.weights not in family.published:
            names = " or ".join(family.published)
            raise ValueError(f"backbone.weights: {self.name} was not published with {self.weights}: set it to {names}")
        if self.pooling not in family.poolings:
            names = ", ".join(map(as_written, family.poolings))
            raise ValueError(f"backbone.pooling: {self.name} has {names}, not {as_written(self.pooling)}")
        if self.pooling == "attention" and self.cut:
            raise ValueError("backbone.pooling: attention stands behind the whole network: set backbone.cut to null")
        return self
