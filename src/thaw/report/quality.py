"""The sections on how good the models are: the answer in a sentence, the metrics, the classes, what is mistaken."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from thaw.report import charts, elements
from thaw.report.charts import Estimate
from thaw.report.elements import MODELS, NARROW_SPACE
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
CLASSES_NAMED = 4  # of more classes the title gives the number
CLASSES_LISTED = 20
MATRIX_CLASSES = 12  # a larger confusion matrix cannot be read: its most frequent errors are listed instead
PAIR_CLASSES = 3  # two confusion matrices of more classes do not fit side by side
CONFUSIONS_LISTED = 15


def title(results: Results) -> str:
    if len(results.classes) <= CLASSES_NAMED:
        return f"{elements.listed(results.classes, 'or')}?"
    return f"{len(results.classes):,} classes of {escape(results.source['name'])}"


def summary(results: Results) -> str:
    """Say how good the model is, how surely, and whether fine-tuning helped; below, one plot of it."""
    test = results.measured.metrics["fine_tuned"]["test"]
    count = sum(results.health.counts["test"])
    if test["accuracy"] is None:
        return elements.paragraph("The test split holds no photograph: nothing was measured.", "lead")
    lead = (
        f"Of {elements.plural(count, 'photograph')} that it was never trained on, the fine-tuned model gets "
        f"<b>{elements.percent(test['accuracy'])}</b> right{_between(test, 'accuracy')}."
    )
    if results.weighted:
        lead += f" By the weight of their labels, it is {elements.percent(test['accuracy_weighted'])}."
    rows = [("Majority class", "", [_estimate("base", results.measured.metrics["baselines"]["majority"]["test"])])]
    rows.append(
        ("Nearest neighbours", "", [_estimate("base", results.measured.metrics["baselines"]["neighbours"]["test"])])
    )
    rows += [(name, "", [_estimate(model, results.measured.metrics[model]["test"])]) for model, name in MODELS.items()]
    said = " ".join(filter(None, [verdict(results), extension(results), escape(rule(results))]))
    return (
        f"{elements.paragraph(lead, 'lead')}\n{elements.paragraph(said, 'second')}\n"
        f"{elements.figure('Accuracy on the test split, with its 95 % interval', charts.intervals(rows, '%'))}"
    )


def extension(results: Results) -> str:
    """Say of a model that was extended what became of the answers it gave before; of another, nothing."""
    if "extension" not in results.measured.metrics:
        return ""
    test = results.measured.metrics["extension"]["test"]
    parts = []
    if test["agreement"] is not None:
        parts.append(
            f"Of {elements.plural(test['without_new'], 'photograph')} that show no new class, it answers "
            f"{elements.percent(test['agreement'])} as before{_between(test, 'agreement')}."
        )
    if test["accuracy_after"] is not None:
        parts.append(
            f"Of {test['with_new']:,} that show one, {elements.percent(test['accuracy_after'])} are answered "
            f"right{_between(test, 'accuracy_after')}; before, it had no name for them."
        )
    return " ".join(parts)


def rule(results: Results) -> str:
    """Say where it is not the likeliest class that is called, how often that is right; else nothing."""
    if not results.measured.thresholds or "extension" in results.measured.metrics:
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
    """Say whether fine-tuning helped, in a sentence or two; of a model that was extended, that there was none."""
    if "extension" in results.measured.metrics:
        return "Nothing was fine-tuned: rows for new classes were fitted beside the old ones."
    against = results.measured.comparisons["fine_tuned_against_head"]
    difference, low, high = (against["differences"]["accuracy"][key] for key in ("difference", "low", "high"))
    amount = f"{abs(round(100 * difference, 1)):.1f} points"
    if low is None or high is None:
        return f"Whether fine-tuning helped, this split cannot tell: it {_moved(difference, amount)}."
    between = elements.signed_interval(low, high, elements.points)
    chance = elements.equals(against["mcnemar_p"])
    spread = f"95{NARROW_SPACE}% interval of the difference {between}; McNemar’s p {chance}"
    sure = against["mcnemar_p"] < 0.05  # of a few photographs, resamples alone are too easily sure
    if low > 0 and sure:
        said = f"Fine-tuning helped: {amount} more than the head on frozen features ({spread})."
    elif high < 0 and sure:
        said = f"Fine-tuning did harm: {amount} less than the head on frozen features ({spread})."
    else:
        said = (
            f"Whether fine-tuning helped is not certain: it {_moved(difference, amount)}, which may be luck ({spread})."
        )
    return said + _by_weight(results)


def _by_weight(results: Results) -> str:
    """Say the same of the weighted accuracy where there is one."""
    of_measure = results.measured.comparisons["fine_tuned_against_head"]["differences"]["accuracy_weighted"]
    if not results.weighted or of_measure["difference"] is None:
        return ""
    between = elements.signed_interval(of_measure["low"], of_measure["high"], elements.points)
    amount = elements.points(of_measure["difference"])
    return f" By the weight of the labels the difference is {amount} points{f' ({between})' if between else ''}."


def _moved(difference: float, amount: str) -> str:
    if amount.startswith("0.0"):
        return "leaves the head’s accuracy as it is"
    return f"gets {amount} {'more' if difference > 0 else 'less'} right than the head on frozen features"


def _between(values: Mapping[str, float | None], key: str) -> str:
    between = elements.interval(values[f"{key}_low"], values[f"{key}_high"], "%")
    return f" (95{NARROW_SPACE}% interval {between})" if between else ""


def _estimate(kind: str, values: Mapping[str, float | None], key: str = "accuracy") -> Estimate:
    return Estimate(kind, values[key], values[f"{key}_low"], values[f"{key}_high"])


def metrics(results: Results) -> str:
    parts = [_metrics_table(results, "test"), _metrics_table(results, "validation")]
    note = (
        f"{UP} higher is better, {DOWN} lower is better. With each number stands its 95{NARROW_SPACE}% interval; a "
        "difference is bold where its interval leaves out 0. Choices were made on validation, where both models look "
        "better than they are: believe test."
    )
    return f"{chr(10).join(parts)}\n{elements.paragraph(note, 'soft')}"


def _metrics_table(results: Results, split: str) -> str:
    differences = results.measured.comparisons["fine_tuned_against_head"]["differences"] if split == "test" else {}
    columns = [*MODELS.values(), *(["Difference"] if differences else [])]
    rows = []
    for suffix in ("", "_weighted") if results.weighted else ("",):
        if suffix:
            rows.append(elements.part("Each photograph by the weight of its label", len(columns) + 1))
        for key, (name, unit, better) in MEASURES.items():
            measure = f"{key}{suffix}"
            if measure not in results.measured.metrics["head"][split]:
                continue
            cells = [_number_cell(results.measured.metrics[model][split], measure, unit) for model in MODELS]
            if differences:
                cells.append(_difference_cell(differences[measure], unit))
            rows.append(elements.row(f"{name} {better}", cells))
    return elements.figure(
        {"test": "Test", "validation": "Validation"}[split],
        elements.table("wide aligned", [elements.heads("", columns)], rows),
    )


def _number_cell(values: Mapping[str, float | None], key: str, unit: str) -> str:
    between = elements.interval(values.get(f"{key}_low"), values.get(f"{key}_high"), unit)
    return elements.cell(elements.value(values[key], unit), between)


def _difference_cell(of_measure: Mapping[str, float | None], unit: str) -> str:
    difference, low, high = (of_measure[key] for key in ("difference", "low", "high"))
    clear = low is not None and high is not None and (low > 0 or high < 0)
    if unit:
        return elements.cell(elements.points(difference), elements.signed_interval(low, high, elements.points), clear)
    return elements.cell(elements.signed(difference), elements.signed_interval(low, high, elements.signed), clear)


def classes(results: Results) -> str:
    """List precision, recall and F1 of each class on test; of many classes the worst."""
    rows = {
        model: {str(row["class"]): row for row in of_model} for model, of_model in results.measured.per_class.items()
    }
    order = list(rows["fine_tuned"])
    if len(order) > CLASSES_LISTED:

        def worst(name: str) -> tuple:
            f1 = rows["fine_tuned"][name]["f1"]
            return (f1 is None, f1 or 0.0)

        order = sorted(order, key=worst)[:CLASSES_LISTED]
    body = []
    for name in order:
        support = rows["fine_tuned"][name]["support"]
        body.append(elements.part(f"{name}, {elements.plural(support, 'photograph')}", 4))
        for model, shown in MODELS.items():
            measured = rows[model][name]
            units = {"precision": "%", "recall": "%", "f1": ""}
            body.append(elements.row(shown, [_number_cell(measured, key, unit) for key, unit in units.items()]))
    table = elements.table("wide aligned", [elements.heads("", ["Precision", "Recall", "F1"])], body)
    cut = elements.rest(
        len(results.classes), len(order), "classes, those of the lowest F1,", "per_class_fine_tuned.csv"
    )
    return f"{table}\n{cut}\n{confusion(results)}"


def confusion(results: Results) -> str:
    names = results.classes
    draw, note = _confusion_matrix, "How many images of each class were taken for which, and their share of the class."
    if len(names) > MATRIX_CLASSES:
        draw, note = _confusion_list, f"The {CONFUSIONS_LISTED} most frequent errors."
    figures = [
        elements.figure(
            f"{name}: what was taken for what",
            draw(
                Counter((row["actual"], row["predicted"]) for row in results.measured.curves["confusion"][model]), names
            ),
        )
        for model, name in MODELS.items()
    ]
    columns = "one" if draw is _confusion_matrix and len(names) > PAIR_CLASSES else "two"
    return f"{elements.grid(columns, figures)}\n{elements.paragraph(note, 'soft')}"


def _confusion_matrix(counts: Counter[tuple[str, str]], classes: Sequence[str]) -> str:
    rows = []
    for actual in classes:
        total = sum(counts[actual, predicted] for predicted in classes)
        cells = []
        for predicted in classes:
            count = counts[actual, predicted]
            share = count / total if total else 0.0
            right = "right" if actual == predicted else "wrong"
            small = f"<small>{elements.percent(share if total else None)}</small>"
            cells.append(f'<td class="{right}" style="--of-row:{share:.3f}">{count:,}{small}</td>')
        rows.append(f'<tr><th scope="row">{escape(actual)}</th>{"".join(cells)}</tr>')
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in classes)
    kind = "matrix tall" if len(classes) > PAIR_CLASSES else "matrix"
    return elements.table(kind, [f"<tr><th>actual ↓ predicted →</th>{heads}</tr>"], rows)


def _confusion_list(counts: Counter[tuple[str, str]], classes: Sequence[str]) -> str:
    place = {name: i for i, name in enumerate(classes)}
    wrong = sorted((-n, place[a], place[p], a, p) for (a, p), n in counts.items() if a != p)
    rows = [
        f'<tr><td class="text">{escape(actual)}</td><td class="text">{escape(predicted)}</td><td>{-count:,}</td></tr>'
        for count, _, _, actual, predicted in wrong[:CONFUSIONS_LISTED]
    ]
    head = (
        '<tr><th scope="col">Actual</th><th scope="col">Predicted</th><th class="number" scope="col">Images</th></tr>'
    )
    return elements.table("wide", [head], rows)


def curves(results: Results) -> str:
    asked = "Both curves ask each image once for each class (micro average)."
    if len(results.classes) == 2:
        asked = f"The positive class is {escape(results.classes[1])}."
    roc = _series(results.measured.curves["roc"], "false_positive_rate", "true_positive_rate")
    precision = _series(results.measured.curves["precision_recall"], "recall", "precision")
    unit = charts.unit_axis
    figures = [
        charts.lines("ROC", roc, unit("false positive rate"), unit("true positive rate"), diagonal=True),
        charts.lines("Precision and recall", precision, unit("recall"), unit("precision")),
    ]
    return f"{elements.legend()}\n{elements.grid('two', figures)}\n{elements.paragraph(f'Test split. {asked}', 'soft')}"


def _series(rows: Mapping[str, Sequence[Mapping]], x: str, y: str) -> dict[str, list[charts.Point]]:
    return {model: [charts.Point(row[x], row[y]) for row in of_model] for model, of_model in rows.items()}
