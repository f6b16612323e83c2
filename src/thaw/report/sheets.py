"""The contact sheets: photographs that are worth a look, each with what was answered, where the model looked, and
the training photographs nearest to it."""

from html import escape

from thaw.failures import Neighbour, Shown
from thaw.report import elements
from thaw.report.elements import MODELS
from thaw.report.results import Results

SHEETS = {  # key → title, what is shown, what is said where there is nothing to show
    "mistakes": (
        "The surest mistakes",
        "Test photographs that the fine-tuned model gets wrong, those first of which it is surest.",
        "The fine-tuned model gets no test photograph wrong.",
    ),
    "doubts": (
        "The least certain answers",
        "Test photographs whose two likeliest classes are nearest to each other, right or wrong.",
        "There is no test photograph.",
    ),
    "labels": (
        "The likeliest wrong labels",
        "Photographs of any split whose label is least probable to a head that was trained without them; that "
        "probability stands beside the label. Look at them before you believe the label, or the model.",
        "There is no photograph.",
    ),
}


def sheets(results: Results) -> str:
    if not results.parameters["evaluate"]["shown"]:
        return elements.paragraph("No photographs are shown here: <code>evaluate.shown</code> is 0.", "soft")
    shown = [photograph for of_sheet in results.sheets.values() for photograph in of_sheet]
    flips = results.parameters["evaluate"]["test_time_flips"]
    legend = (
        f"Left, what the network saw; right, where it looked{' in the photograph itself' if flips else ''}: what is "
        "yellow speaks for its answer, what is violet for the label or, where both are the same, for the runner-up. "
        "Below, the three training photographs with the nearest frozen features, and their labels."
    )
    if not any(photograph.attention for photograph in shown):
        legend = (
            "What the network saw, and the three training photographs with the nearest frozen features, with their "
            "labels. This model keeps no map of where it looked."
        )
    parts = [elements.paragraph(legend, "soft")] if shown else []
    gone = len({p.image_id for p in shown if p.picture is None})
    if gone:
        parts.append(
            elements.paragraph(
                f"{elements.plural(gone, 'photograph')} could not be read when this report was written: deleted or "
                "damaged since the run; <code>dvc checkout</code> brings the data back.",
                "soft",
            )
        )
    for key, (title, said, nothing) in SHEETS.items():
        cards = "\n".join(_card(photograph, key) for photograph in results.sheets[key])
        body = f'<div class="sheet">\n{cards}\n</div>' if cards else ""
        parts.append(f'<h3 id="{key}">{title}</h3>\n{elements.paragraph(said if cards else nothing, "soft")}\n{body}')
    return "\n".join(parts)


def _card(shown: Shown, sheet: str) -> str:
    answer, _ = shown.answers["fine_tuned"]
    pictures = elements.picture(shown.picture, f"{shown.image_id}, {shown.label}", 224)
    if shown.attention:
        pictures += elements.picture(shown.attention, f"{shown.image_id}: what speaks for {answer}", 224)
    kind = "pair" if shown.attention else "single"
    chance = elements.percent(shown.self_confidence) if sheet == "labels" else ""
    lines = [f"<li><span>label</span><span>{escape(shown.label)}</span><span>{chance}</span></li>"]
    for model, name in MODELS.items():
        said, probability = shown.answers[model]
        right = "right" if said == shown.label else "wrong"
        lines.append(
            f'<li class="{model} {right}"><span>{name.lower()}</span><span>{escape(said)}</span>'
            f"<span>{elements.percent(probability)}</span></li>"
        )
    known = [shown.split] * (sheet == "labels") + [f"weight {shown.weight:.2g}"] * (shown.weight != 1)
    near = "".join(_neighbour(neighbour, shown.label) for neighbour in shown.neighbours)
    return (
        f'<figure class="card"><figcaption>{escape(shown.image_id)} <small>{", ".join(known)}</small></figcaption>'
        f'<div class="{kind}">{pictures}</div><ul>{"".join(lines)}</ul><div class="near">{near}</div></figure>'
    )


def _neighbour(neighbour: Neighbour, label: str) -> str:
    same = "same" if neighbour.label == label else "other"
    alt = f"{neighbour.image_id}, {neighbour.label}"
    picture = elements.picture(neighbour.picture, alt, 112)
    return f'<span class="{same}">{picture}<small>{escape(neighbour.label)}</small></span>'
