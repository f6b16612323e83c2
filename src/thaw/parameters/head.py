"""The section `head`: what is trained on the frozen features."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from thaw.core.section import Amplitude, Positive, as_written
from thaw.heads import registry
from thaw.parameters.training import Training

Units = Annotated[int, Field(ge=1, le=65_536)]


class Head(Training):
    section = "head"

    kind: Literal[*registry.named_kinds()]
    extend: bool | str | None
    augmented: Annotated[list[bool], Field(min_length=1, max_length=2)]
    probes: Annotated[list[Literal["logistic", "discriminant"]], Field(min_length=1)]
    strengths: Annotated[list[Positive], Field(min_length=1)]
    conv_blocks: list[Units]
    hidden: list[Units]
    dropout: Amplitude
    output: Literal["softmax", "sigmoid"]

    # What only fine-tuning may choose.
    layer_decay: ClassVar[float] = 1.0
    ema: ClassVar[float | None] = None
    prune_above: ClassVar[tuple[float | None, ...]] = ()
    gradients: ClassVar[str] = "float32"
    centre_gradients: ClassVar[bool] = False

    @field_validator("extend", mode="before")
    @classmethod
    def _extends_a_model(cls, value: object) -> object:
        if value is None or isinstance(value, bool) or (isinstance(value, str) and value.endswith(".keras")):
            return value
        raise ValueError(f"head.extend should be true, null, or a .keras file that Thaw wrote, not {as_written(value)}")

    @field_validator("augmented")
    @classmethod
    def _variants_are_different(cls, value: list[bool]) -> list[bool]:
        if len(set(value)) < len(value):
            raise ValueError(f"head.augmented should be [false], [true] or [false, true], not {as_written(value)}")
        return value

    @field_validator("probes")
    @classmethod
    def _probes_are_different(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError(f"head.probes should name each probe once, not {as_written(value)}")
        return value
