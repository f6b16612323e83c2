"""The sections on how good models of several labels are: the result in a sentence, the metrics, the classes, curves."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from thaw.core.words import plural
from thaw.evaluation.multi_label.metrics import BY_CHANCE, MAIN
from thaw.evaluation.scored import Row
from thaw.report import axes, charts, elements
from thaw.report.charts import IntervalRow, Plane, Point
from thaw.report.elements import MODELS, NARROW_SPACE
from thaw.report.estimate import Estimate
from thaw.report.multi_label.results import MultiResults
from thaw.report.quality import DOWN, UP, difference_cell, interval_text, number_cell

MEANS = {  # key of metrics.json → name, unit, which way is better
    MAIN: ("Average precision", "%", UP),
    "macro_roc_auc": ("ROC AUC", "", UP),
    "macro_f1": ("F1", "", UP),
    "macro_log_loss": ("Log loss", "", DOWN),
    "macro_brier": ("Brier score", "", DOWN),
    "macro_ece": ("Calibration error", "", DOWN),
}
POOLED = {
    "micro_average_precision": ("Average precision", "%", UP),
    "micro_roc_auc": ("ROC AUC", "", UP),
    "micro_accuracy": ("Pairs called rightly", "%", UP),
    "micro_f1": ("F1", "", UP),
    "micro_precision": ("Precision", "%", UP),
    "micro_recall": ("Recall", "%", UP),
    "micro_log_loss": ("Log loss", "", DOWN),
    "micro_brier": ("Brier score", "", DOWN),
    "micro_ece": ("Calibration error", "", DOWN),
}
CLASS_MEASURES = {"average_precision": "%", "recall": "%", "precision": "%", "f1": ""}  # columns → unit
MAX_CLASSES_IN_TITLE = 4  # the title counts more classes than these
MAX_CLASSES_LISTED = 20
MAX_CLASSES_FOLDED = 1000  # in the table of all classes that can be unfolded
MAX_CURVES = 6  # of the worst classes
MAX_MATRIX_CLASSES = 12  # a larger table of classes that occur together cannot be read
MAX_PAIRS_LISTED = 15
MAX_NAMES = 10  # of classes in a sentence


def title(results: MultiResults) -> Markup:
    if len(results.classes) == 1:
        return Markup("{}, present or not?").format(elements.isolated(results.classes[0]))
    if len(results.classes) <= MAX_CLASSES_IN_TITLE:
        return Markup("Which of {}?").format(elements.enumeration([*map(elements.isolated, results.classes)], "and"))
    return Markup("Which of {:,} classes of {}?").format(
        len(results.classes), elements.isolated(results.source["name"])
    )


def write_summary(results: MultiResults) -> Markup:
    """Say how good the model is, how surely, on how many known pairs, and whether fine-tuning helped; then a chart."""
    test, metrics = results.test, results.measured.metrics
    if test[MAIN] is None:
        reason = (
            "Of no class does test know both a photograph that shows it and one that does not: nothing was measured."
        )
        return elements.paragraph(reason, "lead")
    lead = Markup("On {} that it was never trained on, the {} has a mean average precision of <b>{}</b>{}.").format(
        plural(test["photographs"], "photograph"),
        results.saved_name,
        elements.percent(test[MAIN]),
        interval_text(test, MAIN),
    )
    if results.weighted:
        weighted = f"{MAIN}_weighted"
        lead += (
            f" By the weight of the labels, it is {elements.percent(test[weighted])}{interval_text(test, weighted)}."
        )
    scores = [
        ("Frequency of the class", "base", metrics["baselines"]["majority"]),
        ("Nearest neighbours", "base", metrics["baselines"]["neighbours"]),
        *((name, model, metrics[model]) for model, name in MODELS.items()),
    ]
    rows = [IntervalRow(name, "", {css: Estimate.read(splits["test"], MAIN)}) for name, css, splits in scores]
    chart = elements.figure("Mean average precision on test, with its 95 % interval", charts.intervals(rows))
    texts = [describe_weakest(results), describe_pairs(results), verdict(results), describe_aim(results)]
    paragraphs = [elements.paragraph(text, "second") for text in texts if text]
    return Markup("\n").join([elements.paragraph(lead, "lead"), *paragraphs, chart])


def describe_weakest(results: MultiResults) -> Markup:
    """Say which class the saved model ranks worst, and what to look at next."""
    row = worst_classes(results)[0]
    text = Markup(
        "The weakest class is <b>{}</b>: its average precision is {}{}, on {:,} photographs that show it and {:,} that "
        "do not."
    ).format(
        elements.isolated(row["class"]),
        elements.percent(row["average_precision"]),
        interval_text(row, "average_precision"),
        row["known_present"],
        row["known_absent"],
    )
    links = [("classes", "each class")]
    if results.parameters["evaluate"]["shown"]:
        links += [("mistakes", "the surest mistakes"), ("present", "the likeliest wrong labels")]
    link = Markup('<a href="#{}">{}</a>')
    return Markup("{} Look at {}.").format(text, elements.enumeration([link.format(*to) for to in links], "and"))


def describe_pairs(results: MultiResults) -> Markup:
    """Say on how many known pairs of test the figures rest, and which classes are not measured."""
    test = results.test
    known = test["known_present"] + test["known_absent"]
    unknown = test["photographs"] * len(results.classes) - known
    text = Markup(
        "The figures rest on {:,} known pairs of a test photograph and a class: in {:,} the class is present, in {:,} "
        "it is verified to be absent."
    ).format(known, test["known_present"], test["known_absent"])
    if unknown:
        text += f" Of {unknown:,} other pairs nothing is known; they count nowhere."
    text += f" On so many, a ranking by chance has a mean average precision of {elements.percent(test[BY_CHANCE])}."
    unmeasured = [row["class"] for row in results.measured.per_class[results.saved] if row["average_precision"] is None]
    if unmeasured:
        text += Markup(
            " {} not in the mean: test knows no photograph that shows the class, or none without it."
        ).format(name_some(unmeasured) + (" is" if len(unmeasured) == 1 else " are"))
    return text


def name_some(names: Sequence[str]) -> Markup:
    """Return names of classes in a sentence, at most MAX_NAMES of them."""
    shown = [elements.isolated(name) for name in names[:MAX_NAMES]]
    if len(names) > MAX_NAMES:
        shown.append(Markup("{:,} more").format(len(names) - MAX_NAMES))
    return elements.enumeration(shown, "and")


def describe_aim(results: MultiResults) -> Markup:
    """Say which classes have no threshold that reaches the aim; empty if all have one."""
    chosen = results.measured.thresholds[results.saved]["validation"]
    missed = [name for name, threshold in zip(results.classes, chosen, strict=True) if not threshold.reached]
    if not missed:
        return Markup()
    return Markup(
        'On validation, no threshold of {} reaches the aim <code>{}</code>: the <a href="#calibration">nearest</a> is '
        "taken."
    ).format(name_some(missed), results.parameters["evaluate"]["multi_aim"])


def verdict(results: MultiResults) -> str:
    """Say whether fine-tuning helped. It is certain if the interval of the difference leaves out 0."""
    differences = results.measured.comparisons["fine_tuned_against_head"]["differences"]
    difference = Estimate.read_difference(differences[MAIN])
    if difference.value is None:
        return ""
    amount = f"{abs(round(100 * difference.value, 1)):.1f} points"
    change = f"it ranks {amount} {'better' if difference.value > 0 else 'worse'} than the head on frozen features"
    if amount.startswith("0.0"):
        change = "it leaves the head’s mean average precision as it is"
    if not difference.has_interval:
        return f"Whether fine-tuning helped, this split cannot tell: {change}."
    spread = f"95{NARROW_SPACE}% interval of the difference {elements.signed_interval(difference, elements.points)}"
    more_or_less = "of mean average precision {} than the head on frozen features"
    if difference.low > 0:
        return f"Fine-tuning helped: {amount} {more_or_less.format('more')} ({spread})."
    if difference.high < 0:
        return f"Fine-tuning did harm: {amount} {more_or_less.format('less')} ({spread})."
    return f"Whether fine-tuning helped is not certain: {change}, which may be luck ({spread})."


def worst_classes(results: MultiResults) -> list[Row]:
    """Return the rows of the classes that test measures, the worst first: by the upper end of the average precision.

    Little is certain of a class with few known pairs; so it stands behind one that is known to be bad.
    """
    rows = [row for row in results.measured.per_class[results.saved] if row["average_precision"] is not None]
    return sorted(rows, key=_upper_end)


def _upper_end(row: Row) -> tuple[float, float]:
    high = row["average_precision_high"]
    return row["average_precision"] if high is None else high, row["average_precision"]


def write_metrics(results: MultiResults) -> Markup:
    note = (
        f"{UP} higher is better, {DOWN} lower is better. With each number stands its 95{NARROW_SPACE}% interval; a "
        "difference is bold where its interval leaves out 0. Average precision is the mean precision among the "
        "photographs that are ranked at least as high as each one that shows the class. F1, precision and recall are "
        "at the thresholds. Choices were made on validation, where both models look better than they are: believe test."
    )
    tables = [_metrics_table(results, split) for split in ("test", "validation")]
    return Markup("\n").join([*tables, elements.paragraph(note, "soft")])


def _metrics_table(results: MultiResults, split: str) -> Markup:
    differences = results.measured.comparisons["fine_tuned_against_head"]["differences"] if split == "test" else {}
    columns = [*MODELS.values(), *(["Difference"] if differences else [])]
    scores = [results.measured.metrics[model][split] for model in MODELS]
    rows = []
    for suffix, by_weight in (("", ""), ("_weighted", ", by weight")) if results.weighted else (("", ""),):
        for heading, measures in (("Mean over the classes", MEANS), ("All pairs together", POOLED)):
            rows.append(elements.row_group(heading + by_weight, len(columns) + 1))
            for measure, (name, unit, better) in measures.items():
                key = f"{measure}{suffix}"
                cells = [number_cell(Estimate.read(model_scores, key), unit) for model_scores in scores]
                if differences:
                    cells.append(difference_cell(Estimate.read_difference(differences[key]), unit))
                rows.append(elements.row(f"{name} {better}", cells))
    table = elements.table("wide aligned", [elements.header("", columns)], rows)
    counts = scores[0]
    caption = (
        f"{split.capitalize()}: {plural(counts['photographs'], 'photograph')}, {counts['known_present']:,} "
        f"pairs present and {counts['known_absent']:,} absent, {counts['classes_measured']:,} of "
        f"{len(results.classes):,} classes measured"
    )
    return elements.figure(caption, table)


def write_classes(results: MultiResults) -> Markup:
    """List the classes, the worst first, and show which of them occur together."""
    worst = worst_classes(results)
    if not worst:
        return elements.paragraph("Test measures no class.", "soft")
    listed = worst[:MAX_CLASSES_LISTED]
    beside = {row["class"]: row for row in results.measured.per_class[results.other]}
    body = [_class_row(row, elements.percent(beside[row["class"]]["average_precision"])) for row in listed]
    columns = ["AP", "Recall", "Precision", "F1", f"AP, {MODELS[results.other].lower()}"]
    note = (
        f"The {results.saved_name}, the worst class first, by the upper end of the interval of its average precision "
        "(AP): little is certain of a class of few known pairs. Recall is the share of the photographs that show the "
        "class in which it is called, precision the share of right calls where the truth is known."
    )
    unmeasured = len(results.classes) - len(worst)
    if unmeasured:
        which = "class that test does not measure is" if unmeasured == 1 else "classes that test does not measure are"
        note += f" {unmeasured:,} {which} left out."
    parts = [elements.table("wide named", [elements.header("", columns)], body), elements.paragraph(note, "soft")]
    if len(worst) > MAX_CLASSES_LISTED:
        parts.append(_all_classes(results))
    return Markup("\n").join([*parts, _together(results)])


def _class_row(row: Row, beside: str) -> Markup:
    name = Markup("{}<small>{:,} present, {:,} absent</small>").format(
        elements.isolated(row["class"]), row["known_present"], row["known_absent"]
    )
    cells = [number_cell(Estimate.read(row, key), unit) for key, unit in CLASS_MEASURES.items()]
    return elements.row(name, [*cells, elements.cell(beside)])


def _all_classes(results: MultiResults) -> Markup:
    """Fold out all classes, in their order, so that one can be looked up by its name."""
    rows = results.measured.per_class[results.saved][:MAX_CLASSES_FOLDED]
    body = []
    for row in rows:
        numbers = [elements.value(row[key], unit) for key, unit in CLASS_MEASURES.items()]
        counts = [f"{row['known_present']:,}", f"{row['known_absent']:,}"]
        body.append(elements.row(elements.isolated(row["class"]), [elements.cell(text) for text in counts + numbers]))
    columns = ["Present", "Absent", "Average precision", "Recall", "Precision", "F1"]
    rest = elements.rest(len(results.classes), len(rows), "classes", f"per_class_{results.saved}.csv")
    heading = f"All {len(rows):,} classes" if not rest else f"The first {len(rows):,} classes"
    return elements.details(
        f"{heading}, in their order", elements.table("wide", [elements.header("", columns)], body) + rest
    )


def _together(results: MultiResults) -> Markup:
    """Show how often the photographs of one class show another, where both are known."""
    rows = results.measured.together
    numbers = ", ".join(
        f"{images:,} show {'none' if count == 0 else f'{count:,}'}"
        for count, images in results.measured.labels_per_image
    )
    note = f"Of all photographs, as far as it is known, {numbers} of the classes."
    if len(results.classes) < 2 or not rows:
        return elements.figure("Classes that occur together", elements.paragraph(note, "soft"))
    is_matrix = len(results.classes) <= MAX_MATRIX_CLASSES
    content = _together_matrix(results.classes, rows) if is_matrix else _together_list(rows)
    note += " Below, only those photographs count of which both classes are known."
    if is_matrix:
        note += " A cell is the share of those with the class of the row that show the class of the column too; "
        note += f"{elements.UNDEFINED} means that there is none."
    return elements.figure("Classes that occur together", elements.paragraph(note, "soft") + content)


def _together_matrix(classes: Sequence[str], rows: Sequence[Row]) -> Markup:
    by_pair = {(row["class"], row["other"]): row for row in rows}
    body = []
    for name in classes:
        cells = []
        for other in classes:
            row = by_pair.get((name, other))
            if row is None:
                cells.append(Markup('<td class="none">{}</td>').format("" if name == other else elements.UNDEFINED))
                continue
            counts = f"{row['together']:,} of {row['known']:,}"
            cells.append(elements.shaded_cell(elements.percent(row["share"], 0), counts, row["share"], ""))
        body.append(elements.row(elements.isolated(name), cells))
    column = Markup('<th scope="col"><span>{}</span></th>')
    names = Markup().join(column.format(elements.isolated(name)) for name in classes)
    header = Markup("<tr><th>shows ↓ also →</th>{}</tr>").format(names)
    return elements.table("matrix tall", [header], body)


def _together_list(rows: Sequence[Row]) -> Markup:
    """List the pairs of classes that most photographs show together."""
    listed = sorted(rows, key=lambda row: (-row["together"], -row["share"], row["class"], row["other"]))
    listed = [row for row in listed if row["together"]][:MAX_PAIRS_LISTED]
    if not listed:
        return elements.paragraph("No photograph is known to show two of the classes.", "soft")
    body = []
    for row in listed:
        name = Markup("{} with {}").format(elements.isolated(row["class"]), elements.isolated(row["other"]))
        cells = (
            f"{row['together']:,} of {row['known']:,}",
            *(elements.percent(row[k], 0) for k in ("share", "other_share")),
        )
        body.append(elements.row(name, [elements.cell(text) for text in cells]))
    table = elements.table("wide", [elements.header("", ["Photographs", "Share", "Share of all"])], body)
    total = sum(row["together"] > 0 for row in rows)
    if total == len(listed):
        return table
    return table + elements.paragraph(f"{len(listed):,} of {total:,} pairs are shown, the most frequent.", "soft")


def write_curves(results: MultiResults) -> Markup:
    """Show precision against recall, of all pairs and of the worst classes."""
    plane = Plane(axes.unit_axis("recall"), axes.unit_axis("precision"))
    pooled = {model: _points(rows) for model, rows in results.measured.curves["precision_recall"].items()}
    figures = [charts.lines("All pairs together", pooled, plane)]
    worst = worst_classes(results)
    for row in worst[:MAX_CURVES]:
        series = {model: _points(curves[row["class"]]) for model, curves in results.measured.class_curves.items()}
        caption = Markup("{}: {:,} present, {:,} absent").format(
            elements.isolated(row["class"]), row["known_present"], row["known_absent"]
        )
        figures.append(charts.lines(caption, series, plane))
    note = "Test: precision against recall for all thresholds."
    if len(worst) > MAX_CURVES:
        note += f" Of {len(worst):,} classes the {MAX_CURVES} worst are shown."
    return Markup("\n").join([elements.legend(), elements.grid("two", figures), elements.paragraph(note, "soft")])


def _points(rows: Sequence[Mapping[str, float]]) -> list[Point]:
    return [Point(row["recall"], row["precision"]) for row in rows]
