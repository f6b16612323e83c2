"""What to try next, from what was tried before: Optuna's tree-structured Parzen estimator, and limits for pruning."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from thaw.sweeps import Choice, Interval, Range, combinations, written

STARTUP = 5  # trials at random before the estimator takes over, and before anything is pruned
GRACE = 2  # epochs in which nothing is pruned
REDRAWS = 20  # proposals that were tried before are drawn anew so many times


class Trial(NamedTuple):
    """What a trial tried, and its calibrated validation loss before the first and after each epoch."""

    values: Mapping[str, object]
    losses: Sequence[float]
    epochs: int  # that were planned
    keeps_last: bool = False  # of its epochs, rather than the best

    @property
    def loss(self) -> float:
        """The loss of the model that is kept."""
        return self.losses[-1] if self.keeps_last else min(self.losses)


def limits(history: Sequence[Trial]) -> list[float | None]:
    """Return the median over the trials of the lowest loss after each epoch, above which one is pruned.

    Of the last epoch there is none, and of the first GRACE none but None, nor where it is 0; it is empty as long as
    trials are few. A trial that ended early counts with what it had.
    """
    if len(history) < STARTUP:
        return []
    last = max(trial.epochs for trial in history)
    medians = [
        statistics.median(min(trial.losses[: epoch + 1]) for trial in history) for epoch in range(GRACE + 1, last)
    ]
    return [*[None] * GRACE, *(float(f"{median:.4g}") or None for median in medians)] if medians else []


def propose(history: Sequence[Trial], ranges: Mapping[str, Range], number: int, seed: int) -> dict[str, object] | None:
    """Return the values to try as trial `number`: the same for the same history, number and seed.

    None where every combination was tried. Trials with values outside of the ranges teach nothing.
    """
    import optuna  # takes a second

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(values) for key, values in ranges.items()}
    known = [trial for trial in history if all(_holds(ranges[key], trial.values.get(key)) for key in ranges)]
    tried = [{key: trial.values[key] for key in ranges} for trial in known]
    for redraw in range(REDRAWS):
        drawn = int(np.random.SeedSequence((seed, number, redraw)).generate_state(1)[0])
        sampler = optuna.samplers.TPESampler(seed=drawn, n_startup_trials=STARTUP)
        study = optuna.create_study(sampler=sampler)
        for trial in known:
            texts = {key: _told(ranges[key], trial.values[key]) for key in ranges}
            study.add_trial(optuna.trial.create_trial(params=texts, distributions=distributions, value=trial.loss))
        asked = study.ask(distributions).params
        proposal = {key: _value(values, asked[key]) for key, values in ranges.items()}
        if proposal not in tried:
            return proposal
    if any(isinstance(values, Interval) for values in ranges.values()):
        return proposal
    return next((values for values in combinations(ranges) if values not in tried), None)


def _distribution(values: Range):
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, Choice):
        return CategoricalDistribution([written(value) for value in values.values])
    kind = IntDistribution if values.whole else FloatDistribution
    return kind(values.low, values.high, log=values.logarithmic)


def _holds(values: Range, value: object) -> bool:
    if isinstance(values, Choice):
        return written(value) in map(written, values.values)
    if not isinstance(value, int | float) or isinstance(value, bool) or (values.whole and value % 1):
        return False
    return values.low <= value <= values.high


def _told(values: Range, value: object) -> object:
    return written(value) if isinstance(values, Choice) else value


def _value(values: Range, asked: object) -> object:
    if isinstance(values, Choice):
        return next(value for value in values.values if written(value) == asked)
    if values.whole:
        return asked
    return min(values.high, max(values.low, float(f"{asked:.3g}")))  # three digits are enough, and can be read
