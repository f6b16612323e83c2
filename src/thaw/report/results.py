"""What the report and the model card are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thaw.evaluation.measure import Measured
from thaw.evaluation.review import ReviewCard
from thaw.report.health import Health


@dataclass(frozen=True)
class Results:
    source: Mapping[str, str]  # name, license, citation: source.json
    classes: Sequence[str]  # in the order of the model's outputs
    weighted: bool  # whether some label weighs less than another
    measured: Measured
    sheets: Mapping[str, Sequence[ReviewCard]]  # key of report.sheets.SHEETS → its cards, in their order
    health: Health
    parameters: Mapping[str, object]  # nested as in params.yaml; values as JSON has them
    inputs: Mapping[str, str]  # path of each input → its MD5
    augmentations: bytes  # a JPEG of training photographs, plain and as augmented

    @property
    def extension(self) -> Mapping[str, Mapping] | None:
        """Split → what new classes did to the answers of an extended model; None for any other model."""
        return self.measured.metrics.get("extension")
