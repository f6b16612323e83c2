"""The section `augment`: how many augmented copies a photograph has, and how far they may differ from it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from thaw.core.section import Amplitude, Section, Seed

NOTHING = {
    "flip_horizontal": False, "flip_vertical": False, "quarter_turns": False, "rotation": 0, "zoom": 0, "shear": 0,
    "translation": 0, "crop": 1, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0,
}  # fmt: skip
PRESETS = {  # the values of the keys that are null
    "none": NOTHING,
    # Photographs with a top and a bottom: what a person with a camera changes without thinking.
    "upright": NOTHING | {
        "flip_horizontal": True, "rotation": 10, "zoom": 0.15, "translation": 0.08, "brightness": 0.1, "contrast": 0.2,
        "saturation": 0.2, "hue": 5,
    },
    # Photographs from above, or of things without a top. The small changes are those that suit the solar cells.
    "any_way_up": NOTHING | {
        "flip_horizontal": True, "flip_vertical": True, "quarter_turns": True, "rotation": 5, "zoom": 0.05,
        "translation": 0.03, "brightness": 0.05, "contrast": 0.1,
    },
}  # fmt: skip
AUTO = "auto"
CANDIDATES = ("upright", "any_way_up")  # of `auto`, the gentlest first


class Augment(Section):
    """A key that is null has the value of the preset."""

    preset: Literal[*PRESETS, AUTO]
    copies: Annotated[int, Field(ge=0, le=1000)]
    seed: Seed
    flip_horizontal: bool | None
    flip_vertical: bool | None
    quarter_turns: bool | None
    rotation: Annotated[float, Field(ge=0, le=180)] | None  # degrees, in both directions
    zoom: Amplitude | None  # around 1
    shear: Annotated[float, Field(ge=0, lt=60)] | None  # degrees
    translation: Amplitude | None  # fraction of the side
    crop: Annotated[float, Field(gt=0, le=1)] | None  # smallest fraction of the area that is kept
    brightness: Amplitude | None  # fraction of the full range
    contrast: Amplitude | None  # around 1
    saturation: Annotated[float, Field(ge=0, le=1)] | None  # around 1
    hue: Annotated[float, Field(ge=0, le=180)] | None  # degrees

    @model_validator(mode="after")
    def _auto_has_copies_to_compare(self):
        candidates = self.candidates if self.copies else []
        without = [one.preset for one in candidates if not one.copies]
        if without and len(candidates) > 1:
            raise ValueError(
                f"augment.preset: auto compares copies, but with these values {without[0]} has none: name a preset"
            )
        return self

    @property
    def candidates(self) -> "list[Augment]":
        """The sections to draw copies from, without nulls: one for each preset of `auto`, or one for the preset set.

        The gentlest comes first. Of presets that the set values make equal, there is the first. A section has no copies
        if these would be the photographs themselves.
        """
        set_values = {name: value for name, value in self.model_dump().items() if value is not None}
        candidates: dict[tuple, Augment] = {}
        for preset in CANDIDATES if self.preset == AUTO else (self.preset,):
            values = PRESETS[preset] | set_values
            drawn = tuple(values[name] for name in NOTHING)
            copies = 0 if drawn == tuple(NOTHING.values()) else self.copies
            candidate = self.model_copy(update=values | {"preset": preset, "copies": copies})
            candidates.setdefault(drawn, candidate)
        return list(candidates.values())
