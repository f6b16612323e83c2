"""What a sweep tries: ranges of parameters as `dvc exp run --set-param` writes them, and combinations of their values.

The notation is Hydra's: `a,b`, `choice(a,b)` and `range(1,4)` list values, `interval(0,0.5)` spans numbers, and
`tag(log,interval(1e-5,1e-3))` spans them by their logarithm.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thaw.core.errors import ThawError, did_you_mean
from thaw.experiments.runs import PRUNE


@dataclass(frozen=True)
class Choice:
    values: tuple[object, ...]


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    logarithmic: bool = False
    integer: bool = False


Range = Choice | Interval


def parse(texts: Sequence[str]) -> dict[str, Range]:
    """Return the range of each `KEY=RANGE`; raises ThawError for any other text, and if a key comes twice."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override
    from hydra.errors import HydraException

    ranges: dict[str, Range] = {}
    for text in texts:
        try:
            override = OverridesParser.create().parse_override(text)
            key, value = override.key_or_group, override.value()
            # Hydra keeps the quotes of a listed value until it is converted.
            values = override.sweep_iterator(Override._convert_value) if override.is_discrete_sweep() else [value]
            values = list(values)
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
    integer = high - low > 1 and not re.search(r"[.e]", text.rpartition("interval")[2])  # both ends are integers
    return Interval(int(low) if integer else low, int(high) if integer else high, logarithmic, integer)


def combinations(ranges: Mapping[str, Range]) -> Iterator[dict[str, object]]:
    """Yield every combination of listed values, the last key varying fastest; raises ThawError for an interval."""
    for key, values in ranges.items():
        if isinstance(values, Interval):
            raise ThawError(f"{key}: of an interval not all can be tried: list values, or use src/search.py")
    for values in itertools.product(*(values.values for values in ranges.values())):
        yield dict(zip(ranges, values, strict=True))


def repeated(
    ranges: Mapping[str, Range], parameters: Mapping[str, object], repeats: int, seed_keys: Sequence[str] | None
) -> list[dict[str, object]]:
    """Return the changes of each experiment of a sweep.

    Args:
        ranges: what is tried.
        parameters: those of params.yaml by dotted key. Seeds count on from theirs.
        repeats: of each combination, over seeds that differ; 1 leaves the seeds as they are.
        seed_keys: the seeds that differ; None for those of training.

    Raises:
        ThawError: if a range is an interval, if a seed key is none, or if it is in the ranges too.
    """
    seeds = first_seeds(parameters, ranges, seed_keys) if repeats > 1 else {}
    if in_both := seeds.keys() & ranges.keys():
        raise ThawError(f"{min(in_both)} is swept already: leave --seeds to other seeds")
    # The limits of a search, if params.yaml has any, would cut repeats short.
    limits = {} if PRUNE in ranges or not parameters.get(PRUNE) else {PRUNE: []}
    return [
        limits | changes | {key: seed + i for key, seed in seeds.items()}
        for changes in combinations(ranges)
        for i in range(repeats)
    ]


def first_seeds(
    parameters: Mapping[str, object], ranges: Mapping[str, Range], keys: Sequence[str] | None
) -> dict[str, int]:
    """Return the seeds of the first repeat, which are those of `parameters`.

    By default they are those of training: the head's is one of them only if some head of the sweep is a network. Raises
    ThawError if a key is not that of a seed.
    """
    if keys is None:
        heads = ranges.get("head.kind", Choice((parameters["head.kind"],)))
        some_network = isinstance(heads, Choice) and "network" in heads.values
        keys = ["fine_tune.seed", *["head.seed"] * some_network]
    valid = [key for key in parameters if key.endswith(".seed")]
    for key in keys:
        if key not in valid:
            raise ThawError(f"{key} is no seed{did_you_mean(key, valid)}")
    return {key: parameters[key] for key in keys}


def set_param_text(value: object) -> str:
    """Return a value as `--set-param` takes it: text in quotes if it could be taken for anything else."""
    is_plain = isinstance(value, str) and re.fullmatch(r"[a-z/_][\w.:/-]*", value, re.ASCII | re.IGNORECASE)
    if is_plain and value.lower() not in ("true", "false", "null", "nan", "inf"):
        return value
    return json.dumps(value, ensure_ascii=False)  # Hydra does not decode the escapes of JSON


def set_param_texts(changes: Mapping[str, object]) -> dict[str, str]:
    """Return changes by dotted key as `--set-param` takes them."""
    return {key: set_param_text(value) for key, value in changes.items()}


def as_line(texts: Mapping[str, str]) -> str:
    return " ".join(f"{key}={text}" for key, text in texts.items())
