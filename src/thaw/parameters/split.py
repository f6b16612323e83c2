"""The section `split`: folds, or the fractions of validation and test; and which photographs stay together."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from thaw.core import columns, dates
from thaw.core.errors import ThawError
from thaw.core.section import Fraction, Section, Seed, as_written
from thaw.core.words import plural

HELD_OUT = ("test", "validation")  # splits, and subsets of a source, that are not trained on
MIN_IMAGES = 3  # of a class: one trains, one validates, one tests
MIN_FOLDS = 3  # in each round, one fold tests, one validates, and at least one trains


class Split(Section):
    folds: int | Literal["auto", "groups"] | None  # `groups`: each own group is a fold
    repeats: Annotated[int, Field(ge=1, le=100)]  # of the folds, each drawn with another seed
    validation: Fraction  # of all photographs
    test: Fraction
    after: str | int | float | None  # photographs with a later time are the test split
    time: Annotated[str, Field(min_length=1)]  # where the time of a photograph is: EXIF, or a column `meta_…`
    seed: Seed
    keep_subsets: bool  # the source's own subsets `validation` and `test` become these splits
    group: str | list[str] | None  # columns `meta_…`: photographs with the same value stay together
    group_duplicates: bool  # near-duplicates are never in different splits
    mirrored_duplicates: bool  # a photograph mirrored left to right is a near-duplicate too
    # Training photographs in one group with an image that the source's own subset puts into validation or test.
    duplicates_across: Literal["leave_out", "keep"]
    added: Literal["train", "draw"]  # where the photographs of `download.added` go

    @field_validator("folds", mode="before")
    @classmethod
    def _folds_can_rotate(cls, value: object) -> object:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if value in (None, "auto", "groups") or (is_number and value >= MIN_FOLDS):
            return value
        raise ValueError(
            f"split.folds should be null, auto, groups or a whole number from {MIN_FOLDS}, not {as_written(value)}"
        )

    @field_validator("after", mode="before")
    @classmethod
    def _after_is_a_time(cls, value: object) -> object:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value is None or is_number or (isinstance(value, str) and dates.parse_date(value)):
            return value
        raise ValueError(
            f'split.after should be a date in quotes, such as "2024-05-01", or a number, not {as_written(value)}'
        )

    @field_validator("group", mode="before")
    @classmethod
    def _group_names_columns(cls, value: object) -> object:
        names = value if isinstance(value, list) else [value]
        if value is None or (names and all(isinstance(name, str) and name for name in names)):
            return value
        raise ValueError(
            f"split.group should be the name of a column, a list of such names, or null, not {as_written(value)}"
        )

    @model_validator(mode="after")
    def _training_images_remain(self):
        if self.validation + self.test >= 1:
            raise ValueError("split.validation + split.test must be below 1: nothing would be left to train on")
        return self

    @model_validator(mode="after")
    def _folds_fit_the_other_parameters(self):
        if self.folds is not None and self.after is not None:
            raise ValueError("split.after needs split.folds: null: with folds, older and newer photographs are mixed")
        if self.repeats > 1 and self.folds in (None, "groups"):
            raise ValueError(
                f"split.repeats: {self.repeats} needs split.folds: auto or a number: nothing else is drawn in rounds"
            )
        return self

    def check_subsets(self, subsets: Iterable[str]) -> None:
        """Raise ThawError if images have a subset that is kept, and folds or a time divide them too."""
        if not self.keep_subsets or set(HELD_OUT).isdisjoint(subsets):
            return
        if self.folds not in (None, "auto"):
            raise ThawError(
                f"split.folds: {self.folds} and the split that was given with the photographs exclude one another: set "
                "split.folds: null to test on that split, or split.keep_subsets: false to divide all photographs anew"
            )
        if self.after is not None:
            raise ThawError(
                "split.after and the split that was given with the photographs exclude one another: set split.after: "
                "null, or split.keep_subsets: false"
            )

    @property
    def group_columns(self) -> list[str]:
        """The columns of images.csv that `group` names, with or without their prefix."""
        names = [self.group] if isinstance(self.group, str) else self.group or []
        return [f"meta_{name.removeprefix('meta_')}" for name in names]

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ThawError if a class has too few photographs for any split; `labels`: of each photograph, one."""
        for label, count in sorted(Counter(labels).items(), key=lambda item: (item[1], item[0])):
            if count < MIN_IMAGES:
                raise ThawError(
                    f"the class {label!r} has {plural(count, 'photograph')}: too few to train, validate "
                    f"and test; {MIN_IMAGES} or more are needed"
                )

    def check_columns(self, images: Mapping[str, Sequence[str]]) -> None:
        """Check what can be known of the photographs before any is read.

        Args:
            images: by the name of the column, as in images.csv: `image_id`, `label`, and all `meta_…`.

        Raises:
            ThawError: `folds`, `group`, `time` or `after` does not fit them.
        """
        self.check_subsets(images.get("meta_subset", []))
        groups = list(dict.fromkeys([*self.group_columns, *(["meta_group"] if "meta_group" in images else [])]))
        for column in groups:
            columns.check_name(column, images, "split.group")
            columns.check_groups(column, columns.as_groups(images[column]), column in self.group_columns)
        if self.folds == "groups":
            of_each = columns.as_groups(images[groups[0]]) if groups else [""] * len(images["label"])
            columns.check_each_is_in_a_group(of_each)
        if self.after is not None and self.time != "exif":
            column = f"meta_{self.time.removeprefix('meta_')}"
            columns.check_name(column, images, "split.time", ["exif"])
            dates.newer(images[column], images["image_id"], self.after, column)
