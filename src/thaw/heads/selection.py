"""Which of the trained heads is kept, and with which one fine-tuning starts."""

from collections.abc import Sequence

from thaw.heads.protocol import Trained


def best(trained: Sequence[Trained]) -> Trained:
    """Return the head with the lowest loss on validation; of equal ones the first."""
    return min(trained, key=lambda candidate: candidate.loss)


def best_scores(trained: Sequence[Trained]) -> dict[str, dict[str, float]]:
    """Return the scores of the best head of each variant, by its name."""
    variants = {candidate.variant: [] for candidate in trained}
    for candidate in trained:
        variants[candidate.variant].append(candidate)
    return {variant: best(candidates).scores for variant, candidates in variants.items()}


def start_of_fine_tuning(trained: Sequence[Trained]) -> Trained:
    """Return the head with which fine-tuning starts: the best of those trained on augmented images.

    Fine-tuning uses augmented images too. From a head of plain images, its first steps would go astray. The best of
    all is returned if no head was trained on augmented images, or if heads extend a model: these are not fine-tuned.
    """
    return best([candidate for candidate in trained if candidate.augmented and not candidate.head.extends] or trained)
