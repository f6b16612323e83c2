"""The section `split`: the fractions of validation and test, and which photographs stay together."""

from typing import Literal

from pydantic import model_validator

from thaw.core.section import Fraction, Section, Seed


class Split(Section):
    validation: Fraction  # of all photographs
    test: Fraction
    seed: Seed
    keep_subsets: bool  # the source's own subsets `validation` and `test` become these splits
    group_duplicates: bool  # near-duplicates are never in different splits
    mirrored_duplicates: bool  # a photograph mirrored left to right is a near-duplicate too
    # Training photographs in one group with an image that the source's own subset puts into validation or test.
    duplicates_across: Literal["leave_out", "keep"]

    @model_validator(mode="after")
    def _training_images_remain(self):
        if self.validation + self.test >= 1:
            raise ValueError("split.validation + split.test must be below 1: nothing would be left to train on")
        return self
