"""The section on sets instead of guesses: how often they hold the label, and how large they are."""

from markupsafe import Markup

from thaw.evaluation.conformal import LISTED_LEVEL, MEASURED_LEVELS, MIN_OUTSIDE
from thaw.report import elements
from thaw.report.estimate import Estimate
from thaw.report.results import Results

MAX_CLASSES_LISTED = 12
WHOLE = 0  # digits of a level in percent


def write_sets(results: Results) -> Markup:
    """Show, for the saved model, what the sets of each level hold on test, and for which classes they do least."""
    if results.extension:
        nothing = "An extended model has no sets: its old classes were not labelled here."
        return elements.paragraph(nothing, "soft")
    example = Markup("<code>predict.py --sets {:g}</code>").format(LISTED_LEVEL)
    intro = Markup("{} gives each photograph the classes that hold the true one with a probability of {}. {}").format(
        example, elements.percent(LISTED_LEVEL, WHOLE), describe_sets(results)
    )
    sets, weighted = results.measured.sets[results.saved], "_weighted" if results.weighted else ""
    rows = []
    for level in MEASURED_LEVELS:
        scores = sets.scores[level]
        coverage = Estimate.read(scores, f"coverage{weighted}")
        size = elements.UNDEFINED if scores["mean_size"] is None else f"{scores['mean_size']:.2f}"
        cells = [
            elements.cell(elements.percent(coverage.value), elements.interval(coverage, "%")),
            elements.cell(size),
            elements.cell(elements.percent(scores["single"])),
        ]
        rows.append(elements.row(elements.percent(level, WHOLE), cells))
    header = elements.header("Promised", ["Coverage", "Mean size", "One class"])
    by_weight = ", by the weight of the labels" if results.weighted else ""
    figure = elements.figure(f"Sets of the {results.saved_name}{by_weight}", elements.table("wide", [header], rows))
    parts = [elements.paragraph(intro), elements.grid("two", [figure, _classes(results)])]
    return Markup("\n").join([*parts, elements.paragraph(_note(results), "soft")])


def describe_sets(results: Results) -> str:
    """Say what the sets of LISTED_LEVEL hold, for the page and the model card."""
    sets = results.measured.sets[results.saved]
    if sets.limits[LISTED_LEVEL].are_none:
        return "Too few photographs were held out for that: each set has all classes."
    scores = sets.scores[LISTED_LEVEL]
    coverage = Estimate.read(scores, f"coverage{'_weighted' if results.weighted else ''}")
    if coverage.value is None:
        return "No photograph was held out to measure it."
    by_weight = ", by the weight of the labels" if results.weighted else ""
    text = (
        f"Of {results.tested_on}, {elements.percent(coverage.value)} had their label in their set (the "
        f"coverage{by_weight}), and a set had {scores['mean_size']:.2f} classes on average."
    )
    if coverage.high < LISTED_LEVEL:
        reason = "these photographs are harder than those that the sets were made from"
        if results.folds is not None:
            reason = "the folds differ from one another"
        text += f" That is less than promised: {reason}."
    return text


def _classes(results: Results) -> Markup:
    """List the classes whose label is least often in its set."""
    sets = results.measured.sets[results.saved]
    rows = [row | {"own": own} for row, own in zip(sets.per_class, sets.limits[LISTED_LEVEL].own, strict=True)]
    tested = sorted((row for row in rows if row["coverage"] is not None), key=lambda row: row["coverage"])
    listed = []
    for row in tested[:MAX_CLASSES_LISTED]:
        coverage = elements.cell(
            elements.percent(row["coverage"]), elements.interval(Estimate.read(row, "coverage"), "%")
        )
        cells = [elements.cell(f"{row['support']:,}"), coverage, elements.cell("own" if row["own"] else "shared")]
        listed.append(elements.row(elements.isolated(row["class"]), cells))
    header = elements.header("Class", ["Photographs", "Coverage", "Limit"])
    which = "The classes" if len(listed) == len(tested) else f"The {len(listed)} classes of the lowest coverage"
    name = f"{which} at {elements.percent(LISTED_LEVEL, WHOLE)}, each photograph counted once"
    return elements.figure(name, elements.table("wide", [header], listed))


def _note(results: Results) -> str:
    sets = results.measured.sets[results.saved]
    needed = round(MIN_OUTSIDE / (1 - LISTED_LEVEL))
    note = (
        "A set has the classes whose calibrated probability reaches their limit, and always the predicted class "
        "(conformal prediction). "
    )
    if results.folds is None:
        note += "The limits come from the validation split. "
    else:
        note += "Each fold is measured with limits from the predictions for the other folds. "
    note += (
        f"A class with {needed} held-out photographs has its own limit at {elements.percent(LISTED_LEVEL, WHOLE)}: for "
        "this class too the promise holds. Smaller classes share one limit: for these it holds on average. If they "
        "have too few photographs together, the next larger classes share it, too. Near-duplicates count as one "
        "photograph. The promise is about photographs of the same kind as these."
    )
    few = [elements.percent(level, WHOLE) for level in MEASURED_LEVELS if sets.limits[level].are_none]
    if few:
        note += f" For {elements.enumeration(few, 'and')} the photographs are too few: each set has all classes."
    return note
