"""The section `backbone`: which pre-trained network, and how much of it."""

from typing import Literal

from pydantic import field_validator, model_validator

from thaw.backbones.registry import BACKBONES, WEIGHT_FILES
from thaw.core.section import Section, Seed, as_written


class Backbone(Section):
    name: Literal[tuple(BACKBONES)]
    weights: str | None
    top: bool
    cut: str | None
    pooling: Literal["avg", "max", None]
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
        if value in (None, "imagenet") or (isinstance(value, str) and value.endswith(WEIGHT_FILES)):
            return value
        raise ValueError(
            f"backbone.weights should be imagenet, null, or a file that ends in {', '.join(WEIGHT_FILES[:-1])} or "
            f"{WEIGHT_FILES[-1]}, not {as_written(value)}"
        )

    @model_validator(mode="after")
    def _top_is_the_end_of_the_network(self):
        family = BACKBONES[self.name]
        if self.top and family.build_with_top is None:
            raise ValueError(f"backbone.top: true needs a backbone with classes, and {family.name} has none")
        if self.top and (self.cut or self.pooling != "avg"):
            raise ValueError("backbone.top: true needs backbone.cut: null and backbone.pooling: avg")
        return self
