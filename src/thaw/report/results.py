"""What the report and the model card are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thaw.core.metrics_file import FINE_TUNED, HEAD, MODELS, saved_model
from thaw.evaluation.measure import Measured
from thaw.evaluation.review import ConfusedPair, ReviewCard
from thaw.report.health import Health


@dataclass(frozen=True)
class Duplicates:
    """The near-duplicates that the stage `split` has found, as it lists and shows them."""

    left_out: int  # photographs that are in no split, since others of their group are held out
    sheet: bytes | None  # a JPEG of the largest groups; None where there is no group
    looked_for: bool = True  # whether the stage has looked for any


@dataclass(frozen=True)
class PresetChoice:
    """The preset of augmentation, and what chose it."""

    name: str | None  # None if no copies were drawn
    # Preset → what it was compared with, see `selection.Choice`. Empty: no heads could be compared. None: it was set.
    compared: Mapping[str, Mapping] | None


@dataclass(frozen=True)
class RunFacts:
    """What is to be said of any run, whatever was measured of it."""

    source: Mapping[str, str]  # name, license, citation: source.json
    classes: Sequence[str]  # in the order of the model's outputs
    weighted: bool  # whether some label weighs less than another
    duplicates: Duplicates
    health: Health
    parameters: Mapping[str, object]  # nested as in params.yaml; values as JSON has them
    inputs: Mapping[str, str]  # path of each input → its MD5
    computed_with: Mapping[str, object]  # kernels and libraries: see `provenance.computed_with`
    preset: PresetChoice
    resize: Mapping[str, object] | None  # how photographs are made square: see `resize_choice.Choice`; None: it was set
    augmentations: bytes  # a JPEG of training photographs, plain and as augmented

    # What was measured tells `saved`, the model that the run has saved: see Results and MultiResults.

    @property
    def saved_name(self) -> str:
        """The name of the saved model in a sentence, after "the"."""
        return MODELS[self.saved]

    @property
    def other(self) -> str:
        """The model that is measured beside it."""
        return HEAD if self.saved == FINE_TUNED else FINE_TUNED


@dataclass(frozen=True)
class Results(RunFacts):
    measured: Measured
    sheets: Mapping[str, Sequence[ReviewCard]]  # key of report.sheets.SHEETS → its cards, in their order
    confused: Sequence[ConfusedPair]  # of the model that is saved, the most frequent first

    @property
    def saved(self) -> str:
        """The model that the run has saved, by its name in `measured`."""
        return saved_model(self.measured.metrics)

    @property
    def saved_name(self) -> str:
        """The name of the saved model in a sentence, after "the"."""
        return super().saved_name if self.extension is None else "extended model"

    @property
    def tested_on(self) -> str:
        """The photographs that figures are of, in a sentence."""
        return "the test split" if self.folds is None else "all photographs"

    @property
    def chosen_on(self) -> str:
        """What temperatures and thresholds are chosen on, in a sentence."""
        return "validation" if self.folds is None else "the predictions of the folds"

    @property
    def folds(self) -> Mapping[str, object] | None:
        """What the folds have decided, as metrics.json has it; None if there is one split instead."""
        return self.measured.metrics.get("folds")

    @property
    def extension(self) -> Mapping[str, Mapping] | None:
        """Split → what new classes did to the predictions of an extended model; None for any other model."""
        return self.measured.metrics.get("extension")
