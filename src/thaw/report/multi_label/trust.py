"""The sections on how far to trust the numbers of several labels: comparisons, calibration and thresholds, slices."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from thaw.core.tables import EVALUATED
from thaw.evaluation.multi_label.metrics import MAIN
from thaw.evaluation.scored import Row
from thaw.report import axes, charts, elements
from thaw.report.charts import IntervalRow, Plane
from thaw.report.elements import MODELS
from thaw.report.estimate import Estimate
from thaw.report.multi_label.quality import MAX_CLASSES_LISTED, name_some
from thaw.report.multi_label.results import MultiResults
from thaw.report.trust import NAMES, list_slices, reliability


def write_comparisons(results: MultiResults) -> Markup:
    """Show the differences of the models' mean average precisions, and by class what fine-tuning changed."""
    rows = []
    for pair, comparison in results.measured.comparisons.items():
        first, second = pair.split("_against_")
        difference = Estimate.read_difference(comparison["differences"][MAIN])
        second = "class frequency" if second == "majority" else NAMES[second]
        rows.append(IntervalRow(f"{NAMES[first].capitalize()} − {second}", "", {first: difference}))
    votes = sorted(set(results.measured.neighbours))
    note = (
        "Measured on the same test photographs and the same resamples, so that what makes them easy for both cancels "
        "out. The neighbours are, for each class, the training photographs with the nearest frozen features of which "
        f"it is known whether they show it; validation chose how many vote: "
        f"{elements.enumeration([*map(str, votes)], 'or')}. The frequency of a class says the same of each photograph: "
        "its average precision is the share that shows the class. Any order of few pairs has more: look at the first "
        "section for what chance has."
    )
    chart = charts.intervals(rows, mark=0.0, differences=True)
    figure = elements.figure("Difference in mean average precision, in percentage points", chart)
    return Markup("\n").join([figure, elements.paragraph(note, "soft"), _by_class(results)])


def _by_class(results: MultiResults) -> Markup:
    differences = results.measured.comparisons["fine_tuned_against_head"]["classes"]
    rows = {row["class"]: row for row in results.measured.per_class["head"]}
    known = [(name, Estimate.read_difference(values)) for name, values in differences.items()]
    known = sorted([pair for pair in known if pair[1].value is not None], key=lambda pair: pair[1].value)
    listed = known[:MAX_CLASSES_LISTED]
    drawn = [
        IntervalRow(
            elements.isolated(name),
            f"{rows[name]['known_present']:,} present, {rows[name]['known_absent']:,} absent",
            {"fine_tuned": difference},
        )
        for name, difference in listed
    ]
    chart = charts.intervals(drawn, mark=0.0, differences=True)
    caption = "Fine-tuned − head: average precision of each class, in percentage points"
    if len(known) > len(listed):
        chart += elements.paragraph(f"{len(listed):,} of {len(known):,} classes are shown, the lowest first.", "soft")
    return elements.figure(caption, chart)


def write_calibration(results: MultiResults) -> Markup:
    """Show the reliability before and after the temperatures, what they change, and the threshold of each class."""
    plane = Plane(axes.unit_axis("probability of being present"), axes.unit_axis("share present"), diagonal=True)
    figures = [
        charts.lines(name, reliability(results.measured.curves[kind]), plane)
        for kind, name in (("calibration", "As trained"), ("calibrated", "With the temperatures"))
    ]
    note = (
        "Test, all known pairs together. The dots are bins of pairs, the larger the more they hold. A temperature for "
        "each class divides its logit: fitted on the known pairs of validation alone, it changes no ranking within a "
        "class. All other sections rank by the probabilities as the model gives them; "
    )
    end = Markup("<code>decision.json</code> keeps the temperatures and thresholds for those who use the model.")
    flips = results.parameters["evaluate"]["test_time_flips"]
    if flips:
        end += f" All probabilities in this report are means over a photograph and its mirror images ({flips})."
    return Markup("\n").join(
        [
            elements.legend(),
            elements.grid("two", figures),
            elements.paragraph(Markup("{}{}").format(note, end), "soft"),
            _change(results),
            _thresholds(results),
        ]
    )


