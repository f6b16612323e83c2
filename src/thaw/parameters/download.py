"""The section `download`: which photographs, from where. The sections below it are those of the sources."""

from typing import Annotated, Literal

from pydantic import Field, create_model, field_validator, model_validator

from thaw.core.section import Section, as_written
from thaw.sources import class_names
from thaw.sources.registry import SOURCES


class _ChosenSource(Section):
    source: Literal[tuple(SOURCES)]
    bits: Annotated[int, Field(ge=8, le=16)] | None  # of values stored in 16 or 32 bits
    added: str | None  # a table of photographs that are taken beside those of the source
    corrections: str | None  # a table of wrong labels
    shards: int | Literal["always"] | None  # see `sources.shards`
    new_classes: list[str]  # that added or corrected labels bring

    @field_validator("shards", mode="before")
    @classmethod
    def _shards_is_a_number_of_photographs(cls, value: object) -> object:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if value in (None, "always") or (is_number and value >= 1):
            return value
        raise ValueError(f"download.shards should be null, always or a whole number from 1, not {as_written(value)}")

    @field_validator("new_classes", mode="after")
    @classmethod
    def _new_classes_can_be_named(cls, names: list[str]) -> list[str]:
        for name in names:
            if fault := class_names.fault(name):
                raise ValueError(f"download.new_classes: the name {name!r} {fault}: it cannot name a class")
        return list(dict.fromkeys(map(class_names.composed, names)))

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
