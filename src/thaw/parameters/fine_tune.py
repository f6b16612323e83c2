"""The section `fine_tune`: which layers thaw, and how they train."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from thaw.core.section import Fraction, Positive, as_written
from thaw.parameters.training import Training


class FineTune(Training):
    section = "fine_tune"
    centre_gradients: ClassVar[bool] = True  # a pre-trained network has frozen normalisation, see `training.centring`

    freeze_depth: str | list[str]
    cache: bool
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    ema: Fraction | None
    prune_above: list[Positive | None]
    gradients: Literal["float32", "bfloat16"]
    keep: Literal["auto", "head", "fine_tuned"]  # with folds, the model that is trained on all images

    @field_validator("freeze_depth", mode="before")
    @classmethod
    def _depths_are_names(cls, value: object) -> object:
        if isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(d, str) for d in value)):
            return value
        raise ValueError(f"fine_tune.freeze_depth should be a string or a list of strings, not {as_written(value)}")

    @model_validator(mode="after")
    def _every_depth_has_an_epoch(self):
        if isinstance(self.freeze_depth, list) and len(self.freeze_depth) > self.epochs:
            raise ValueError("fine_tune.epochs must be at least the number of depths in fine_tune.freeze_depth")
        return self
