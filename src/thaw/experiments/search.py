"""What a search tries next: Optuna's tree-structured Parzen estimator proposes it, and medians prune it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from thaw.experiments.runs import PRUNE
from thaw.experiments.sweeps import Choice, Interval, Range, combinations, set_param_text

STARTUP_TRIALS = 5  # before them, proposals are random and nothing is pruned
GRACE_EPOCHS = 2  # in which nothing is pruned
MAX_REDRAWS = 20  # of a proposal that was tried before


class Trial(NamedTuple):
    """A run of a search."""

    values: Mapping[str, object]  # dotted key → value
    losses: Sequence[float]  # on validation, calibrated: before the first epoch and after each
    epochs: int  # planned
    keeps_last: bool = False  # whether the model of the last epoch is kept, rather than that of the best
    accuracy: float | None = None  # on validation, weighted
    has_folds: bool = False  # whether the losses are means of folds, which limits do not end

    @property
    def loss(self) -> float:
        """The loss of the model that is kept."""
        return self.losses[-1] if self.keeps_last else min(self.losses)

    @property
    def was_pruned(self) -> bool:
        """Whether a limit ended the trial before its last epoch."""
        limits, epoch = self.values[PRUNE], len(self.losses) - 1
        if self.has_folds or not 0 < epoch < self.epochs or epoch > len(limits) or limits[epoch - 1] is None:
            return False
        return min(self.losses) > limits[epoch - 1]


def limits(history: Sequence[Trial]) -> list[float | None]:
    """Return for each epoch but the last the loss above which a trial is pruned; None if it has no limit.

    A limit is the median, over the trials before, of the lowest loss up to that epoch. A trial that ended early counts
    with the lowest loss that it reached. The first GRACE_EPOCHS have no limit, nor has an epoch whose median is 0. With
    fewer than STARTUP_TRIALS, or with folds, the list is empty.
    """
    if len(history) < STARTUP_TRIALS or any(trial.has_folds for trial in history):
        return []
    last = max(trial.epochs for trial in history)
    medians = [
        statistics.median(min(trial.losses[: epoch + 1]) for trial in history)
        for epoch in range(GRACE_EPOCHS + 1, last)
    ]
    return [*[None] * GRACE_EPOCHS, *(float(f"{median:.4g}") or None for median in medians)] if medians else []


def propose(history: Sequence[Trial], ranges: Mapping[str, Range], number: int, seed: int) -> dict[str, object] | None:
    """Propose the values of the next trial.

    Args:
        history: the trials before. Those with values outside of the ranges are ignored.
        ranges: dotted key → range.
        number: of the trial.
        seed: of the draws.

    Returns:
        Dotted key → value; the same for the same arguments. None if every combination was tried.
    """
    import optuna  # takes a second

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(range_) for key, range_ in ranges.items()}
    history = [trial for trial in history if all(_contains(ranges[key], trial.values.get(key)) for key in ranges)]
    tried = [{key: trial.values[key] for key in ranges} for trial in history]
    for redraw in range(MAX_REDRAWS):
        drawn = int(np.random.SeedSequence((seed, number, redraw)).generate_state(1)[0])
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=drawn, n_startup_trials=STARTUP_TRIALS))
        for trial in history:
            values = {key: _to_optuna(ranges[key], trial.values[key]) for key in ranges}
            study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=trial.loss))
        suggested = study.ask(distributions).params
        proposal = {key: _from_optuna(range_, suggested[key]) for key, range_ in ranges.items()}
        if proposal not in tried:
            return proposal
    if any(isinstance(range_, Interval) for range_ in ranges.values()):
        return proposal
    return next((values for values in combinations(ranges) if values not in tried), None)


def _distribution(range_: Range):
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(range_, Choice):
        return CategoricalDistribution([set_param_text(value) for value in range_.values])
    kind = IntDistribution if range_.integer else FloatDistribution
    return kind(range_.low, range_.high, log=range_.logarithmic)


def _contains(range_: Range, value: object) -> bool:
    if isinstance(range_, Choice):
        return set_param_text(value) in map(set_param_text, range_.values)
    if not isinstance(value, int | float) or isinstance(value, bool) or (range_.integer and value % 1):
        return False
    return range_.low <= value <= range_.high


def _to_optuna(range_: Range, value: object) -> object:
    return set_param_text(value) if isinstance(range_, Choice) else value


def _from_optuna(range_: Range, value: object) -> object:
    if isinstance(range_, Choice):
        return next(choice for choice in range_.values if set_param_text(choice) == value)
    if range_.integer:
        return value
    return min(range_.high, max(range_.low, float(f"{value:.3g}")))  # three digits are enough, and can be read
