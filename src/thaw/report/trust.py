"""The sections on how far to trust the numbers: comparisons, what more labels bring, calibration, slices."""

from html import escape

from thaw.report import charts, elements
from thaw.report.charts import Axis, Estimate, Point
from thaw.report.elements import MODELS
from thaw.report.results import Results

NAMES = {"fine_tuned": "fine-tuned", "head": "head", "neighbours": "neighbours", "majority": "majority"}
SLICES_LISTED = 16
ENDS = ("", "_calibrated")  # of a measure's key, before and after
DOT = 0.02  # what marks a point: as large as one of 2 % of the photographs


def comparisons(results: Results) -> str:
    rows = []
    for pair, known in results.measured.comparisons.items():
        first, second = pair.split("_against_")
        name = f"{NAMES[first].capitalize()} − {NAMES[second]}"
        estimate = Estimate(first, *(known["differences"]["accuracy"][key] for key in ("difference", "low", "high")))
        rows.append((name, f"p {elements.equals(known['mcnemar_p'])}", [estimate]))
    note = (
        "Measured on the same test photographs, so that what makes them easy for both cancels out; "
        "p is that of McNemar’s exact test. "
        f"The neighbours are the {results.measured.neighbours} nearest training photographs by their frozen features, "
        "a number chosen on validation; the majority is the most frequent class."
    )
    chart = charts.intervals(rows, "%", 0.0, bounded=False)
    figure = elements.figure("Difference in accuracy, in percentage points", chart)
    grid = elements.grid("two", [_agreement(results), _learning(results)])
    return f"{figure}\n{elements.paragraph(note, 'soft')}\n{grid}"


def _agreement(results: Results) -> str:
    """Count on which test photographs the two models are right."""
    counts = results.measured.comparisons["fine_tuned_against_head"]["counts"]
    table = {
        "Head right": (counts["both_right"], counts["only_head_right"]),
        "Head wrong": (counts["only_fine_tuned_right"], counts["both_wrong"]),
    }
    total = sum(map(sum, table.values())) or 1

    def cell(count: int) -> str:
        share = count / total
        return f'<td style="--of-row:{share:.3f}">{count:,}<small>{elements.percent(share)}</small></td>'

    rows = [elements.row(name, [cell(count) for count in counts]) for name, counts in table.items()]
    head = '<tr><td></td><th scope="col">Fine-tuned right</th><th scope="col">Fine-tuned wrong</th></tr>'
    return elements.figure("Who is right", elements.table("matrix", [head], rows))


def _learning(results: Results) -> str:
    name = "What more labels bring to logistic regression on the frozen features"
    rows = results.measured.learning_curve
    if not rows:
        many = any(results.health.counts["test"])
        said = "Fits of so many classes would take minutes: none were made." if many else "Undefined for this split."
        return elements.figure(name, elements.paragraph(said, "soft"))
    points = [Point(row["images"], row["accuracy"], row["accuracy_low"], row["accuracy_high"], DOT) for row in rows]
    y = Axis("accuracy", *charts.axis_of([edge for p in points for edge in p[1:4] if edge is not None]))
    sizes = [round(p.x) for p in points]
    x = Axis("training photographs", sizes[0], max(sizes[-1], sizes[0] + 1), sizes, logarithmic=True)
    drawing = charts.lines(name, {"head": points}, x, y, height=190)
    note = "The line is the mean of the draws of each size, the band reaches from the worst to the best of them."
    if rows[-1]["draws"] > 1:
        note += f" It ends before all {sum(results.health.counts['train']):,}: larger parts would take minutes."
    return drawing + elements.paragraph(note, "soft")


def calibration(results: Results) -> str:
    """Show the reliability before and after the temperature, what it changes, and the threshold."""
    figures = [
        charts.lines(
            name,
            {
                model: [
                    Point(row["confidence"], row["accuracy"], share=row["count"] / sum(r["count"] for r in of_model))
                    for row in of_model
                ]
                for model, of_model in results.measured.curves[kind].items()
            },
            charts.unit_axis("confidence"),
            charts.unit_axis("accuracy"),
            diagonal=True,
        )
        for kind, name in (("calibration", "As trained"), ("calibrated", "With the temperature"))
    ]
    note = (
        "Test split. The dots are bins of photographs by how sure the model is, the larger the more it holds; below "
        "the dotted line a model is surer than it is right. A temperature divides the logits: fitted on validation "
        "alone, it changes no answer. All other sections show the probabilities as the model gives them; "
    )
    if "extension" in results.measured.metrics:
        note += "those of all the classes of the extended model have no temperature of their own."
    else:
        note += "<code>decision.json</code> keeps the temperature for those who use the model."
    flips = results.parameters["evaluate"]["test_time_flips"]
    if flips:
        note += f" All probabilities in this report are means over a photograph and its mirror images ({flips})."
    tables = elements.grid("two", [_temperatures(results), _threshold(results)])
    return "\n".join([elements.legend(), elements.grid("two", figures), elements.paragraph(note, "soft"), tables])