def _change(results: MultiResults) -> Markup:
    """Show what the temperatures change in the losses."""
    suffix = "_weighted" if results.weighted else ""
    rows = []
    for model, name in MODELS.items():
        scores = results.measured.metrics["calibration"][model]
        rows.append(elements.row_group(name, 3))
        for key, measure in (("macro_log_loss", "Log loss"), ("macro_ece", "Calibration error")):
            texts = (
                " → ".join(
                    elements.number(scores[when][split][f"{key}{suffix}"]) for when in ("as_trained", "calibrated")
                )
                for split in EVALUATED
            )
            rows.append(elements.row(measure, [elements.cell(text) for text in texts]))
    table = elements.table("wide", [elements.header("", ["Validation", "Test"])], rows)
    by_weight = ", by the weight of the labels" if results.weighted else ""
    return elements.figure(f"Before the temperatures → with them: mean over the classes{by_weight}", table)


def _thresholds(results: MultiResults) -> Markup:
    """List the temperature and the threshold of each class, with what the threshold reaches."""
    splits = results.measured.thresholds[results.saved]
    temperatures = results.measured.temperatures[results.saved]
    rows = []
    for number, name in enumerate(results.classes[:MAX_CLASSES_LISTED]):
        chosen, test = splits["validation"][number], splits["test"][number]
        cells = [
            f"{temperatures[number]:.2f}",
            elements.probability(chosen.value) + ("" if chosen.reached else " *"),
            *(elements.percent(value) for value in (chosen.precision, chosen.recall, test.precision, test.recall)),
        ]
        rows.append(elements.row(elements.isolated(name), [elements.cell(text) for text in cells]))
    names = ["Temperature", "Threshold", "Precision", "Recall", "Precision, test", "Recall, test"]
    table = elements.table("wide", [elements.header("", names)], rows)
    rest = elements.rest(len(results.classes), len(rows), "classes", "metrics.json")
    note = Markup(
        "Of the {}. A class is called present where its probability, with the temperature, lies above the threshold. "
        "Aim on validation: <code>{}</code>. Precision and recall are of validation where test is not named{}."
    ).format(
        results.saved_name,
        results.parameters["evaluate"]["multi_aim"],
        ", by the weight of the labels" if results.weighted else "",
    )
    note += _missed(results.classes, splits, results.measured.untold)
    return elements.figure("The threshold of each class", table + rest + elements.paragraph(note, "soft"))


def _missed(classes: Sequence[str], splits: Mapping[str, Sequence], untold: Sequence[bool]) -> Markup:
    """Say what was taken for the classes whose threshold does not reach the aim; empty if all reach it."""
    text = Markup()
    missed = [not threshold.reached for threshold in splits["validation"]]
    near = [name for name, is_missed, is_untold in zip(classes, missed, untold, strict=True) if is_missed > is_untold]
    if near:
        text += Markup(" * The aim is not reached for {}: the threshold is the nearest to it.").format(name_some(near))
    without = [name for name, is_untold in zip(classes, untold, strict=True) if is_untold]
    if without:
        text += Markup(
            " Of {} validation knows no photograph that shows the class, or none that does not: the temperature is 1, "
            "and the threshold of an aim is 0.5."
        ).format(name_some(without))
    return text


def write_slices(results: MultiResults) -> Markup:
    """List the slices of the test split, those first on which the saved model is worst."""
    note = (
        "The share of the known pairs that are called rightly, by the thresholds. The worst slice first, by the upper "
        f"end of the {results.saved_name}’s interval; the dashed line is its share on the whole test split."
    )
    return list_slices(results, _describe_pairs, note, results.test["micro_accuracy"])


def _describe_pairs(row: Row) -> str:
    return f", {row['known_present']:,} present, {row['known_absent']:,} absent"
