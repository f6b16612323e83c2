"""The sections on how good the models are: the answer in a sentence, the metrics, the classes, the confusions."""

from collections import Counter
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from thaw.report import axes, charts, elements
from thaw.report.charts import IntervalRow, Plane, Point
from thaw.report.elements import MODELS, NARROW_SPACE
from thaw.report.estimate import Estimate
from thaw.report.results import Results

UP, DOWN = "↑", "↓"
MEASURES = {  # key of metrics.json → name, unit, which way is better
    "accuracy": ("Accuracy", "%", UP),
    "balanced_accuracy": ("Balanced accuracy", "%", UP),
    "top_5_accuracy": ("Among the top five", "%", UP),
    "macro_f1": ("Macro F1", "", UP),
    "roc_auc": ("ROC AUC", "", UP),
    "pr_auc": ("PR AUC", "", UP),
    "log_loss": ("Log loss", "", DOWN),
    "brier": ("Brier score", "", DOWN),
    "ece": ("Calibration error", "", DOWN),
}
MAX_CLASSES_IN_TITLE = 4  # the title counts more classes than these
MAX_CLASSES_LISTED = 20
MAX_MATRIX_CLASSES = 12  # a larger confusion matrix cannot be read: its most frequent errors are listed instead
MAX_PAIR_CLASSES = 3  # two confusion matrices of more classes do not fit side by side
MAX_CONFUSIONS_LISTED = 15
MAX_P = 0.05  # of McNemar's test, for a difference that the report calls certain


def title(results: Results) -> str:
    if len(results.classes) <= MAX_CLASSES_IN_TITLE:
        return f"{elements.enumeration(results.classes, 'or')}?"
    return f"{len(results.classes):,} classes of {results.source['name']}"


def write_summary(results: Results) -> Markup:
    """Say how good the model is, how surely, and whether fine-tuning helped; below, one chart of it."""
    metrics = results.measured.metrics
    test = metrics["fine_tuned"]["test"]
    if test["accuracy"] is None:
        return elements.paragraph("The test split holds no photograph: nothing was measured.", "lead")
    lead = Markup("Of {} that it was never trained on, the fine-tuned model gets <b>{}</b> right{}.").format(
        elements.plural(sum(results.health.counts["test"]), "photograph"),
        elements.percent(test["accuracy"]),
        _interval(test, "accuracy"),
    )
    if results.weighted:
        lead += f" By the weight of their labels, it is {elements.percent(test['accuracy_weighted'])}."
    baselines = metrics["baselines"]
    scores = [
        ("Majority class", "base", baselines["majority"]),
        ("Nearest neighbours", "base", baselines["neighbours"]),
        *((name, model, metrics[model]) for model, name in MODELS.items()),
    ]
    rows = [IntervalRow(name, "", {css: Estimate.read(splits["test"], "accuracy")}) for name, css, splits in scores]
    details = " ".join(filter(None, [verdict(results), describe_extension(results), describe_threshold(results)]))
    chart = elements.figure("Accuracy on the test split, with its 95 % interval", charts.intervals(rows))
    return Markup("\n").join([elements.paragraph(lead, "lead"), elements.paragraph(details, "second"), chart])


def describe_extension(results: Results) -> str:
    """Say what an extension changed in the answers of the model before; empty for a model that was not extended."""
    if results.extension is None:
        return ""
    test = results.extension["test"]
    sentences = []
    if test["agreement"] is not None:
        sentences.append(
            f"Of {elements.plural(test['without_new'], 'photograph')} that show no new class, it answers "
            f"{elements.percent(test['agreement'])} as before{_interval(test, 'agreement')}."
        )
    if test["accuracy_after"] is not None:
        sentences.append(
            f"Of {test['with_new']:,} that show one, {elements.percent(test['accuracy_after'])} are answered "
            f"right{_interval(test, 'accuracy_after')}; before, it had no name for them."
        )
    return " ".join(sentences)


def describe_threshold(results: Results) -> str:
    """Say how good the answers by the threshold are; empty if the likeliest class is the answer."""
    if not results.measured.thresholds or results.extension:
        return ""
    if results.parameters["evaluate"]["threshold"] == 0.5:
        return ""
    test = results.measured.thresholds["fine_tuned"]["test"]
    weighted = ", by the weight of the labels" if results.weighted else ""
    return (
        f"Figures are of the likeliest class; {results.classes[1]} is called above a threshold of its own, with a "
        f"precision of {elements.percent(test.precision)} and a recall of {elements.percent(test.recall)} on "
        f"test{weighted}."
    )


