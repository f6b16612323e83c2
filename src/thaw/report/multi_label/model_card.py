"""The model card of a run of several labels, after Mitchell et al. 2019 (arXiv 1810.03993), as Markdown."""

from thaw.core.metrics_file import FINE_TUNED
from thaw.core.words import listed, plural
from thaw.evaluation.multi_label.metrics import BY_CHANCE, MAIN
from thaw.report import elements
from thaw.report.model_card import (
    MAX_CLASSES_NAMED,
    MAX_WORST_CLASSES,
    escape_markdown,
    licences,
    markdown_table,
    provenance,
    score_text,
    worst_slices,
)
from thaw.report.multi_label import quality
from thaw.report.multi_label.results import MultiResults


def write(results: MultiResults) -> str:
    """Return the card as Markdown; every text of the data is escaped. The same results give the same text."""
    sections = {
        "Model": _model(results),
        "Use": _use(results),
        "Data": _data(results),
        "How good it is": _quality(results),
        "Where it is weaker": _weaknesses(results),
        "Provenance": provenance(results),
    }
    if len(results.classes) <= quality.MAX_CLASSES_IN_TITLE:
        title = "Which of " + ", ".join(escape_markdown(name) for name in results.classes)
    else:
        title = f"Which of {len(results.classes):,} classes of {escape_markdown(results.source['name'])}"
    body = "\n\n".join(f"## {name}\n{text}" for name, text in sections.items())
    return f"# {title}: a model card\n{body}\n"


def _model(results: MultiResults) -> str:
    model, image = results.parameters["model"], results.parameters["image"]
    names = listed([escape_markdown(name) for name in results.classes], MAX_CLASSES_NAMED)
    how = "as it came, with a head on its features"
    if results.saved == FINE_TUNED:
        epoch = model["best_epoch"]
        kept = f"epoch {epoch}" if epoch else "the start, which no epoch was better than"
        how = f"fine-tuned behind `{model['cut'] or 'the input'}` ({kept})"
    return (
        f"`model.keras`: it says which classes a photograph shows, none or several. "
        f"{escape_markdown(model['backbone'])}, {how}. It takes RGB pixels 0–255 of {image['size']} × {image['size']} "
        f"({escape_markdown(image['resize'])}) and returns for each of {len(results.classes):,} classes a probability "
        f"of being present, independent of the others: {names}."
    )


def _use(results: MultiResults) -> str:
    parts = [
        "A probability p of a class becomes calibrated as sigmoid(logit(p) / temperature of the class). A class is "
        "called present where that lies above its threshold; both are in `decision.json`, chosen on validation (aim: "
        f"{escape_markdown(results.parameters['evaluate']['multi_aim'])}). `predict.py` does both."
    ]
    flips = results.parameters["evaluate"]["test_time_flips"]
    if flips:
        parts.append(
            "The file predicts one picture; `predict.py` gives it a photograph and its mirror images (test-time flips: "
            f"{flips}) and takes the mean, and the figures here are of that mean."
        )
    chosen = results.measured.thresholds[results.saved]["validation"]
    missed = [
        escape_markdown(name) for name, threshold in zip(results.classes, chosen, strict=True) if not threshold.reached
    ]
    if missed:
        parts.append(f"The aim is not reached on validation for {', '.join(missed)}.")
    return " ".join(parts) + licences(results)


def _data(results: MultiResults) -> str:
    splits = results.measured.metrics["pairs"]
    rows = [
        [
            escape_markdown(name),
            *(f"{counts[name]['present']:,} / {counts[name]['absent']:,}" for counts in splits.values()),
        ]
        for name in results.classes[:MAX_CLASSES_NAMED]
    ]
    table = markdown_table(["Photographs known to show the class / known not to", *splits], rows)
    parts = [f"{escape_markdown(results.source['name'])}, {results.health.photographs:,} photographs.", table]
    others = len(results.classes) - MAX_CLASSES_NAMED
    if others > 0:
        parts.append(f"{others:,} more classes are not listed.")
    parts.append(
        "Of all other pairs of a photograph and a class nothing is known. They count in no loss and no number."
    )
    health, left_out = results.health, results.duplicates.left_out
    if health.groups:
        across = f"{health.across_splits:,} of them are of groups in two splits."
        text = f"{plural(health.grouped, 'photograph')} share a group, of near-duplicates or yours; "
        parts.append(text + (across if health.across_splits else "no group is in two splits."))
    if left_out:
        parts.append(f"{plural(left_out, 'photograph')} of groups with held-out photographs were left out of training.")
    if results.source["citation"]:
        parts.append(escape_markdown(results.source["citation"]))
    return "\n\n".join(parts)


def _quality(results: MultiResults) -> str:
    if results.test[MAIN] is None:
        return "Of no class does test know both a photograph that shows it and one that does not: nothing was measured."
    test = [results.measured.metrics[model]["test"] for model in elements.MODELS]
    rows = []
    for suffix in ("", "_weighted") if results.weighted else ("",):
        for what, measures in (("mean over the classes", quality.MEANS), ("all pairs", quality.POOLED)):
            for measure, (name, unit, _) in measures.items():
                label = f"{name}, {what}{', weighted' if suffix else ''}"
                rows.append([label, *(score_text(scores, f"{measure}{suffix}", unit) for scores in test)])
    counts = results.test
    table = markdown_table(["On test, with the 95 % interval", *elements.MODELS.values()], rows)
    text = (
        f"On {counts['photographs']:,} test photographs: {counts['known_present']:,} known pairs are present, "
        f"{counts['known_absent']:,} absent; {counts['classes_measured']:,} of {len(results.classes):,} classes are "
        f"measured. A ranking by chance has a mean average precision of {elements.percent(counts[BY_CHANCE])}."
    )
    return "\n\n".join(filter(None, [quality.verdict(results), text, table]))


def _weaknesses(results: MultiResults) -> str:
    parts = []
    worst = quality.worst_classes(results)[:MAX_WORST_CLASSES]
    if worst:
        rows = [
            [
                escape_markdown(row["class"]),
                f"{row['known_present']:,} / {row['known_absent']:,}",
                *(score_text(row, key, "%") for key in ("average_precision", "precision", "recall")),
            ]
            for row in worst
        ]
        parts.append(markdown_table(["Class", "Present / absent", "Average precision", "Precision", "Recall"], rows))
    parts += worst_slices(results.measured.slices[results.saved], "Pairs called rightly")
    text = "Photographs of another camera, place or time than these were not measured"
    if results.parameters["evaluate"]["shown"]:
        text += "; `report.html` shows the surest mistakes and the likeliest wrong labels"
    parts.append(f"{text}.")
    return "\n\n".join(parts)
