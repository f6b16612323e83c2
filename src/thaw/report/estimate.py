"""A measured value with its interval."""

from collections.abc import Mapping
from typing import NamedTuple


class Estimate(NamedTuple):
    value: float | None  # None if it is undefined
    low: float | None = None  # the ends of its interval; None if it has none
    high: float | None = None

    @classmethod
    def read(cls, scores: Mapping[str, float | None], key: str) -> "Estimate":
        """Return the score `key` with the scores `{key}_low` and `{key}_high`, where there are any."""
        return cls(scores[key], scores.get(f"{key}_low"), scores.get(f"{key}_high"))

    @classmethod
    def read_difference(cls, scores: Mapping[str, float | None]) -> "Estimate":
        """Return a difference of two scores, from its keys `difference`, `low` and `high`."""
        return cls(scores["difference"], scores["low"], scores["high"])

    @property
    def has_interval(self) -> bool:
        return self.low is not None and self.high is not None

    @property
    def numbers(self) -> list[float]:
        """Return the value and the ends of its interval, without those that are None."""
        return [number for number in self if number is not None]
