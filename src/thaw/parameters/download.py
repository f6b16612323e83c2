"""The section `download`: which photographs, from where. The sections below it are those of the sources."""

from typing import Annotated, Literal

from pydantic import Field, create_model, model_validator

from thaw.core.section import Section
from thaw.sources.registry import SOURCES


class _ChosenSource(Section):
    source: Literal[tuple(SOURCES)]
    bits: Annotated[int, Field(ge=8, le=16)] | None  # of values stored in 16 or 32 bits

    @model_validator(mode="after")
    def _required_keys_are_set(self):
        source = SOURCES[self.source]
        for key, what in source.required.items():
            if not getattr(getattr(self, source.name), key):
                name = f"download.{source.name}.{key}"
                raise ValueError(f"{name} must name {what} where download.source is {source.name}")
        return self


Download = create_model(
    "Download", __base__=_ChosenSource, **{source.name: (source.section, ...) for source in SOURCES.values()}
)
