"""The parameters that suit a person's photographs, and which of them are written to params.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thaw.core.section import Section
from thaw.guide.survey import Survey
from thaw.parameters.augment import AUTO, CANDIDATES
from thaw.splitting import folds

SQUARE = 1.05  # up to this ratio of the sides, all ways to a square are nearly the same


@dataclass(frozen=True)
class Choice:
    """A parameter that suits the photographs.

    Attributes:
        key: its dotted name.
        value: what suits them.
        why: in a few words.
        also: other values that this command may have written for other photographs.
        overrides: parameters that then have no effect. Where a person has set one, the choice is not made.
    """

    key: str
    value: object
    why: str
    also: tuple = ()
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What becomes of a parameter."""

    key: str
    old: object
    new: object  # the same as `old` if it is kept
    why: str


def place(survey: Survey, chosen_before: bool) -> dict[str, object]:
    """Return the parameters that say where the photographs are.

    What was labelled since belongs to the photographs of before: if these are others (not `chosen_before`), it goes.
    """
    labelled = {"download.added": None, "download.corrections": None, "download.new_classes": []}
    path = {"download.source": survey.source, f"download.{survey.source}.path": str(survey.path)}
    return path if chosen_before else path | labelled


def choose(survey: Survey, split: Section) -> list[Choice]:
    """Return the parameters that depend on what the photographs are.

    split: the section of the parameters. Where it divides by time, there are no folds.
    """
    resize, why = "crop", "they are square"
    if survey.median_aspect > SQUARE:
        lost = 1 - 1 / survey.median_aspect
        resize, why = "auto", f"the middle square would leave out {lost:.0%} of the median shape: validation decides"
    choices = [
        Choice("augment.preset", AUTO, f"the head decides between {' and '.join(CANDIDATES)}, on validation"),
        Choice("image.resize", resize, why, also=("crop", "auto")),
    ]
    if split.after is None:
        overrides = ("split.validation", "split.test")
        choices.append(Choice("split.folds", "auto", _why_folds(survey, split), overrides=overrides))
    return choices


def _why_folds(survey: Survey, split: Section) -> str:
    if split.keep_subsets and survey.has_own_split:
        return "your own split is taken"
    if len(survey.used) >= folds.FOLDS_BELOW:
        return f"one split, as there are {folds.FOLDS_BELOW:,} photographs or more"
    return "each photograph is tested once, by a model that has not seen it"


def decide(
    choices: Sequence[Choice], values: Mapping[str, object], overlay: Mapping[str, object], chosen_before: bool
) -> list[Decision]:
    """Decide which choices are written: those whose parameter nobody has set.

    Args:
        choices: what suits the photographs.
        values: dotted name → value, as params.yaml has it.
        overlay: dotted name → value that only suits the default photographs. A value that differs was set by a person,
            unless a choice may have written it.
        chosen_before: whether the choices were made for these photographs before. All that differs was set since.

    Returns:
        A decision for each choice, and one for each other value of the overlay that a person has set.
    """
    decisions = []
    for choice in choices:
        old = values[choice.key]
        free = not chosen_before and (old == overlay.get(choice.key) or old in choice.also)
        free = free and all(values[key] == overlay.get(key) for key in choice.overrides)
        new = choice.value if free else old
        why = choice.why if new == choice.value else f"{choice.value} would suit: {choice.why}"
        decisions.append(Decision(choice.key, old, new, why))
    rest = {key: value for key, value in overlay.items() if key not in {choice.key for choice in choices}}
    decisions += [
        Decision(key, values[key], values[key], "")
        for key, value in rest.items()
        if values[key] != value and not key.startswith("download.")
    ]
    return decisions
