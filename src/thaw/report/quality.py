"""The sections on how good the models are: the result in a sentence, the metrics, the classes, the confusions."""

from collections import Counter
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from thaw.core.metrics_file import FINE_TUNED
from thaw.core.words import plural
from thaw.evaluation.scored import Row
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
MAX_CLASSES_FOLDED = 1000  # in the table of all classes that can be unfolded: some 200 bytes a row
MAX_MATRIX_CLASSES = 12  # a larger confusion matrix cannot be read: its most frequent errors are listed instead
MAX_PAIR_CLASSES = 3  # of more classes, both models fit neither in one table nor in two matrices side by side
MIN_DARKEST = 0.2  # share of a class; where all confusions are rarer, none has the full colour
MAX_CONFUSIONS_LISTED = 15
MAX_P = 0.05  # of McNemar's test, for a difference that the report calls certain


def title(results: Results) -> Markup:
    if len(results.classes) <= MAX_CLASSES_IN_TITLE:
        return Markup("{}?").format(elements.enumeration([*map(elements.isolated, results.classes)], "or"))
    return Markup("{:,} classes of {}").format(len(results.classes), elements.isolated(results.source["name"]))


def write_summary(results: Results) -> Markup:
    """Say how good the model is, how surely, and whether fine-tuning helped; below, one chart of it."""
    metrics = results.measured.metrics
    test = metrics[results.saved]["test"]
    if test["accuracy"] is None:
        return elements.paragraph("The test split holds no photograph: nothing was measured.", "lead")
    unseen = (
        "that it was never trained on, the"
        if results.folds is None
        else "each predicted by a model that had not seen it, the"
    )
    lead = Markup("Of {} {} {} gets <b>{}</b> right{}.").format(
        plural(results.health.tested, "photograph") + "," * (results.folds is not None),
        unseen,
        results.saved_name,
        elements.percent(test["accuracy"]),
        interval_text(test, "accuracy"),
    )
    if results.weighted:
        weighted = elements.percent(test["accuracy_weighted"])
        lead += f" By the weight of their labels, it is {weighted}{interval_text(test, 'accuracy_weighted')}."
    baselines = metrics["baselines"]
    scores = [
        ("Majority class", "base", baselines["majority"]),
        ("Nearest neighbours", "base", baselines["neighbours"]),
        *((name, model, metrics[model]) for model, name in MODELS.items()),
    ]
    rows = [IntervalRow(name, "", {css: Estimate.read(splits["test"], "accuracy")}) for name, css, splits in scores]
    positive = elements.isolated(results.classes[1])
    sentences = (
        *(describe_folds(results) or verdict(results), describe_extension(results)),
        describe_threshold(results, positive),
    )
    details = Markup(" ").join(filter(None, sentences))
    chart = elements.figure(f"Accuracy on {results.tested_on}, with its 95 % interval", charts.intervals(rows))
    paragraphs = [elements.paragraph(text, "second") for text in (describe_weakest(results), details)]
    return Markup("\n").join([elements.paragraph(lead, "lead"), *paragraphs, chart])


def describe_weakest(results: Results) -> Markup:
    """Say which class the saved model recognises worst, what it is taken for, and what to look at next."""
    row = worst_classes(results)[0]
    if row["recall"] == 1:
        text = "Of no class was a test photograph missed."
    else:
        found = f"{row['support'] - sum(_taken_for(results)[row['class']].values()):,} of {row['support']:,}"
        name, times = _taken_for(results)[row["class"]].most_common(1)[0]
        text = Markup("The weakest class is <b>{}</b>: {} are found, {}{}, and {} {} taken for {}.").format(
            *(elements.isolated(row["class"]), found, elements.percent(row["recall"]), interval_text(row, "recall")),
            *(f"{times:,}", "is" if times == 1 else "are", elements.isolated(name)),
        )
    links = [("classes", "what is taken for what")]
    if results.parameters["evaluate"]["shown"]:
        links += [("mistakes", "the surest mistakes"), ("labels", "the likeliest wrong labels")]
    if results.health.groups or results.duplicates.left_out:
        links.append(("duplicates", "the near-duplicates"))
    link = Markup('<a href="#{}">{}</a>')
    *first, last = (link.format(*target) for target in links)
    looked_at = Markup(" and ").join([Markup(", ").join(first), last]) if first else last
    return Markup("{} Look at {}.").format(text, looked_at)


