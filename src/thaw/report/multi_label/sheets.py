"""The contact sheets of several labels: pairs of a photograph and a class to look at."""

from collections.abc import Sequence

from markupsafe import Markup

from thaw.evaluation.multi_label.review import Neighbour, PairCard
from thaw.report import elements
from thaw.report.elements import MODELS
from thaw.report.multi_label.results import MultiResults
from thaw.report.sheets import lay_out

SHEETS = {  # key → title, what is shown, the text if there is nothing to show
    "mistakes": (
        "The surest mistakes",
        "Known pairs of test that the {model} calls wrongly, those first of which it is surest.",
        "The {model} calls no known pair of test wrongly.",
    ),
    "present": (
        "Classes said to be present that are likely absent",
        "Pairs of any split, those first whose label is least probable to a head that was trained without the "
        "photograph; that probability stands beside the label. Look at them before you believe the label or the model.",
        "There is no such pair.",
    ),
    "absent": (
        "Classes verified to be absent that are likely present",
        "The same for classes that somebody verified not to be there, and may have overlooked.",
        "There is no such pair.",
    ),
}
WORDS = {True: "present", False: "absent"}


def write_sheets(results: MultiResults) -> Markup:
    return lay_out(results, SHEETS, _legend, _card)


def _legend(results: MultiResults, cards: Sequence[PairCard]) -> str:
    near = "the three nearest training photographs, by frozen features, of those where the class is known"
    if not any(card.heatmap for card in cards):
        return f"What the network saw, and {near}. This model keeps no map of where it looked."
    flips = results.parameters["evaluate"]["test_time_flips"]
    return (
        f"Left, what the network saw; right, where it looked{' in the photograph itself' if flips else ''}: what is "
        f"yellow speaks for the class, what is violet against it. Probabilities are calibrated. Below, {near}."
    )


def _card(card: PairCard, sheet: str) -> Markup:
    pictures = elements.picture(card.picture, f"{card.image_id}, {card.class_name}", 224)
    if card.heatmap:
        pictures += elements.picture(card.heatmap, f"{card.image_id}: what speaks for {card.class_name}", 224)
    confidence = "" if sheet == "mistakes" else elements.percent(card.self_confidence)
    line = Markup("<li><span>label</span><span>{}</span><span>{}</span></li>")
    lines = [line.format(WORDS[card.is_present], confidence), *(_prediction(card, model) for model in MODELS)]
    notes = [card.image_id, *([] if sheet == "mistakes" else [card.split])]
    notes += [f"weight {card.weight:.2g}"] * (card.weight != 1)
    notes += [f"also {card.others}"] if card.others else []
    return Markup(
        '<figure class="card"><figcaption>{} <small>{}</small></figcaption>'
        '<div class="{}">{}</div><ul>{}</ul><div class="near">{}</div></figure>'
    ).format(
        elements.isolated(card.class_name),
        Markup(", ").join(map(elements.isolated, notes)),
        "pair" if card.heatmap else "single",
        pictures,
        Markup().join(lines),
        Markup().join(_neighbour(neighbour, card) for neighbour in card.neighbours),
    )


def _prediction(card: PairCard, model: str) -> Markup:
    called, probability = card.called[model]
    line = Markup('<li class="{} {}"><span>{}</span><span>{}</span><span>{}</span></li>')
    css = "right" if called == card.is_present else "wrong"
    return line.format(model, css, MODELS[model].lower(), WORDS[called], elements.percent(probability))


def _neighbour(neighbour: Neighbour, card: PairCard) -> Markup:
    word = WORDS[neighbour.is_present]
    picture = elements.picture(neighbour.picture, f"{neighbour.image_id}, {card.class_name} {word}", 112)
    css = "same" if neighbour.is_present == card.is_present else "other"
    return Markup('<span class="{}">{}<small>{}</small></span>').format(css, picture, word)
