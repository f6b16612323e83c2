"""The model card, after Mitchell et al. 2019 (arXiv 1810.03993): what goes along with the model, as Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from thaw.extension import NONE
from thaw.report import elements, quality
from thaw.report.data import flat
from thaw.report.results import Results

CLASSES_NAMED = 30
CLASSES_LISTED = 12
SLICES_LISTED = 5


def write(results: Results) -> str:
    """Return the card as Markdown; every text that comes from the data is escaped. The same results, the same text."""
    sections = {
        "Model": _model(results),
        "Use": _use(results),
        "Data": _data(results),
        "How good it is": _quality(results),
        "Where it is weaker": _weaknesses(results),
        "Provenance": _provenance(results),
    }
    if len(results.classes) <= quality.CLASSES_NAMED:
        title = " or ".join(escaped(name) for name in results.classes)
    else:
        title = f"{len(results.classes):,} classes of {escaped(results.source['name'])}"
    parts = "\n\n".join(f"## {name}\n{body}" for name, body in sections.items())
    return f"# {title}: a model card\n{parts}\n"


def escaped(text: object) -> str:
    """Return text in which neither Markdown nor HTML sees anything to act on, on one line."""
    line = escape(" ".join(str(text).split()), quote=False)
    line = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
    return re.sub(r"^(\d*)([#+.)-])(?=[\s#]|$)", r"\1\\\2", line)  # what begins a heading or a list


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _model(results: Results) -> str:
    model, image = results.parameters["model"], results.parameters["image"]
    takes = f"It takes RGB pixels 0–255 of {image['size']} × {image['size']} ({escaped(image['resize'])})"
    if "extension" in results.measured.metrics:
        head = results.parameters["head"]
        new = ", ".join(escaped(name) for name in results.classes if not name.startswith(NONE))
        return (
            f"`model.keras`: an image classifier, {escaped(model['backbone'])}, to whose {head['known']:,} classes "
            f"others were added. {takes} and returns a probability for each of {head['classes']:,} classes: those that "
            f"it knew, of which the figures below take the likeliest, and {new}."
        )
    names = ", ".join(escaped(name) for name in results.classes[:CLASSES_NAMED])
    more = f" and {len(results.classes) - CLASSES_NAMED:,} more" if len(results.classes) > CLASSES_NAMED else ""
    return (
        f"`model.keras`: an image classifier, {escaped(model['backbone'])}, fine-tuned behind "
        f"`{model['cut'] or 'the input'}` ({_epoch(model['best_epoch'])}, of at most "
        f"{results.parameters['fine_tune']['epochs']}). "
        f"{takes} and returns a probability for each of {len(results.classes):,} classes: "
        f"{names}{more}."
    )


def _epoch(best: int) -> str:
    return f"epoch {best}" if best else "the start, which no epoch was better than"


def _use(results: Results) -> str:
    text = (
        "It tells photographs of these classes apart, of the kind it was trained on; it gives every picture one of "
        "them, also one that shows something else."
    )
    flips = results.parameters["evaluate"]["test_time_flips"]
    if flips:
        text += (
            f" The file answers one picture; `predict.py` asks it a photograph and its mirror images (test-time flips: "
            f"{flips}) and takes the mean, and the figures here are of that mean."
        )
    if "extension" in results.measured.metrics:
        return f"{text} The likeliest class is the answer; its probabilities are not calibrated.{_license(results)}"
    temperature = results.measured.metrics["calibration"]["fine_tuned"]["temperature"]
    text += f" Its probabilities p become calibrated as p^(1/{temperature:.3f}), scaled to sum to 1 (`decision.json`)."
    if results.measured.thresholds:
        chosen = results.measured.thresholds["fine_tuned"]["validation"]
        text += (
            f" {escaped(results.classes[1])} is called where its calibrated probability lies above "
            f"{elements.probability(chosen.value)} "
            f"(aim: {escaped(chosen.aim)}{'' if chosen.reached else ', not reached'}; chosen on validation)."
        )
        text = f"{text} {escaped(quality.rule(results))}".rstrip()
    return text + _license(results)


def _license(results: Results) -> str:
    terms = results.source["license"]
    return f"\n\nThe photographs it learnt from are under {escaped(terms)}." if terms else ""


def _data(results: Results) -> str:
    counts = results.health.counts
    names = results.classes
    by_class = list(zip(names, zip(*counts.values(), strict=True), strict=True))
    rows = [
        [escaped(name), *(f"{n:,}" for n in of_class), f"{sum(of_class):,}"]
        for name, of_class in by_class[:CLASSES_NAMED]
    ]
    rows.append(["all", *(f"{sum(n):,}" for n in counts.values()), f"{sum(map(sum, counts.values())):,}"])
    more = f"\n\n{len(names) - CLASSES_NAMED:,} more classes are not listed." if len(names) > CLASSES_NAMED else ""
    near = (
        f"\n\n{elements.plural(results.health.grouped, 'photograph')} are near-duplicates of another; no group of them "
        "stands in two splits."
        if results.health.groups
        else ""
    )
    citation = f"\n\n{escaped(results.source['citation'])}" if results.source["citation"] else ""
    return (
        f"{escaped(results.source['name'])}.\n\n{_table(['Photographs', *counts, 'all'], rows)}{more}{near}{citation}"
    )


def _quality(results: Results) -> str:
    test = {model: results.measured.metrics[model]["test"] for model in elements.MODELS}
    if test["fine_tuned"]["accuracy"] is None:
        return "The test split holds no photograph: nothing was measured."
    rows = []
    for suffix in ("", "_weighted") if results.weighted else ("",):
        for key, (name, unit, _) in quality.MEASURES.items():
            if f"{key}{suffix}" in test["head"]:
                label = f"{name}, weighted" if suffix else name
                rows.append([label, *(_estimate(test[model], f"{key}{suffix}", unit) for model in test)])
    table = _table(["On test, with the 95 % interval", *elements.MODELS.values()], rows)
    said = [quality.verdict(results), quality.extension(results), table]
    return "\n\n".join(filter(None, said))


def _estimate(values: Mapping[str, float | None], key: str, unit: str) -> str:
    between = elements.interval(values[f"{key}_low"], values[f"{key}_high"], unit)
    return f"{elements.value(values[key], unit)} ({between})" if between else elements.value(values[key], unit)


def _weaknesses(results: Results) -> str:
    rows = [row for row in results.measured.per_class["fine_tuned"] if row["f1"] is not None]
    worst = sorted(rows, key=lambda row: row["f1"])[:CLASSES_LISTED]
    body = [
        [escaped(row["class"]), f"{row['support']:,}", *(_estimate(row, key, "%") for key in ("precision", "recall"))]
        for row in worst
    ]
    parts = [_table(["Class", "Test photographs", "Precision", "Recall"], body)] if body else []
    slices = results.measured.slices["fine_tuned"][:SLICES_LISTED]
    if slices:
        said = [
            [f"{escaped(row['column'])}: {escaped(row['value'])}", f"{row['count']:,}", _estimate(row, "accuracy", "%")]
            for row in slices
        ]
        parts.append(_table(["Worst slices", "Test photographs", "Accuracy"], said))
    parts.append(
        "Photographs of another camera, place or time than these were not measured; `report.html` shows the "
        "surest mistakes, the least certain answers and the likeliest wrong labels."
    )
    return "\n\n".join(parts)


def _provenance(results: Results) -> str:
    inputs = _table(["Read", "MD5"], [[f"`{path}`", f"`{md5}`"] for path, md5 in results.inputs.items()])
    parameters = _table(
        ["Parameter", "Value"], [[f"`{key}`", escaped(value)] for key, value in flat(results.parameters)]
    )
    return f"{inputs}\n\n{parameters}"