def worst_classes(results: Results) -> list[Row]:
    """Return the rows of the classes that test shows, the worst first: by the upper end of the recall's interval.

    Little is certain of a class with few photographs; so it stands behind one that is known to be bad.
    """
    rows = [row for row in results.measured.per_class[results.saved] if row["support"]]
    return sorted(rows, key=lambda row: (row["recall_high"], row["f1"]))


def _taken_for(results: Results) -> dict[str, Counter[str]]:
    """Return class → the wrong classes that the saved model takes its photographs for, with their counts."""
    taken = {name: Counter() for name in results.classes}
    for row in results.measured.curves["confusion"][results.saved]:
        if row["actual"] != row["predicted"]:
            taken[row["actual"]][row["predicted"]] += 1
    return taken


def describe_folds(results: Results) -> str:
    """Say how the figures came about with folds, and what the saved model is; empty for one split."""
    if results.folds is None:
        return ""
    text = (
        f"The photographs were divided into {results.folds['count']} folds, groups whole. Each was predicted by models "
        "that were trained on other folds, where their strength, epoch, temperature and threshold were chosen, too. "
        "Which model is saved was chosen once, with the labels of all folds. So were the preset of augmentation and "
        "how photographs are made square, where these are auto. The model that is saved was trained on all "
        f"{results.health.trained:,} photographs. It can be expected to be at least as good; it is not measured itself."
    )
    text += f" {_why_saved(results)}"
    if "repeats" in results.folds:
        spread = results.folds["repeats"][results.saved]
        text += (
            f" Over {len(spread['accuracy_weighted'])} draws of the folds, the weighted accuracy is "
            f"{elements.percent(min(spread['accuracy_weighted']))} to "
            f"{elements.percent(max(spread['accuracy_weighted']))}."
        )
    return text


def _why_saved(results: Results) -> str:
    """Say which model folds have saved, and why."""
    folds, head = results.folds, "the head on the network as it came"
    if results.extension:
        return "It is the head that was extended."
    name = "the fine-tuned one" if results.saved == FINE_TUNED else head
    if folds["asked_for"]:
        return f"It is {name}, as fine_tune.keep asks."
    error = "unknown" if folds["standard_error"] is None else elements.number(folds["standard_error"])
    return (
        f"It is {name}: with the temperatures of the folds, fine-tuning changed the loss by "
        f"{elements.signed(folds['loss_change'])} (standard error {error}). The fine-tuned one is saved only if this "
        "loss falls by more than two standard errors, the accuracy does not fall, and most folds keep an epoch of "
        "fine-tuning."
    )


def describe_extension(results: Results) -> str:
    """Say what an extension changed in the predictions of the model before; empty for a model that was not extended."""
    if results.extension is None:
        return ""
    test = results.extension["test"]
    sentences = []
    if test["agreement"] is not None:
        sentences.append(
            f"Of {plural(test['without_new'], 'photograph')} that show no new class, it predicts "
            f"{elements.percent(test['agreement'])} as before{interval_text(test, 'agreement')}."
        )
    if test["accuracy_after"] is not None:
        sentences.append(
            f"Of {test['with_new']:,} that show one, {elements.percent(test['accuracy_after'])} are predicted "
            f"right{interval_text(test, 'accuracy_after')}; before, it had no name for them."
        )
    return " ".join(sentences)


def describe_threshold(results: Results, positive: Markup) -> Markup:
    """Say how good the predictions by the threshold are; empty if the likeliest class is predicted.

    `positive` is the name of the positive class, as the text around it has names.
    """
    if not results.measured.thresholds or results.extension:
        return Markup()
    if results.parameters["evaluate"]["threshold"] == 0.5:
        return Markup()
    test = results.measured.thresholds[results.saved]["test"]
    weighted = ", by the weight of the labels" if results.weighted else ""
    return Markup(
        "Figures are of the likeliest class; {} is called above a threshold of its own, with a precision of {} and a "
        "recall of {} on test{}."
    ).format(positive, elements.percent(test.precision), elements.percent(test.recall), weighted)


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