def _temperatures(results: Results) -> str:
    suffix = "_weighted" if results.weighted else ""
    rows = []
    for model, name in MODELS.items():
        scores = results.measured.metrics["calibration"][model]
        rows.append(elements.part(f"{name}, temperature {scores['temperature']:.3f}", 3))
        for key, measure in (("log_loss", "Log loss"), ("ece", "Calibration error")):
            of_splits = (scores[split] for split in ("validation", "test"))
            texts = (" → ".join(elements.number(s[f"{key}{suffix}{end}"]) for end in ENDS) for s in of_splits)
            rows.append(elements.row(measure, [elements.cell(text) for text in texts]))
    table = elements.table("wide", [elements.heads("", ["Validation", "Test"])], rows)
    return elements.figure("Before the temperature → with it" + _weighted(results), table)


def _weighted(results: Results) -> str:
    return ", by the weight of the labels" if results.weighted else ""


def _threshold(results: Results) -> str:
    name = f"The threshold{_weighted(results)}"
    if not results.measured.thresholds or "extension" in results.measured.metrics:
        said = "Of more than two classes the likeliest is the answer: no threshold is chosen."
        return elements.figure(name, elements.paragraph(said, "soft"))
    rows, failed = [], []
    for model, shown in MODELS.items():
        of_splits = results.measured.thresholds[model]
        chosen = of_splits["validation"]
        rows.append(elements.part(f"{shown}, threshold {elements.probability(chosen.value)}", 3))
        for key in ("precision", "recall"):
            cells = [elements.cell(elements.percent(getattr(of_splits[split], key))) for split in of_splits]
            rows.append(elements.row(key.capitalize(), cells))
        failed += [] if chosen.reached else [shown.lower()]
    aim = escape(str(results.parameters["evaluate"]["threshold"]))
    said = (
        f"{escape(results.classes[1])} is called where its probability, with the temperature, lies above the "
        f"threshold. Aim on validation: <code>{aim}</code>"
    )
    said += f", not reached by the {' and the '.join(failed)} model: this is the nearest to it." if failed else "."
    table = elements.table("wide", [elements.heads("", ["Validation", "Test"])], rows)
    return elements.figure(name, table + elements.paragraph(said, "soft"))


def slices(results: Results) -> str:
    """List the slices of the test split, the worst of the fine-tuned model first."""
    of_model = {m: {(r["column"], r["value"]): r for r in rows} for m, rows in results.measured.slices.items()}
    order = list(of_model["fine_tuned"])
    if not order:
        return elements.paragraph(
            "The photographs differ in no column that the source gives, nor in size: no slices.", "soft"
        )
    rows = []
    for column, value in order[:SLICES_LISTED]:
        estimates = [
            Estimate(m, *(of_model[m][column, value][f"accuracy{end}"] for end in ("", "_low", "_high")))
            for m in MODELS
        ]
        row = of_model["fine_tuned"][column, value]
        p = f", p {elements.equals(row['p_value'])}" if row["p_value"] is not None else ""
        rows.append(
            (f"{column.replace('_', ' ')}: {value}", f"{elements.plural(row['count'], 'photograph')}{p}", estimates)
        )
    overall = results.measured.metrics["fine_tuned"]["test"]["accuracy"]
    note = (
        "The worst first, by the upper end of the fine-tuned model’s interval; the dashed line is its accuracy on the "
        "whole test split. p says how often chance alone makes a slice differ that much from the rest, the number of "
        "slices taken into account."
    )
    cut = elements.rest(len(order), len(order[:SLICES_LISTED]), "slices", "slices_fine_tuned.csv")
    return f"{elements.legend()}\n{charts.intervals(rows, '%', overall)}\n{elements.paragraph(note, 'soft')}\n{cut}"
