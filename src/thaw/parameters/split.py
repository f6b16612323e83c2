"""The section `split`: the fractions of validation and test, and which photographs stay together."""

from pydantic import model_validator

from thaw.core.section import Fraction, Section, Seed


class Split(Section):
    validation: Fraction  # of all photographs
    test: Fraction
    seed: Seed
    keep_subsets: bool  # the source's own subsets `validation` and `test` become these splits
    group_duplicates: bool  # near-duplicates are never in different splits

    @model_validator(mode="after")
    def _training_images_remain(self):
        if self.validation + self.test >= 1:
            raise ValueError("split.validation + split.test must be below 1: nothing would be left to train on")
        return self
