"""The sections on how far to trust the numbers: comparisons, the learning curve, calibration, slices."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from thaw.core.tables import EVALUATED
from thaw.core.words import plural
from thaw.evaluation.forecast import in_round_numbers
from thaw.evaluation.scored import Row
from thaw.evaluation.slices import MIN_IMAGES
from thaw.report import axes, charts, elements
from thaw.report.axes import Axis
from thaw.report.charts import IntervalRow, Plane, Point
from thaw.report.elements import MODELS
from thaw.report.estimate import Estimate
from thaw.report.results import Results

if TYPE_CHECKING:
    from thaw.report.multi_label.results import MultiResults

NAMES = {"fine_tuned": "fine-tuned", "head": "head", "neighbours": "neighbours", "majority": "majority"}
MAX_SLICES_LISTED = 16
BEFORE_AND_AFTER = ("", "_calibrated")  # what follows a measure's name in its two keys
NUMBERS = {1: "one", 2: "two", 3: "three"}
DOT_FRACTION = 0.02  # dots of the learning curve are as large as one of 2 % of the photographs


def write_comparisons(results: Results) -> Markup:
    rows = []
    for pair, comparison in results.measured.comparisons.items():
        first, second = pair.split("_against_")
        difference = Estimate.read_difference(comparison["differences"]["accuracy"])
        name = f"{NAMES[first].capitalize()} − {NAMES[second]}"
        rows.append(IntervalRow(name, f"p {elements.p_value(comparison['mcnemar_p'])}", {first: difference}))
    note = (
        "Measured on the same test photographs, so that what makes them easy for both cancels out; "
        "p is that of McNemar’s exact test. "
        "The neighbours are the nearest training photographs by their frozen features; validation chose how many: "
        f"{results.measured.neighbours}{_drawn(results)}. The majority is the "
        f"{'class of the largest weight' if results.weighted else 'most frequent class'} in training."
    )
    chart = charts.intervals(rows, mark=0.0, differences=True)
    figure = elements.figure("Difference in accuracy, in percentage points", chart)
    grid = elements.grid("two", [_agreement(results), _learning_curve(results)])
    return Markup("\n").join([figure, elements.paragraph(note, "soft"), grid])


def _drawn(results: Results) -> str:
    drawn = results.measured.neighbours_drawn
    return "" if drawn is None else f", among {drawn:,} of the training photographs, drawn, since there are so many"


def _agreement(results: Results) -> Markup:
    """Count the test photographs that both models, one of them, or neither gets right."""
    counts = results.measured.comparisons["fine_tuned_against_head"]["counts"]
    table = {
        "Head right": (counts["both_right"], counts["only_head_right"]),
        "Head wrong": (counts["only_fine_tuned_right"], counts["both_wrong"]),
    }
    total = sum(map(sum, table.values())) or 1
    rows = [
        elements.row(name, [elements.shaded_cell(f"{n:,}", elements.percent(n / total), n / total) for n in row])
        for name, row in table.items()
    ]
    header = Markup('<tr><td></td><th scope="col">Fine-tuned right</th><th scope="col">Fine-tuned wrong</th></tr>')
    return elements.figure("Who is right", elements.table("matrix", [header], rows))


def _learning_curve(results: Results) -> Markup:
    name = "What more labels bring to logistic regression on the frozen features"
    rows = results.measured.learning_curve
    if not rows:
        if not results.health.tested:
            return elements.figure(name, charts.undefined())
        reason = "Fits of so many classes would take minutes: none were made."
        return elements.figure(name, elements.paragraph(reason, "soft"))
    points = [
        Point(row["images"], row["accuracy"], row["accuracy_low"], row["accuracy_high"], DOT_FRACTION) for row in rows
    ]
    ahead = [
        Point(row["images"], row["accuracy"], row["accuracy_low"], row["accuracy_high"])
        for row in results.measured.forecast.ahead
    ]
    accuracies = [accuracy for p in (*points, *ahead) for accuracy in (p.y, p.low, p.high) if accuracy is not None]
    sizes = [round(point.x) for point in points]
    if ahead:  # fewer labels, so that they do not overlap
        sizes = [*sizes[::2], round(ahead[-1].x)]
    x = Axis("training photographs", sizes[0], max(sizes[-1], sizes[0] + 1), sizes, logarithmic=True)
    plane = Plane(x, axes.round_axis("accuracy", accuracies), height=190)
    note = "The line is the mean of the draws of each size, the band reaches from the worst to the best of them."
    if rows[-1]["draws"] > 1:
        note += f" It ends before all {results.health.trained:,}: larger parts would take minutes."
    series = {"head": points} | ({"ahead": ahead} if ahead else {})
    if ahead:
        note += " The dots carry the line on, with the interval that holds 95 %."
    return charts.lines(name, series, plane, f"{_more_photographs(results)} {note}")


def _more_photographs(results: Results) -> str:
    """Say how many photographs bring one, two and three points more, or why it cannot be said."""
    forecast = results.measured.forecast
    unknown = "How many more photographs bring a point cannot be said:"
    if forecast.reason == "few":
        return f"{unknown} there are too few to draw parts of four sizes from them."
    if forecast.reason == "many":
        return (
            f"{unknown} of so many classes, parts of four sizes cannot be drawn. The smallest has a photograph of each "
            "class, and larger ones than the largest would take minutes."
        )
    end = forecast.end
    if forecast.reason == "missed":
        return (
            f"{unknown} by the smaller sizes, the largest should get {elements.percent(end.low)} to "
            f"{elements.percent(end.high)} right, and it gets {elements.percent(end.measured)}."
        )
    if forecast.reason == "flat":
        return f"{unknown} between the sizes, the accuracy does not rise by more than chance."
    total = results.health.photographs
    sentences, unsaid = [f"There are {total:,} photographs. The line ends at {elements.percent(end.measured)}."], []
    for points, needed in forecast.needed.items():
        if needed is None:
            unsaid.append(points)
            continue
        count, low, high = (f"{in_round_numbers(n * total):,}" for n in (needed.times, needed.low, needed.high))
        which = f"{NUMBERS[points]} {'point' if points == 1 else 'points'} more"
        sentences.append(f"For {which} it takes about {count} photographs in all ({low} to {high}).")
    if unsaid:
        names = elements.enumeration([NUMBERS[points] for points in unsaid], "or")
        sentences.append(
            f"For {names} {'point' if unsaid == [1] else 'points'} more it cannot be said: the interval is too wide."
        )
    off = abs(end.measured - end.predicted)
    sentences.append(
        f"This is read from a power law through all sizes. Checked on the largest: predicted from the others, it is "
        f"off by {100 * off:.1f} points."
    )
    return " ".join(map(str, sentences))


def write_calibration(results: Results) -> Markup:
    """Show the reliability before and after the temperature, what it changes, and the threshold."""
    plane = Plane(axes.unit_axis("confidence"), axes.unit_axis("accuracy"), diagonal=True)
    figures = [
        charts.lines(name, reliability(results.measured.curves[kind]), plane)
        for kind, name in (("calibration", "As trained"), ("calibrated", "With the temperature"))
    ]
    note = (
        f"{results.tested_on.removeprefix('the ').capitalize()}. The dots are bins of photographs by how sure the "
        "model is, the larger the more it holds; below "
        "the dotted line a model is surer than it is right. A temperature divides the logits, and changes no "
        f"prediction. {_temperatures_from(results)} All other sections show the probabilities as the model gives them; "
    )
    if results.extension:
        end = "those of all the classes of the extended model have no temperature of their own."
    else:
        end = Markup("<code>decision.json</code> keeps the temperature for those who use the model.")
    flips = results.parameters["evaluate"]["test_time_flips"]
    if flips:
        end += f" All probabilities in this report are means over a photograph and its mirror images ({flips})."
    tables = elements.grid("two", [_temperatures(results), _threshold(results)])
    return Markup("\n").join(
        [
            elements.legend(),
            elements.grid("two", figures),
            elements.paragraph(Markup("{}{}").format(note, end), "soft"),
            tables,
        ]
    )


def _temperatures_from(results: Results) -> str:
    """Say what temperatures are fitted on."""
    if results.folds is None:
        return "It is fitted on validation alone."
    return (
        "Each fold is measured with a temperature of its own, fitted on its validation alone: few photographs can make "
        "it a bad one. That of the model which is saved is fitted on the predictions of the folds, and is not measured."
    )


def reliability(curve: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, list[Point]]:
    """Return, for each model, a point for each bin of confidence on test. `curve`: model → its bins."""
    series = {}
    for model, rows in curve.items():
        total = sum(row["count"] for row in rows)
        series[model] = [Point(row["confidence"], row["accuracy"], fraction=row["count"] / total) for row in rows]
    return series


def _temperatures(results: Results) -> Markup:
    suffix = "_weighted" if results.weighted else ""
    rows = []
    for model, name in MODELS.items():
        scores = results.measured.metrics["calibration"][model]
        temperature = f"temperature {scores['temperature']:.3f}"
        if results.folds is not None:
            temperature = f"each fold with its own temperature (as saved: {scores['temperature']:.3f})"
        rows.append(elements.row_group(f"{name}, {temperature}", 3))
        for key, measure in (("log_loss", "Log loss"), ("ece", "Calibration error")):
            texts = (
                " → ".join(elements.number(scores[split][f"{key}{suffix}{end}"]) for end in BEFORE_AND_AFTER)
                for split in EVALUATED
            )
            rows.append(elements.row(measure, [elements.cell(text) for text in texts]))
    table = elements.table("wide", [elements.header("", ["Validation", "Test"])], rows)
    return elements.figure("Before the temperature → with it" + _by_weight(results), table)


def _by_weight(results: Results) -> str:
    return ", by the weight of the labels" if results.weighted else ""


def _threshold(results: Results) -> Markup:
    name = f"The threshold{_by_weight(results)}"
    if not results.measured.thresholds or results.extension:
        reason = "Of more than two classes the likeliest is predicted: no threshold is chosen."
        return elements.figure(name, elements.paragraph(reason, "soft"))
    rows, missed = [], []
    for model, model_name in MODELS.items():
        by_split = results.measured.thresholds[model]
        chosen = by_split["validation"]
        rows.append(elements.row_group(f"{model_name}, threshold {elements.probability(chosen.value)}", 3))
        for key in ("precision", "recall"):
            cells = [elements.cell(elements.percent(getattr(threshold, key))) for threshold in by_split.values()]
            rows.append(elements.row(key.capitalize(), cells))
        missed += [] if chosen.reached else [model_name.lower()]
    note = Markup("{} is called where its probability, with the temperature, lies above the threshold").format(
        elements.isolated(results.classes[1])
    )
    aim = results.parameters["evaluate"]["threshold"]
    if isinstance(aim, str):
        note += Markup(". Aim on {}: <code>{}</code>").format(results.chosen_on, aim)
    else:
        note += ", a number that was set"
    note += f", not reached by the {' and the '.join(missed)} model: this is the nearest to it." if missed else "."
    columns = ["Validation" if results.folds is None else "Where it was chosen", "Test"]
    table = elements.table("wide", [elements.header("", columns)], rows)
    return elements.figure(name, table + elements.paragraph(note, "soft"))


def write_slices(results: Results) -> Markup:
    """List the slices of the test split, those first on which the saved model is worst."""
    note = (
        f"The worst first, by the upper end of the {results.saved_name}’s interval; the dashed line is its accuracy on "
        f"{results.tested_on.replace('the', 'the whole')}."
    )
    overall = results.measured.metrics[results.saved]["test"]["accuracy"]
    return list_slices(results, lambda row: "", note, overall)


def list_slices(
    results: "Results | MultiResults", describe: Callable[[Row], str], note: str, overall: float | None
) -> Markup:
    """Return a chart of the worst slices, or what there is to say without any.

    Args:
        results: of the run.
        describe: returns what stands behind the number of photographs of a slice.
        note: what is drawn; the meaning of p and the slices left out are added.
        overall: the share on the whole test split, for the dashed line.
    """
    slices = {
        model: {(row["column"], row["value"]): row for row in rows} for model, rows in results.measured.slices.items()
    }
    names, few = list(slices[results.saved]), results.measured.small_slices
    verb = "is" if few == 1 else "are"
    small = f"{plural(few, 'slice')} of fewer than {MIN_IMAGES} photographs {verb} left out: too few to tell."
    if not names:
        nothing = (
            f"Neither a column that the source gives nor the size has two values of {MIN_IMAGES} tested photographs or "
            "more each: no slices."
        )
        return elements.paragraph(small if few else nothing, "soft")
    rows = []
    for column, value in names[:MAX_SLICES_LISTED]:
        row = slices[results.saved][column, value]
        p = f", p {elements.p_value(row['p_value'])}" if row["p_value"] is not None else ""
        estimates = {model: Estimate.read(slices[model][column, value], "accuracy") for model in MODELS}
        name = Markup("{}: {}").format(*map(elements.isolated, (column.replace("_", " "), value)))
        rows.append(IntervalRow(name, f"{plural(row['count'], 'photograph')}{describe(row)}{p}", estimates))
    note += (
        " p says how often chance alone makes a slice differ that much from the rest, the number of slices taken into "
        "account."
    )
    note += f" {small}" if few else ""
    rest = elements.rest(len(names), len(rows), "slices", f"slices_{results.saved}.csv")
    chart = charts.intervals(rows, mark=overall)
    return Markup("\n").join([elements.legend(), chart, elements.paragraph(note, "soft"), rest])
