"""The contact sheets: photographs to look at, each with its label and the models' predictions.

Beside it stand a map of where the model looked, and the training photographs nearest to it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from markupsafe import Markup

from thaw.core.words import plural
from thaw.evaluation.review import Neighbour, ReviewCard
from thaw.report import elements
from thaw.report.elements import MODELS
from thaw.report.results import Results

if TYPE_CHECKING:
    from thaw.evaluation.multi_label.review import PairCard
    from thaw.report.multi_label.results import MultiResults

SHEETS = {  # key → title, what is shown, the text if there is nothing to show
    "mistakes": (
        "The surest mistakes",
        "Test photographs that the {model} gets wrong, those first of which it is surest.",
        "The {model} gets no test photograph wrong.",
    ),
    "doubts": (
        "The least certain predictions",
        "Test photographs whose two likeliest classes are nearest to each other, right or wrong.",
        "There is no test photograph.",
    ),
    "labels": (
        "The likeliest wrong labels",
        "Photographs of any split whose label is least probable to a linear discriminant that was trained without "
        "them. Its probability stands beside the label; it is surer than it should be, so take it as a rank. Look at "
        "them before you believe the label, or the model.",
        "There is no photograph whose label is less probable than the others together.",
    ),
}
NO_SHEETS = elements.paragraph(Markup("No photographs are shown here: <code>evaluate.shown</code> is 0."), "soft")


def write_sheets(results: Results) -> Markup:
    disputed = {image_id for group in results.health.disputed for image_id in group}
    return lay_out(results, SHEETS, _legend, partial(_card, disputed=disputed))


def lay_out(
    results: "Results | MultiResults",
    texts: Mapping[str, tuple[str, str, str]],
    write_legend: Callable[..., Markup | str],
    write_card: Callable[..., Markup],
) -> Markup:
    """Return all sheets of a run below one another, or one line if none are wanted.

    Args:
        results: of the run.
        texts: key of a sheet → its title, its description, and what stands there if it has no card.
        write_legend: returns what explains the cards, from the results and the cards.
        write_card: returns a card, from it and the key of its sheet.
    """
    if not results.parameters["evaluate"]["shown"]:
        return NO_SHEETS
    cards = [card for sheet in results.sheets.values() for card in sheet]
    parts = [elements.paragraph(write_legend(results, cards), "soft")] if cards else []
    parts += note_unreadable(cards)
    for key, (title, description, if_empty) in texts.items():
        sheet = [write_card(card, key) for card in results.sheets[key]]
        text = elements.paragraph((description if sheet else if_empty).format(model=results.saved_name), "soft")
        body = Markup('<div class="sheet">\n{}\n</div>').format(Markup("\n").join(sheet)) if sheet else ""
        parts.append(Markup('<h3 id="{}">{}</h3>\n{}\n{}').format(key, title, text, body))
    return Markup("\n").join(parts)


def note_unreadable(cards: Sequence["ReviewCard | PairCard"]) -> list[Markup]:
    """Count the photographs of cards that could not be read, in a paragraph; none if all could."""
    unreadable = len({card.image_id for card in cards if card.picture is None})
    if not unreadable:
        return []
    note = Markup(
        "{} could not be read when this report was written: deleted or damaged since the run; "
        "<code>dvc checkout</code> brings the data back."
    )
    return [elements.paragraph(note.format(plural(unreadable, "photograph")), "soft")]


def _legend(results: Results, cards: Sequence[ReviewCard]) -> str:
    if not any(card.heatmap for card in cards):
        return (
            "What the network saw, and the three training photographs with the nearest frozen features, with their "
            "labels. This model keeps no map of where it looked."
        )
    flips = results.parameters["evaluate"]["test_time_flips"]
    whose = (
        ""
        if results.folds is None
        else " The colours are of the model that predicts, which had not seen the photograph."
    )
    return (
        f"Left, what the network saw; right, where it looked{' in the photograph itself' if flips else ''}: what is "
        "yellow speaks for its prediction, what is violet for the label or, where both are the same, for the "
        f"runner-up. Below, the three training photographs with the nearest frozen features, and their labels.{whose}"
    )


def _card(card: ReviewCard, sheet: str, disputed: Collection[str]) -> Markup:
    """Return a card. `disputed`: the ids of near-duplicates with different labels."""
    predicted, _ = card.predicted[card.shown]
    pictures = elements.picture(card.picture, f"{card.image_id}, {card.label}", 224)
    if card.heatmap:
        pictures += elements.picture(card.heatmap, f"{card.image_id}: what speaks for {predicted}", 224)
    confidence = elements.percent(card.self_confidence) if sheet == "labels" else ""
    line = Markup("<li><span>label</span><span>{}</span><span>{}</span></li>")
    lines = [line.format(elements.isolated(card.label), confidence), *(_prediction(card, model) for model in MODELS)]
    notes = [card.split] * (sheet == "labels") + [f"weight {card.weight:.2g}"] * (card.weight != 1)
    notes += ["a near-duplicate has another label"] * (card.image_id in disputed)
    return Markup(
        '<figure class="card"><figcaption>{} <small>{}</small></figcaption>'
        '<div class="{}">{}</div><ul>{}</ul><div class="near">{}</div></figure>'
    ).format(
        elements.isolated(card.image_id),
        ", ".join(notes),
        "pair" if card.heatmap else "single",
        pictures,
        Markup().join(lines),
        Markup().join(_neighbour(neighbour, card.label) for neighbour in card.neighbours),
    )


def _prediction(card: ReviewCard, model: str) -> Markup:
    predicted, probability = card.predicted[model]
    line = Markup('<li class="{} {}"><span>{}</span><span>{}</span><span>{}</span></li>')
    css = "right" if predicted == card.label else "wrong"
    return line.format(model, css, MODELS[model].lower(), elements.isolated(predicted), elements.percent(probability))


def _neighbour(neighbour: Neighbour, label: str) -> Markup:
    picture = elements.picture(neighbour.picture, f"{neighbour.image_id}, {neighbour.label}", 112)
    css = "same" if neighbour.label == label else "other"
    label = elements.isolated(neighbour.label)
    return Markup('<span class="{}">{}<small>{}</small></span>').format(css, picture, label)
