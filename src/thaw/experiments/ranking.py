"""Which experiment is best: what differs between them, how far repeats spread, and whether a gain exceeds that spread.

Experiments are compared on validation.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from thaw.core.tables import EVALUATED
from thaw.experiments.runs import PRUNE, Experiment
from thaw.report.estimate import Estimate

MIN_DIFFERENCE = 0.0005  # smaller differences of accuracies are treated as none


def reference(experiments: Sequence[Experiment], names: Sequence[str]) -> Experiment:
    """Return the experiment whose photographs the others are compared on: the first of `names` that is there.

    names: of experiments, or hashes of commits.
    """
    return next((e for name in names for e in experiments if name in (e.name, e.revision)), experiments[0])


def distinct(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Keep the first of those with the same parameters, data and results.

    An experiment that was applied is also a commit. The limits of a search do not count: if they ended nothing, the
    results are the same.
    """
    first: dict[tuple, Experiment] = {}
    for experiment in experiments:
        parameters = sorted((key, value) for key, value in experiment.parameters.items() if key != PRUNE)
        first.setdefault((repr(parameters), repr(experiment.accuracies), experiment.data), experiment)
    return list(first.values())


def changed_parameters(experiments: Sequence[Experiment]) -> list[str]:
    """Return the parameters in which experiments differ, those with the most values first; seeds and limits left out.

    A parameter that an older experiment does not have is no difference.
    """
    values: dict[str, set[str]] = {}
    for experiment in experiments:
        for key, value in experiment.parameters.items():
            if _is_choice(key):
                values.setdefault(key, set()).add(repr(value))
    return sorted((key for key in values if len(values[key]) > 1), key=lambda key: -len(values[key]))


def _is_choice(key: str) -> bool:
    """Return whether a parameter is a choice of the model: neither a seed nor the limits of a search."""
    return not (key.endswith(".seed") or key == PRUNE)


def average_repeats(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Replace repeats by their mean: runs of the same code, photographs and labels that differ only in the same seeds.

    Repeats over `fine_tune.seed` and repeats over `split.seed` have a mean each; the run that both start from counts
    in both. If several seeds cross, runs that differ in more than one stay single.
    """
    groups: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        choices = sorted((key, value) for key, value in experiment.parameters.items() if _is_choice(key))
        data = experiment.data
        groups.setdefault(repr((experiment.code, data.raw, data.labels, choices)), []).append(experiment)
    return [averaged for runs in groups.values() for averaged in _average_group(runs)]


def _average_group(runs: Sequence[Experiment]) -> list[Experiment]:
    """Average runs that have all but their seeds in common."""
    runs = sorted(runs, key=lambda run: sorted(_seeds(run).items()))  # the first is the one that repeats count on from
    first = _seeds(runs[0])
    by_seeds: dict[tuple[str, ...], list[Experiment]] = {}  # the seeds that differ from the first → runs
    for run in runs[1:]:
        differing = tuple(key for key, value in _seeds(run).items() if first.get(key, value) != value)
        by_seeds.setdefault(differing, [runs[0]]).append(run)
    all_differ = len({repr(_seeds(run)) for run in runs}) == len(runs)
    if not by_seeds or not all_differ or () in by_seeds:
        return runs
    averaged = []
    for keys, group in by_seeds.items():
        crossed = len(keys) > 1 and any((key,) in by_seeds for key in keys)
        move_together = all(len({repr(_seeds(run).get(key)) for run in group}) == len(group) for key in keys)
        suffix = f" over {' and '.join(keys)}" if len(by_seeds) > 1 else ""  # else two rows have one name
        averaged += [_mean(group, suffix)] if move_together and not crossed else group[1:]
    return averaged if any(experiment.repeats for experiment in averaged) else [runs[0], *averaged]


def _seeds(experiment: Experiment) -> dict[str, object]:
    return {key: value for key, value in sorted(experiment.parameters.items()) if key.endswith(".seed")}


def _mean(runs: Sequence[Experiment], suffix: str) -> Experiment:
    accuracies = {}
    for split in EVALUATED:
        values = [run.accuracies[split].value for run in runs]
        if None in values:
            accuracies[split] = Estimate(None)
            continue
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        accuracies[split] = Estimate(mean, mean - deviation, mean + deviation)
    costs = [run.training_cost for run in runs if run.training_cost is not None]
    return replace(
        runs[0],
        name=f"{runs[0].name} ×{len(runs)}{suffix}",
        accuracies=accuracies,
        training_cost=statistics.mean(costs) if costs else None,
        repeats=tuple(runs),
    )


def spread(experiment: Experiment) -> float | None:
    """Return the standard deviation of the validation accuracy over the repeats; None for a single run."""
    if not experiment.repeats:
        return None
    return statistics.stdev(run.accuracies["validation"].value for run in experiment.repeats)


def rank(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Sort by accuracy on validation, the best first. Those with other validation photographs come last."""
    return sorted(experiments, key=lambda e: (e.other_validation, -e.accuracies["validation"].value, e.name))


def find_rival(ranked: Sequence[Experiment]) -> Experiment | None:
    """Return the first experiment that differs from the best in more than its seeds; None if there is none.

    It has the same validation photographs.
    """
    same = [experiment for experiment in ranked if not experiment.other_validation]
    return next((other for other in same[1:] if _differ(same[0], other)), None)


def _differ(best: Experiment, other: Experiment) -> bool:
    return (other.code, other.data) != (best.code, best.data) or bool(changed_parameters([best, other]))


def verdict(best: Experiment, second: Experiment) -> str:
    """Say how far the best is ahead of the second on validation, and whether that exceeds the spread over seeds."""
    gain = best.accuracies["validation"].value - second.accuracies["validation"].value
    if gain < MIN_DIFFERENCE:
        return f"On validation {best.name} is as good as {second.name}."
    lead = f"On validation {best.name} is {100 * gain:.1f} points before {second.name}"
    spreads = [value for value in (spread(best), spread(second)) if value is not None]
    if not spreads:
        return f"{lead}, of one run each: src/sweep.py --seeds 5 shows how far seeds spread."
    if max(spreads) < MIN_DIFFERENCE:
        return f"{lead}; the seeds that were tried change nothing."
    relation = "no more than" if gain <= max(spreads) else "more than"
    return f"{lead}: {relation} the spread over their seeds ({100 * max(spreads):.1f} points, one standard deviation)."
