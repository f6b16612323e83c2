"""Which preset of augmentation suits the data, which head is kept, and with which one fine-tuning starts.

A round is one training on one part of the images: there is one round for a split, and one for each fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median_low

import numpy as np

from thaw.features.examples import Examples
from thaw.features.paired import Change, paired_change
from thaw.heads.protocol import AUGMENTED, PLAIN, Setting, Trained
from thaw.training.out_of_fold import mean_scores

Round = Sequence[Trained]  # the heads of one round: of all variants, at all settings that were tried


@dataclass(frozen=True)
class Comparison:
    """The best heads of two presets, compared on each image of validation."""

    preset: str
    against: str  # the gentler one
    change: Change  # of the loss, from `against` to `preset`


@dataclass(frozen=True)
class Choice:
    """The preset whose augmented views fine-tuning uses, and why."""

    preset: str | None  # None: there are no augmented views
    candidates: tuple[str, ...]  # the presets that it was chosen from, the gentlest first
    comparisons: tuple[Comparison, ...]

    @property
    def metrics(self) -> dict[str, object]:
        """For `metrics.json`; empty if there was nothing to choose from."""
        compared = {
            c.preset: {
                "against": c.against,
                "validation_loss_change": c.change.loss,
                "standard_error": c.change.standard_error,
            }
            for c in self.comparisons
        }
        return {"augmentation": {"preset": self.preset, "compared": compared}} if len(self.candidates) > 1 else {}

    @property
    def text(self) -> str:
        """For the terminal; empty if there was nothing to choose from."""
        if len(self.candidates) < 2:
            return ""
        compared = ", ".join(f"{c.preset} against {c.against}: {c.change.text}" for c in self.comparisons)
        reason = compared or "the gentlest: without `true` in head.augmented no heads can be compared"
        return f"; augmentation {self.preset} is chosen ({reason})"


def choose_preset(rounds: Sequence[Round], presets: Sequence[str], validation: Examples) -> Choice:
    """Choose the gentlest preset, unless a stronger one lowers the loss by more than one standard error.

    Within noise the gentler one is safer: its copies look more like what the model will see.

    Args:
        rounds: Heads of all variants.
        presets: The gentlest first.
        validation: The images on which `Trained.losses` were measured, those of the first round first.

    Returns:
        The choice. It is the first preset, without comparisons, if there is no head for each.
    """
    losses: dict[str, list[np.ndarray]] = {}
    for trained in rounds:
        for variant, candidates in by_variant(trained).items():
            losses.setdefault(variant, []).append(best(candidates).losses)
    chosen, comparisons = (presets[0] if presets else None), []
    for preset in presets[1:]:
        if {chosen, preset} <= losses.keys():
            change = paired_change(np.concatenate(losses[preset]), np.concatenate(losses[chosen]), validation)
            comparisons.append(Comparison(preset, chosen, change))
            chosen = preset if change.is_gain else chosen
    return Choice(chosen, tuple(presets), tuple(comparisons))


def of_preset(trained: Round, preset: str | None) -> list[Trained]:
    """Return the heads of plain images, and those of a preset that was chosen among several."""
    return [candidate for candidate in trained if candidate.variant in (PLAIN, AUGMENTED, preset)]


def best(trained: Round) -> Trained:
    """Return the head with the lowest loss on validation; of equal ones the first."""
    return min(trained, key=lambda candidate: candidate.loss)


def agreed(rounds: Sequence[Round]) -> tuple[str, Setting]:
    """Return the variant and the setting with which a head of all images is trained.

    Of those that were trained in all rounds, it is the variant and candidate with the lowest mean loss, each at its
    best in every round. Each of its values is the median of those there; of two middle ones, the lower.
    """
    choices: dict[tuple[str, str], list[Trained]] = {}
    for trained in rounds:
        kinds: dict[tuple[str, str], list[Trained]] = {}
        for candidate in trained:
            kinds.setdefault((candidate.variant, candidate.setting.candidate), []).append(candidate)
        for kind, candidates in kinds.items():
            choices.setdefault(kind, []).append(best(candidates))
    in_all = {kind: of_kind for kind, of_kind in choices.items() if len(of_kind) == len(rounds)}
    variant, candidate = min(in_all, key=lambda kind: mean(choice.loss for choice in in_all[kind]))
    values = zip(*(choice.setting.values for choice in choices[variant, candidate]), strict=True)
    return variant, Setting(candidate, tuple(map(median_low, values)))


def best_scores(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Return the scores of the best head of each variant, by its name: means over the rounds."""
    scores: dict[str, list[dict[str, float]]] = {}
    for trained in rounds:
        for variant, candidates in by_variant(trained).items():
            scores.setdefault(variant, []).append(best(candidates).scores)
    return {variant: mean_scores(of_rounds) for variant, of_rounds in scores.items()}


def by_variant(trained: Round) -> dict[str, list[Trained]]:
    """Return the heads of each variant, by its name."""
    variants: dict[str, list[Trained]] = {}
    for candidate in trained:
        variants.setdefault(candidate.variant, []).append(candidate)
    return variants


def fit_to_start(trained: Round) -> list[Trained]:
    """Return the heads of which the best starts fine-tuning: those trained on augmented images.

    Fine-tuning uses augmented images too. From a head of plain images, its first steps would go astray. All are
    returned if no head was trained on augmented images, or if heads extend a model: these are not fine-tuned.
    """
    augmented = [candidate for candidate in trained if candidate.variant != PLAIN and not candidate.head.extends]
    return augmented or list(trained)
