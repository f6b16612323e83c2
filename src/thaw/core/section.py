"""What a section of params.yaml is made of: its base class, and what its values may be."""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from thaw.core.task import MULTI, SINGLE

Fraction = Annotated[float, Field(gt=0, lt=1)]
Amplitude = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
Task = Literal[SINGLE, MULTI]


class Section(BaseModel):
    """One section of params.yaml: an unknown key, a wrong type or a value out of range is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def as_written(value: object) -> str:
    """Return a value for a message: null, true, false and dates as params.yaml has them."""
    text = str(value) if isinstance(value, date) else repr(value)
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)
