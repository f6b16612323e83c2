"""The model card, after Mitchell et al. 2019 (arXiv 1810.03993): what goes along with the model, as Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from markupsafe import Markup

from thaw.core.metrics_file import FINE_TUNED
from thaw.core.words import listed, plural
from thaw.evaluation.conformal import LISTED_LEVEL
from thaw.evaluation.scored import Row
from thaw.evaluation.thresholds import Threshold
from thaw.heads.protocol import NEGATIVE_PREFIX
from thaw.report import elements, quality, sets
from thaw.report.data import computed_with, flatten_parameters
from thaw.report.estimate import Estimate
from thaw.report.results import Results, RunFacts

MAX_CLASSES_NAMED = 30
MAX_WORST_CLASSES = 12
MAX_WORST_SLICES = 5


def write(results: Results) -> str:
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
        title = " or ".join(escape_markdown(name) for name in results.classes)
    else:
        title = f"{len(results.classes):,} classes of {escape_markdown(results.source['name'])}"
    body = "\n\n".join(f"## {name}\n{text}" for name, text in sections.items())
    return f"# {title}: a model card\n{body}\n"


def escape_markdown(text: object) -> str:
    """Return a text on one line in which neither Markdown nor HTML finds markup."""
    line = escape(" ".join(str(text).split()), quote=False)
    line = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
    return re.sub(r"^(\d*)([#+.)-])(?=[\s#]|$)", r"\1\\\2", line)  # what begins a heading or a list


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _model(results: Results) -> str:
    model, image = results.parameters["model"], results.parameters["image"]
    backbone = escape_markdown(model["backbone"])
    takes = f"It takes RGB pixels 0–255 of {image['size']} × {image['size']} ({escape_markdown(image['resize'])})"
    if results.extension:
        head = results.parameters["head"]
        new = ", ".join(escape_markdown(name) for name in results.classes if not name.startswith(NEGATIVE_PREFIX))
        return (
            f"`model.keras`: an image classifier, {backbone}, to whose {head['known']:,} classes others were added. "
            f"{takes} and returns a probability for each of {head['classes']:,} classes: those that it knew, of which "
            f"the figures below take the likeliest, and {new}."
        )
    names = listed([escape_markdown(name) for name in results.classes], MAX_CLASSES_NAMED)
    epoch = model["best_epoch"]
    if results.saved != FINE_TUNED:
        return (
            f"`model.keras`: an image classifier, {backbone} as it came, with a head on its features. {takes} and "
            f"returns a probability for each of {len(results.classes):,} classes: {names}."
        )
    kept = f"epoch {epoch}" if epoch else "the start, which no epoch was better than"
    return (
        f"`model.keras`: an image classifier, {backbone}, fine-tuned behind `{model['cut'] or 'the input'}` ({kept}, "
        f"of at most {results.parameters['fine_tune']['epochs']}). {takes} and returns a probability for each of "
        f"{len(results.classes):,} classes: {names}."
    )


def _use(results: Results) -> str:
    text = (
        "It tells photographs of these classes apart, of the kind it was trained on; it gives every picture one of "
        "them, also one that shows something else."
    )
    flips = results.parameters["evaluate"]["test_time_flips"]
    if flips:
        text += (
            f" The file predicts one picture; `predict.py` gives it a photograph and its mirror images (test-time "
            f"flips: {flips}) and takes the mean, and the figures here are of that mean."
        )
    if results.extension:
        return f"{text} The likeliest class is predicted; its probabilities are not calibrated.{licences(results)}"
    temperature = results.measured.metrics["calibration"][results.saved]["temperature"]
    text += f" Its probabilities p become calibrated as p^(1/{temperature:.3f}), scaled to sum to 1 (`decision.json`)."
    if results.measured.thresholds:
        chosen, positive = results.measured.thresholds[results.saved]["validation"], escape_markdown(results.classes[1])
        text += (
            f" {positive} is called where its calibrated probability lies above "
            f"{elements.probability(chosen.value)}{_aim(results, chosen)}."
        )
        text = f"{text} {quality.describe_threshold(results, Markup(positive))}".rstrip()
    text += (
        f"\n\n`predict.py --sets {LISTED_LEVEL:g}` gives each photograph the classes that hold the true one with a "
        f"probability of {elements.percent(LISTED_LEVEL, 0)}. {sets.describe_sets(results)}"
    )
    return text + licences(results)


def _aim(results: Results, chosen: Threshold) -> str:
    """Return, in brackets, what a threshold was chosen for and on; an empty text for a number that was set."""
    if not isinstance(chosen.aim, str):
        return ""
    missed = "" if chosen.reached else ", not reached"
    return f" (aim: {escape_markdown(chosen.aim)}{missed}; chosen on {results.chosen_on})"


def licences(results: RunFacts) -> str:
    terms = results.source["license"]
    text = f"\n\nThe photographs it learnt from are under {escape_markdown(terms)}." if terms else ""
    if licence := results.parameters["model"]["licence"]:
        text += f"\n\nThe weights of its backbone are under {escape_markdown(licence)}."
    return text


def _data(results: Results) -> str:
    counts = results.health.counts
    classes = list(zip(results.classes, zip(*counts.values(), strict=True), strict=True))
    rows = [
        [escape_markdown(name), *(f"{n:,}" for n in class_counts), f"{sum(class_counts):,}"]
        for name, class_counts in classes[:MAX_CLASSES_NAMED]
    ]
    rows.append(["all", *(f"{sum(n):,}" for n in counts.values()), f"{sum(map(sum, counts.values())):,}"])
    others = len(classes) - MAX_CLASSES_NAMED
    parts = [escape_markdown(results.source["name"]) + ".", markdown_table(["Photographs", *counts, "all"], rows)]
    if others > 0:
        parts.append(f"{others:,} more classes are not listed.")
    health, left_out = results.health, results.duplicates.left_out
    if health.groups:
        text = (
            f"{plural(health.grouped, 'photograph')} share a group with another: they are near-duplicates, or "
            "the source names the group; "
        )
        across = f"{health.across_splits:,} of them are of groups in two splits."
        parts_of = "splits" if "test" in health.counts else "folds"
        parts.append(text + (across if health.across_splits else f"no group is in two {parts_of}."))
    if left_out:
        parts.append(f"{plural(left_out, 'photograph')} of groups that are held out were left out of training.")
    if results.source["citation"]:
        parts.append(escape_markdown(results.source["citation"]))
    return "\n\n".join(parts)


def _quality(results: Results) -> str:
    test = [results.measured.metrics[model]["test"] for model in elements.MODELS]
    if results.measured.metrics[results.saved]["test"]["accuracy"] is None:
        return "The test split holds no photograph: nothing was measured."
    rows = []
    for suffix in ("", "_weighted") if results.weighted else ("",):
        for measure, (name, unit, _) in quality.MEASURES.items():
            key = f"{measure}{suffix}"
            if key in test[0]:
                texts = (score_text(scores, key, unit) for scores in test)
                rows.append([f"{name}, weighted" if suffix else name, *texts])
    table = markdown_table(
        [
            f"On {'test' if results.folds is None else 'all photographs'}, with the 95 % interval",
            *elements.MODELS.values(),
        ],
        rows,
    )
    sentences = [quality.describe_folds(results) or quality.verdict(results), quality.describe_extension(results)]
    return "\n\n".join(filter(None, [*sentences, table]))


def score_text(scores: Mapping[str, float | None], key: str, unit: str) -> str:
    """Return a metric with its interval in brackets."""
    value, interval = elements.value(scores[key], unit), elements.interval(Estimate.read(scores, key), unit)
    return f"{value} ({interval})" if interval else value


def _weaknesses(results: Results) -> str:
    worst = quality.worst_classes(results)[:MAX_WORST_CLASSES]
    parts = []
    if worst:
        rows = [
            [
                escape_markdown(row["class"]),
                f"{row['support']:,}",
                score_text(row, "precision", "%"),
                score_text(row, "recall", "%"),
            ]
            for row in worst
        ]
        parts.append(markdown_table(["Class", "Test photographs", "Precision", "Recall"], rows))
    parts += worst_slices(results.measured.slices[results.saved], "Accuracy")
    parts.append(
        "Photographs of another camera, place or time than these were not measured; `report.html` shows the "
        "surest mistakes, the least certain predictions and the likeliest wrong labels."
    )
    return "\n\n".join(parts)


def worst_slices(slices: Sequence[Row], measure: str) -> list[str]:
    """Return the table of the worst slices, or nothing without slices. `measure`: what their `accuracy` is called."""
    rows = [
        [
            f"{escape_markdown(row['column'])}: {escape_markdown(row['value'])}",
            f"{row['count']:,}",
            score_text(row, "accuracy", "%"),
        ]
        for row in slices[:MAX_WORST_SLICES]
    ]
    return [markdown_table(["Worst slices", "Test photographs", measure], rows)] if rows else []


def provenance(results: RunFacts) -> str:
    inputs = markdown_table(["Read", "MD5"], [[f"`{path}`", f"`{md5}`"] for path, md5 in results.inputs.items()])
    libraries = markdown_table(
        ["Measured with", "Version"], [[f"`{name}`", text] for name, text in computed_with(results)]
    )
    pairs = flatten_parameters(results.parameters)
    parameters = markdown_table(["Parameter", "Value"], [[f"`{key}`", escape_markdown(value)] for key, value in pairs])
    return f"{inputs}\n\n{libraries}\n\n{parameters}"
