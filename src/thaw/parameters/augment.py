"""The section `augment`: how many augmented copies a photograph has, and how far they may differ from it."""

from typing import Annotated

from pydantic import Field

from thaw.core.section import Amplitude, Section, Seed


class Augment(Section):
    copies: Annotated[int, Field(ge=0, le=1000)]
    seed: Seed
    flip_horizontal: bool
    flip_vertical: bool
    quarter_turns: bool
    rotation: Annotated[float, Field(ge=0, le=180)]  # degrees, in both directions
    zoom: Amplitude  # around 1
    shear: Annotated[float, Field(ge=0, lt=60)]  # degrees
    translation: Amplitude  # fraction of the side
    crop: Annotated[float, Field(gt=0, le=1)]  # smallest fraction of the area that is kept
    brightness: Amplitude  # fraction of the full range
    contrast: Amplitude  # around 1
    saturation: Annotated[float, Field(ge=0, le=1)]  # around 1
    hue: Annotated[float, Field(ge=0, le=180)]  # degrees
