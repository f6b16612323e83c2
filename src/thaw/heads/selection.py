"""Which preset of augmentation suits the data, which head is kept, and with which one fine-tuning starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from thaw.features.examples import Examples
from thaw.features.paired import Change, paired_change
from thaw.heads.protocol import AUGMENTED, PLAIN, Trained


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


def choose_preset(trained: Sequence[Trained], presets: Sequence[str], validation: Examples) -> Choice:
    """Choose the gentlest preset, unless a stronger one lowers the loss by more than one standard error.

    Within noise the gentler one is safer: its copies look more like what the model will see.

    Args:
        trained: Heads of all variants.
        presets: The gentlest first.
        validation: The images on which `Trained.losses` were measured.

    Returns:
        The choice. It is the first preset, without comparisons, if there is no head for each.
    """
    heads = {variant: best(candidates) for variant, candidates in by_variant(trained).items()}
    chosen, comparisons = (presets[0] if presets else None), []
    for preset in presets[1:]:
        if {chosen, preset} <= heads.keys():
            change = paired_change(heads[preset].losses, heads[chosen].losses, validation)
            comparisons.append(Comparison(preset, chosen, change))
            chosen = preset if change.is_gain else chosen
    return Choice(chosen, tuple(presets), tuple(comparisons))


def of_preset(trained: Sequence[Trained], preset: str) -> list[Trained]:
    """Return the heads of plain images, and those of a preset that was chosen among several."""
    return [candidate for candidate in trained if candidate.variant in (PLAIN, AUGMENTED, preset)]


def best(trained: Sequence[Trained]) -> Trained:
    """Return the head with the lowest loss on validation; of equal ones the first."""
    return min(trained, key=lambda candidate: candidate.loss)


def best_scores(trained: Sequence[Trained]) -> dict[str, dict[str, float]]:
    """Return the scores of the best head of each variant, by its name."""
    return {variant: best(candidates).scores for variant, candidates in by_variant(trained).items()}


def by_variant(trained: Sequence[Trained]) -> dict[str, list[Trained]]:
    """Return the heads of each variant, by its name."""
    variants: dict[str, list[Trained]] = {}
    for candidate in trained:
        variants.setdefault(candidate.variant, []).append(candidate)
    return variants


def start_of_fine_tuning(trained: Sequence[Trained]) -> Trained:
    """Return the head with which fine-tuning starts: the best of those trained on augmented images.

    Fine-tuning uses augmented images too. From a head of plain images, its first steps would go astray. The best of
    all is returned if no head was trained on augmented images, or if heads extend a model: these are not fine-tuned.
    """
    augmented = [candidate for candidate in trained if candidate.variant != PLAIN and not candidate.head.extends]
    return best(augmented or trained)
