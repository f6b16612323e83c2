"""What the report and the model card are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thaw.evaluation import Measured
from thaw.failures import Shown
from thaw.health import Health


@dataclass(frozen=True)
class Results:
    source: Mapping[str, str]  # name, license, citation: source.json
    classes: Sequence[str]  # in the order of the model's outputs
    weighted: bool  # whether some label weighs less than another
    measured: Measured
    sheets: Mapping[str, Sequence[Shown]]  # mistakes, doubts, labels
    health: Health
    parameters: Mapping[str, object]  # nested as params.yaml, of values that JSON knows
    inputs: Mapping[str, str]  # what was read → its MD5
    augmentations: bytes  # a JPEG of training photographs, plain and as augmented