def verdict(results: Results) -> str:
    """Say whether fine-tuning helped. It is certain if the interval leaves out 0 and McNemar's test agrees."""
    if results.extension:
        return "Nothing was fine-tuned: rows for new classes were fitted beside the old ones."
    comparison = results.measured.comparisons["fine_tuned_against_head"]
    difference = Estimate.read_difference(comparison["differences"]["accuracy"])
    amount = f"{abs(round(100 * difference.value, 1)):.1f} points"
    if not difference.has_interval:
        return f"Whether fine-tuning helped, this split cannot tell: it {_change(difference.value, amount)}."
    interval = elements.signed_interval(difference, elements.points)
    spread = (
        f"95{NARROW_SPACE}% interval of the difference {interval}; "
        f"McNemar’s p {elements.p_value(comparison['mcnemar_p'])}"
    )
    certain = comparison["mcnemar_p"] < MAX_P  # with few photographs, a bootstrap alone is too easily certain
    if difference.low > 0 and certain:
        sentence = f"Fine-tuning helped: {amount} more than the head on frozen features ({spread})."
    elif difference.high < 0 and certain:
        sentence = f"Fine-tuning did harm: {amount} less than the head on frozen features ({spread})."
    else:
        sentence = (
            f"Whether fine-tuning helped is not certain: it {_change(difference.value, amount)}, which may be luck "
            f"({spread})."
        )
    return sentence + _weighted_difference(results)


def _weighted_difference(results: Results) -> str:
    """Say by how much the weighted accuracies differ; empty if all labels weigh the same."""
    differences = results.measured.comparisons["fine_tuned_against_head"]["differences"]
    difference = Estimate.read_difference(differences["accuracy_weighted"])
    if not results.weighted or difference.value is None:
        return ""
    interval = elements.signed_interval(difference, elements.points)
    in_brackets = f" ({interval})" if interval else ""
    return f" By the weight of the labels the difference is {elements.points(difference.value)} points{in_brackets}."


def _change(difference: float, amount: str) -> str:
    if amount.startswith("0.0"):
        return "leaves the head’s accuracy as it is"
    return f"gets {amount} {'more' if difference > 0 else 'less'} right than the head on frozen features"


def _interval(scores: Mapping[str, float | None], key: str) -> str:
    interval = elements.interval(Estimate.read(scores, key), "%")
    return f" (95{NARROW_SPACE}% interval {interval})" if interval else ""


def write_metrics(results: Results) -> Markup:
    note = (
        f"{UP} higher is better, {DOWN} lower is better. With each number stands its 95{NARROW_SPACE}% interval; a "
        "difference is bold where its interval leaves out 0. Choices were made on validation, where both models look "
        "better than they are: believe test."
    )
    tables = [_metrics_table(results, "test"), _metrics_table(results, "validation")]
    return Markup("\n").join([*tables, elements.paragraph(note, "soft")])


def _metrics_table(results: Results, split: str) -> Markup:
    differences = results.measured.comparisons["fine_tuned_against_head"]["differences"] if split == "test" else {}
    columns = [*MODELS.values(), *(["Difference"] if differences else [])]
    scores = [results.measured.metrics[model][split] for model in MODELS]
    rows = []
    for suffix in ("", "_weighted") if results.weighted else ("",):
        if suffix:
            rows.append(elements.row_group("Each photograph by the weight of its label", len(columns) + 1))
        for measure, (name, unit, better) in MEASURES.items():
            key = f"{measure}{suffix}"
            if key not in scores[0]:
                continue
            cells = [_number_cell(Estimate.read(model_scores, key), unit) for model_scores in scores]
            if differences:
                cells.append(_difference_cell(Estimate.read_difference(differences[key]), unit))
            rows.append(elements.row(f"{name} {better}", cells))
    table = elements.table("wide aligned", [elements.header("", columns)], rows)
    return elements.figure(split.capitalize(), table)


def _number_cell(estimate: Estimate, unit: str) -> Markup:
    return elements.cell(elements.value(estimate.value, unit), elements.interval(estimate, unit))


def _difference_cell(difference: Estimate, unit: str) -> Markup:
    text_of = elements.points if unit else elements.signed
    leaves_out_0 = difference.has_interval and (difference.low > 0 or difference.high < 0)
    return elements.cell(text_of(difference.value), elements.signed_interval(difference, text_of), bold=leaves_out_0)