def interval_text(scores: Mapping[str, float | None], key: str) -> str:
    """Return ` (95 % interval 86.1–90.9)` of a share; an empty text if there is no interval."""
    interval = elements.interval(Estimate.read(scores, key), "%")
    return f" (95{NARROW_SPACE}% interval {interval})" if interval else ""


def write_metrics(results: Results) -> Markup:
    note = (
        f"{UP} higher is better, {DOWN} lower is better. With each number stands its 95{NARROW_SPACE}% interval; a "
        "difference is bold where its interval leaves out 0. Choices were made on validation, so its numbers can be "
        "too good: believe test."
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
            cells = [number_cell(Estimate.read(model_scores, key), unit) for model_scores in scores]
            if differences:
                cells.append(difference_cell(Estimate.read_difference(differences[key]), unit))
            rows.append(elements.row(f"{name} {better}", cells))
    table = elements.table("wide aligned", [elements.header("", columns)], rows)
    return elements.figure(split.capitalize(), table)


def number_cell(estimate: Estimate, unit: str) -> Markup:
    return elements.cell(elements.value(estimate.value, unit), elements.interval(estimate, unit))


def difference_cell(difference: Estimate, unit: str) -> Markup:
    text_of = elements.points if unit else elements.signed
    leaves_out_0 = difference.has_interval and (difference.low > 0 or difference.high < 0)
    return elements.cell(text_of(difference.value), elements.signed_interval(difference, text_of), bold=leaves_out_0)


def write_classes(results: Results) -> Markup:
    """List precision, recall and F1 of each class on test, the worst first, and show what is taken for what."""
    worst = worst_classes(results)
    if not worst:
        return elements.paragraph("The test split holds no photograph.", "soft")
    is_few = len(results.classes) <= MAX_PAIR_CLASSES
    table = _both_models_table(results, worst) if is_few else _worst_classes_table(results, worst[:MAX_CLASSES_LISTED])
    note = (
        f"The worst first, by the upper end of the interval of the {results.saved_name}’s recall: little is certain of "
        "a "
        "class of few photographs. Recall is the share of its photographs that are found, precision the share of right "
        "ones among those that are taken for it."
    )
    if not is_few:
        note += f" {MODELS[results.other]}: its recall."
    empty = len(results.classes) - len(worst)
    if empty:
        note += f" {empty:,} classes without a test photograph are left out."
    parts = [table, elements.paragraph(note, "soft")]
    if len(worst) > MAX_CLASSES_LISTED:
        parts.append(_all_classes(results))
    is_matrix = len(results.classes) <= MAX_MATRIX_CLASSES
    return Markup("\n").join([*parts, _confusion_matrices(results) if is_matrix else _confusion_list(results)])


def _both_models_table(results: Results, worst: Sequence[Row]) -> Markup:
    rows = {model: {row["class"]: row for row in rows} for model, rows in results.measured.per_class.items()}
    body = []
    for name, support in ((row["class"], row["support"]) for row in worst):
        photographs = plural(support, "photograph")
        body.append(elements.row_group(Markup("{}, {}").format(elements.isolated(name), photographs), 4))
        body += [elements.row(title, _class_cells(rows[model][name])) for model, title in MODELS.items()]
    return elements.table("wide aligned", [elements.header("", ["Recall", "Precision", "F1"])], body)


def _worst_classes_table(results: Results, worst: Sequence[Row]) -> Markup:
    beside = {row["class"]: row for row in results.measured.per_class[results.other]}
    taken, body = _taken_for(results), []
    for row in worst:
        notes = [plural(row["support"], "photograph")]
        for other, times in taken[row["class"]].most_common(1):
            notes.append(Markup("{:,} taken for {}").format(times, elements.isolated(other)))
        name = Markup("{}<small>{}</small>").format(elements.isolated(row["class"]), Markup("; ").join(notes))
        recall_of_other = elements.cell(elements.percent(beside[row["class"]]["recall"]))
        body.append(elements.row(name, [*_class_cells(row), recall_of_other]))
    columns = ["Recall", "Precision", "F1", MODELS[results.other]]
    return elements.table("wide named", [elements.header("", columns)], body)


def _class_cells(row: Row) -> list[Markup]:
    units = {"recall": "%", "precision": "%", "f1": ""}
    return [number_cell(Estimate.read(row, key), unit) for key, unit in units.items()]


def _all_classes(results: Results) -> Markup:
    """Fold out all classes, in their order, so that one can be looked up by its name."""
    rows = results.measured.per_class[results.saved][:MAX_CLASSES_FOLDED]
    body = [
        elements.row(
            elements.isolated(row["class"]),
            [
                elements.cell(text)
                for text in (
                    f"{row['support']:,}",
                    elements.percent(row["recall"]),
                    elements.percent(row["precision"]),
                    elements.number(row["f1"]),
                )
            ],
        )
        for row in rows
    ]
    table = elements.table("wide", [elements.header("", ["Photographs", "Recall", "Precision", "F1"])], body)
    rest = elements.rest(len(results.classes), len(rows), "classes", f"per_class_{results.saved}.csv")
    title = f"All {len(rows):,} classes" if not rest else f"The first {len(rows):,} classes"
    return elements.details(f"{title}, in their order", table + rest)


def _confusion_matrices(results: Results) -> Markup:
    """Show the confusion matrix of both models; if they do not fit side by side, fold that of the head away."""
    counts = {
        model: Counter((row["actual"], row["predicted"]) for row in rows)
        for model, rows in results.measured.curves["confusion"].items()
    }
    order = order_by_confusion(counts["head"] + counts["fine_tuned"], results.classes)
    matrices = {model: _confusion_matrix(pairs, order) for model, pairs in counts.items()}
    captions = {model: f"{name}: what was taken for what" for model, name in MODELS.items()}
    if len(results.classes) <= MAX_PAIR_CLASSES:
        figures = elements.grid("two", [elements.figure(captions[model], matrices[model]) for model in MODELS])
    else:
        figures = elements.figure(captions[results.saved], matrices[results.saved])
        figures += elements.details(captions[results.other], matrices[results.other])
    note = "Photographs of each class that were taken for each, and their share of the class; the redder, the larger."
    if len(results.classes) > 2:
        note += " Classes that are confused stand together."
    return figures + elements.paragraph(note, "soft")


def order_by_confusion(counts: Counter[tuple[str, str]], classes: Sequence[str]) -> list[str]:
    """Return the classes in an order in which those that are confused stand together.

    It begins with the pair that is confused most. The class that is confused most with either end is put there. Of
    equals, and where nothing is confused, it keeps the order of the classes.
    """
    if len(classes) <= 2:
        return list(classes)

    def errors(a: str, b: str) -> int:
        return counts[a, b] + counts[b, a]

    pairs = [(a, b) for i, a in enumerate(classes) for b in classes[i + 1 :]]
    chain = list(max(pairs, key=lambda pair: errors(*pair)))
    while rest := [name for name in classes if name not in chain]:
        after, before = (max(rest, key=lambda name: errors(name, end)) for end in (chain[-1], chain[0]))
        if errors(before, chain[0]) > errors(after, chain[-1]):
            chain.insert(0, before)
        else:
            chain.append(after)
    return chain


def _confusion_matrix(counts: Counter[tuple[str, str]], classes: Sequence[str]) -> Markup:
    totals = {actual: sum(counts[actual, predicted] for predicted in classes) or 1 for actual in classes}
    errors = [counts[a, p] / totals[a] for a in classes for p in classes if a != p]
    most = max(MIN_DARKEST, *errors)
    is_tall = len(classes) > MAX_PAIR_CLASSES
    rows = []
    for actual in classes:
        cells = []
        for predicted in classes:
            count, fraction = counts[actual, predicted], counts[actual, predicted] / totals[actual]
            text = elements.percent(fraction, digits=0 if is_tall else 1)
            is_right = actual == predicted
            css, shade = ("right", 0.0) if is_right else ("wrong", fraction / most)
            cells.append(elements.shaded_cell(f"{count:,}", text, shade, css) if count else elements.empty_cell(css))
        rows.append(elements.row(elements.isolated(actual), cells))
    column = Markup('<th scope="col"><span>{}</span></th>')
    names = Markup().join(column.format(elements.isolated(name)) for name in classes)
    header = Markup("<tr><th>actual ↓ predicted →</th>{}</tr>").format(names)
    return elements.table("matrix tall" if is_tall else "matrix", [header], rows)


def _confusion_list(results: Results) -> Markup:
    """List the most frequent confusions, each with its surest example."""
    other = Counter((row["actual"], row["predicted"]) for row in results.measured.curves["confusion"][results.other])
    shows_pictures = bool(results.parameters["evaluate"]["shown"])
    line = Markup('<div class="confused">{}<p>{} <span>→ {}</span><small>{}</small></p></div>')
    items = []
    for pair in results.confused:
        picture = elements.picture(pair.picture, f"{pair.image_id}, {pair.actual}", 112) if shows_pictures else ""
        numbers = (
            f"{plural(pair.count, 'photograph')}, {elements.percent(pair.fraction, 0)} of the class; "
            f"{MODELS[results.other].lower()} {other[pair.actual, pair.predicted]:,}"
        )
        items.append(line.format(picture, *map(elements.isolated, (pair.actual, pair.predicted)), numbers))
    if not items:
        return elements.paragraph("No test photograph is taken for another class.", "soft")
    pairs = {(row["actual"], row["predicted"]) for row in results.measured.curves["confusion"][results.saved]}
    total = sum(actual != predicted for actual, predicted in pairs)
    note = f"Actual → predicted. {len(items):,} of {total:,} pairs of classes that are confused"
    note += ", each with the photograph that the model is surest of." if shows_pictures else "."
    listing = Markup('<div class="confusions">\n{}\n</div>').format(Markup("\n").join(items))
    return elements.figure(f"The most frequent confusions of the {results.saved_name}", listing) + elements.paragraph(
        note, "soft"
    )


def write_curves(results: Results) -> Markup:
    """Show ROC and precision-recall of two classes; of more, how accurate those predictions are that are sure."""
    curves = results.measured.curves
    if len(results.classes) > 2:
        return _coverage(results)
    rates = Plane(axes.unit_axis("false positive rate"), axes.unit_axis("true positive rate"), diagonal=True)
    figures = [
        charts.lines("ROC", _series(curves["roc"], "false_positive_rate", "true_positive_rate"), rates),
        charts.lines(
            "Precision and recall",
            _series(curves["precision_recall"], "recall", "precision"),
            Plane(axes.unit_axis("recall"), axes.unit_axis("precision")),
        ),
    ]
    note = Markup("{}. The positive class is {}.").format(
        results.tested_on.removeprefix("the ").capitalize(), elements.isolated(results.classes[1])
    )
    return Markup("\n").join([elements.legend(), elements.grid("two", figures), elements.paragraph(note, "soft")])


def _coverage(results: Results) -> Markup:
    series = _series(results.measured.curves["coverage"], "coverage", "accuracy")
    accuracies = [point.y for points in series.values() for point in points]
    if not accuracies:
        return charts.undefined()
    plane = Plane(axes.unit_axis("share of the photographs"), axes.round_axis("accuracy", accuracies), height=190)
    note = results.tested_on.removeprefix("the ").capitalize()
    note += ". The photographs are taken by how sure the model is, the surest first."
    half = [row for row in results.measured.curves["coverage"][results.saved] if row["coverage"] >= 0.5]
    if half:
        surest = round(half[0]["coverage"] * results.health.tested)
        right = round(half[0]["accuracy"] * surest)
        note += (
            f" Of the surest {elements.percent(half[0]['coverage'], 0)}, {plural(surest, 'photograph')}, the "
            f"{results.saved_name} gets {right:,} right."
        )
    chart = charts.lines("Accuracy among the surest photographs", series, plane)
    return Markup("\n").join([elements.legend(), chart, elements.paragraph(note, "soft")])


def _series(curves: Mapping[str, Sequence[Mapping]], x: str, y: str) -> dict[str, list[Point]]:
    return {model: [Point(row[x], row[y]) for row in rows] for model, rows in curves.items()}
