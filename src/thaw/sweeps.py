"""Ranges of parameters as `dvc exp run --set-param` writes them, and combinations of their values.

The notation is Hydra's: `a,b`, `choice(a,b)` and `range(1,4)` list values, `interval(0,0.5)` spans numbers, and
`tag(log,interval(1e-5,1e-3))` spans them by their logarithm.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thaw.errors import ThawError


@dataclass(frozen=True)
class Choice:
    values: tuple[object, ...]


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False


Range = Choice | Interval


def parse(texts: Sequence[str]) -> dict[str, Range]:
    """Return the range of each `KEY=RANGE`; raises ThawError for what is none, and where a key comes twice."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override
    from hydra.errors import HydraException

    ranges: dict[str, Range] = {}
    for text in texts:
        try:
            override = OverridesParser.create().parse_override(text)
            key, value = override.key_or_group, override.value()
            # Hydra keeps the quotes of a listed value until it is converted.
            listed = override.sweep_iterator(Override._convert_value) if override.is_discrete_sweep() else [value]
            values = list(listed)
        except HydraException as error:
            raise ThawError(f"{text!r} is no KEY=VALUES such as head.seed=1,2,3: {error}") from None
        if key in ranges:
            raise ThawError(f"{key} is given twice")
        if override.is_sweep_override() and not override.is_discrete_sweep():
            ranges[key] = _interval(text, value)
        else:
            ranges[key] = Choice(tuple(value for i, value in enumerate(values) if value not in values[:i]))
    return ranges


def _interval(text: str, sweep) -> Interval:
    low, high, logarithmic = sweep.start, sweep.end, "log" in sweep.tags
    if low >= high or (logarithmic and low <= 0):
        raise ThawError(f"{text!r} spans nothing: the lower end comes first, above 0 where it is logarithmic")
    whole = high - low > 1 and not re.search(r"[.e]", text.rpartition("interval")[2])  # written as whole numbers
    return Interval(int(low) if whole else low, int(high) if whole else high, logarithmic, whole)


def combinations(ranges: Mapping[str, Range]) -> Iterator[dict[str, object]]:
    """Yield every combination of listed values, those of the last key in turn; raises ThawError for an interval."""
    for key, values in ranges.items():
        if isinstance(values, Interval):
            raise ThawError(f"{key}: of an interval not all can be tried: list values, or use src/search.py")
    for values in itertools.product(*(values.values for values in ranges.values())):
        yield dict(zip(ranges, values, strict=True))


def written(value: object) -> str:
    """Return a value as `--set-param` takes it: text in quotes where it could be taken for anything else."""
    text = isinstance(value, str) and re.fullmatch(r"[a-z/_][\w.:/-]*", value, re.ASCII | re.IGNORECASE)
    if text and value.lower() not in ("true", "false", "null", "nan", "inf"):
        return value
    return json.dumps(value, ensure_ascii=False)  # Hydra takes an escape for what it looks like