def write_classes(results: Results) -> Markup:
    """List precision, recall and F1 of each class on test; if there are many classes, the worst of them."""
    rows = {model: {str(row["class"]): row for row in rows} for model, rows in results.measured.per_class.items()}
    names = list(rows["fine_tuned"])
    if len(names) > MAX_CLASSES_LISTED:

        def worst_first(name: str) -> tuple:
            f1 = rows["fine_tuned"][name]["f1"]
            return (f1 is None, f1 or 0.0)

        names = sorted(names, key=worst_first)[:MAX_CLASSES_LISTED]
    body = []
    for name in names:
        support = rows["fine_tuned"][name]["support"]
        body.append(elements.row_group(f"{name}, {elements.plural(support, 'photograph')}", 4))
        for model, model_name in MODELS.items():
            units = {"precision": "%", "recall": "%", "f1": ""}
            cells = [_number_cell(Estimate.read(rows[model][name], key), unit) for key, unit in units.items()]
            body.append(elements.row(model_name, cells))
    table = elements.table("wide aligned", [elements.header("", ["Precision", "Recall", "F1"])], body)
    rest = elements.rest(
        len(results.classes), len(names), "classes, those of the lowest F1,", "per_class_fine_tuned.csv"
    )
    return Markup("\n").join([table, rest, _confusions(results)])


def _confusions(results: Results) -> Markup:
    """Show which class is taken for which: as a matrix, or, with many classes, as a list of the frequent errors."""
    is_matrix = len(results.classes) <= MAX_MATRIX_CLASSES
    draw = _confusion_matrix if is_matrix else _confusion_list
    note = f"The {MAX_CONFUSIONS_LISTED} most frequent errors."
    if is_matrix:
        note = "How many images of each class were taken for which, and their share of the class."
    figures = []
    for model, name in MODELS.items():
        pairs = Counter((row["actual"], row["predicted"]) for row in results.measured.curves["confusion"][model])
        figures.append(elements.figure(f"{name}: what was taken for what", draw(pairs, results.classes)))
    columns = "one" if is_matrix and len(results.classes) > MAX_PAIR_CLASSES else "two"
    return Markup("\n").join([elements.grid(columns, figures), elements.paragraph(note, "soft")])


def _confusion_matrix(counts: Counter[tuple[str, str]], classes: Sequence[str]) -> Markup:
    rows = []
    for actual in classes:
        total = sum(counts[actual, predicted] for predicted in classes)
        cells = [
            elements.shaded_cell(
                counts[actual, predicted],
                counts[actual, predicted] / total if total else None,
                "right" if actual == predicted else "wrong",
            )
            for predicted in classes
        ]
        rows.append(elements.row(actual, cells))
    names = Markup().join(Markup('<th scope="col">{}</th>').format(name) for name in classes)
    header = Markup("<tr><th>actual ↓ predicted →</th>{}</tr>").format(names)
    return elements.table("matrix tall" if len(classes) > MAX_PAIR_CLASSES else "matrix", [header], rows)


def _confusion_list(counts: Counter[tuple[str, str]], classes: Sequence[str]) -> Markup:
    order = {name: i for i, name in enumerate(classes)}
    errors = sorted((-n, order[a], order[p], a, p) for (a, p), n in counts.items() if a != p)
    row = Markup('<tr><td class="text">{}</td><td class="text">{}</td><td>{:,}</td></tr>')
    rows = [row.format(actual, predicted, -n) for n, _, _, actual, predicted in errors[:MAX_CONFUSIONS_LISTED]]
    header = Markup(
        '<tr><th scope="col">Actual</th><th scope="col">Predicted</th><th class="number" scope="col">Images</th></tr>'
    )
    return elements.table("wide", [header], rows)


def write_curves(results: Results) -> Markup:
    note = "Both curves ask each image once for each class (micro average)."
    if len(results.classes) == 2:
        note = f"The positive class is {results.classes[1]}."
    roc = _series(results.measured.curves["roc"], "false_positive_rate", "true_positive_rate")
    precision_recall = _series(results.measured.curves["precision_recall"], "recall", "precision")
    rates = Plane(axes.unit_axis("false positive rate"), axes.unit_axis("true positive rate"), diagonal=True)
    figures = [
        charts.lines("ROC", roc, rates),
        charts.lines(
            "Precision and recall",
            precision_recall,
            Plane(axes.unit_axis("recall"), axes.unit_axis("precision")),
        ),
    ]
    return Markup("\n").join(
        [elements.legend(), elements.grid("two", figures), elements.paragraph(f"Test split. {note}", "soft")]
    )


def _series(curves: Mapping[str, Sequence[Mapping]], x: str, y: str) -> dict[str, list[Point]]:
    return {model: [Point(row[x], row[y]) for row in rows] for model, rows in curves.items()}
