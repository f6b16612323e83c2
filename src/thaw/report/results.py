"""What the report and the model card are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thaw.calibration import Threshold
from thaw.failures import Shown
from thaw.health import Health
from thaw.metrics import Row


@dataclass(frozen=True)
class Results:
    source: Mapping[str, str]  # name, license, citation: source.json
    classes: Sequence[str]  # in the order of the model's outputs
    weighted: bool  # whether some label weighs less than another
    metrics: Mapping[str, Mapping]  # the content of metrics.json
    per_class: Mapping[str, Sequence[Row]]  # model → a row for each class, of the test split
    curves: Mapping[str, Mapping[str, Sequence[Row]]]  # kind → model → rows, of the test split
    learning_curve: Sequence[Row]
    slices: Mapping[str, Sequence[Row]]  # model → the worst first
    neighbours: int  # how many the baseline of that name asks
    thresholds: Mapping[str, Mapping[str, Threshold]]  # model → split; empty with more than two classes
    sheets: Mapping[str, Sequence[Shown]]  # mistakes, doubts, labels
    health: Health
    parameters: Mapping[str, object]  # nested as params.yaml, of values that JSON knows
    inputs: Mapping[str, str]  # what was read → its MD5
    augmentations: bytes  # a JPEG of training photographs, plain and as augmented
