"""The section `evaluate`: how the models are measured and what the report shows."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator

from thaw.core.errors import ThawError
from thaw.core.section import Fraction, Section, Seed


class Aim(NamedTuple):
    """What a threshold is chosen for."""

    kind: Literal["value", "best_f1", "precision", "recall"]
    number: float = 0.0  # the threshold itself, or the least precision or recall


def parse_aim(threshold: object, key: str = "evaluate.threshold") -> Aim:
    """Return what the parameter `key` asks for: a number, `best_f1`, `precision:0.95` or `recall:0.95`.

    It is a text since `dvc exp run -S evaluate.threshold=precision:0.95` then needs no quotes and replaces the old
    value, where a mapping would be merged into it. Raises ValueError for anything else.
    """
    if isinstance(threshold, int | float) and not isinstance(threshold, bool) and 0 < threshold < 1:
        return Aim("value", float(threshold))
    if threshold == "best_f1":
        return Aim("best_f1")
    if isinstance(threshold, str):
        kind, _, number = threshold.partition(":")
        if kind in ("precision", "recall") and re.fullmatch(r"0?\.\d*[1-9]\d*|1(\.0*)?", number):
            return Aim(kind, float(number))
    raise ValueError(
        f"{key} should be a number between 0 and 1, best_f1, precision:0.95 or recall:0.95 "
        f"(or another number), not {threshold!r}"
    )


class Evaluate(Section):
    test_time_flips: Literal["horizontal", "vertical", "both", None]
    threshold: Fraction | str
    multi_aim: Fraction | str
    bootstrap: Annotated[int, Field(ge=100, le=1_000_000)]
    bins: Annotated[int, Field(ge=2, le=1000)]
    shown: Annotated[int, Field(ge=0, le=100)]
    seed: Seed

    @field_validator("threshold", mode="before")
    @classmethod
    def _threshold_is_an_aim(cls, value: object) -> object:
        parse_aim(value)
        return value

    @field_validator("multi_aim", mode="before")
    @classmethod
    def _multi_aim_is_an_aim(cls, value: object) -> object:
        parse_aim(value, "evaluate.multi_aim")
        return value

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise ThawError where the threshold needs two classes and these are more or fewer."""
        if len(classes) != 2 and self.threshold != 0.5:
            raise ThawError(
                f"evaluate.threshold {self.threshold!r} needs two classes, and there are {len(classes):,}: with more, "
                "the likeliest class is predicted; set it to 0.5"
            )
