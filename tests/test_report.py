"""The report is one whole, safe, small, deterministic HTML file; so is the model card, as Markdown."""

import collections
import dataclasses
import functools
import inspect
import io
import json
import re
import shutil
import subprocess
import types
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from markupsafe import Markup, escape
from PIL import Image

from thaw.core import tables
from thaw.evaluation import measure, review
from thaw.evaluation.forecast import End, Forecast, Needed
from thaw.evaluation.learning_curve import HeadFit
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.resampling import resample
from thaw.features.examples import Examples
from thaw.parameters.evaluate import Evaluate
from thaw.report import axes, charts, data, elements, health, model_card, page, provenance, quality, sets, sheets, trust
from thaw.report.charts import IntervalRow, Plane, Point
from thaw.report.estimate import Estimate
from thaw.report.results import Duplicates, PresetChoice, Results
from thaw.splitting import listing

NO_DUPLICATES, PRESET = Duplicates(0, None), PresetChoice("upright", None)
EVIL = '<script>alert("1")</script>&|`*'
VOID = {"meta", "img", "link"}
SETTINGS = Evaluate(test_time_flips=None, threshold=0.5, bootstrap=100, bins=10, shown=3, seed=1, multi_aim="best_f1")


class Page(HTMLParser):
    """Checks that tags are balanced; keeps the text, the tags with their attributes, and the cells by row."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text, self.rows = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" in self.open:
            return
        self.text.append(text)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += text

    def sentence(self):
        return " ".join("".join(self.text).replace("\u202f", " ").split())


def jpeg(shade=128):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, "JPEG")
    return file.getvalue()


def results(
    classes=("intact", "defective"), counts=(40, 30, 60), skill=(1.0, 2.0), answer=None, weights=None, source="mono",
    readable=True, maps=True, missing=(), absent=(), unweighted=(), settings=SETTINGS, groups=0,
    duplicates=NO_DUPLICATES, preset=PRESET, resize=None,
):  # fmt: skip
    """Return what `evaluate` hands to the report, for drawn images, a head and a better model.

    answer: how (n, c) probabilities are changed; absent: classes without a photograph in the test split; unweighted:
    splits whose labels all weigh 1; groups: how many pairs of near-duplicates each split has.
    """
    generator = np.random.default_rng(0)
    parts, row = [], 0
    for split, count in zip(tables.SPLITS, counts, strict=True):
        labels = np.arange(count) % len(classes)
        if split == "test":
            labels = np.array([next(k for k in np.roll(range(len(classes)), -k) if k not in absent) for k in labels])
        ids = np.array([f"{split[:2]}{i:05}" for i in range(count)])
        weight = np.ones(count) if weights is None or split in unweighted else np.resize(weights, count)
        group = ids.copy()
        group[1 : 2 * groups : 2] = ids[0 : 2 * groups : 2]
        parts.append((ids, np.full(count, split), row + np.arange(count)[:, None], labels, weight, group))
        row += count
    examples = Examples(*map(np.concatenate, zip(*parts, strict=True)))
    photographs = examples.take(np.argsort(examples.image_ids))
    noise = generator.normal(size=(row, len(classes)))
    truth = np.eye(len(classes))[photographs.labels]
    features = np.zeros((row, 8), np.float16)
    features[photographs.rows] = generator.normal(size=(row, 8)) + 2 * np.resize(truth, (row, 8))
    probabilities = {}
    for model, by in zip(("head", "fine_tuned"), skill, strict=True):
        odds = np.exp(noise + by * truth)
        probabilities[model] = odds / odds.sum(axis=1, keepdims=True)
        if answer:
            probabilities[model] = answer(probabilities[model])
    ids = photographs.image_ids
    images = pl.DataFrame({"image_id": ids, "width": 300, "height": 200 + np.arange(row) % 2})
    images = images.with_columns(meta_camera=pl.Series(np.resize([source, "north"], row)))
    predicted = Predictions(photographs, classes, probabilities, generator.random(row), np.zeros(row, int))
    measured = measure.measure_models(
        predicted, photographs, features, images, settings=settings, head=HeadFit(None, [0.01])
    )
    chosen = review.choose_images(predicted, settings.shown)
    shown = sorted({int(i) for rows in chosen.values() for i in rows})
    pixels = np.full((16, 16, 3), 99, np.uint8) if readable else None
    cards = review.make_cards(
        predicted, review.nearest_training_images(features, photographs, predicted.rounds, shown),
        dict.fromkeys(range(row), pixels), dict.fromkeys(shown if maps and readable else (), np.eye(4)),
    )  # fmt: skip
    split = pl.DataFrame(
        {
            "image_id": ids,
            "label": [classes[k] for k in photographs.labels],
            "weight": photographs.weights,
            "group": photographs.groups,
            "split": photographs.splits,
        }
    )
    left_out = pl.DataFrame(list(missing), tables.MISSING, orient="row")
    alike = listing.groups(split.with_columns(alike="group", path="image_id"))
    return Results(
        source={"name": source, "license": "CC BY 4.0", "citation": f"{source} et al. 2019"},
        classes=classes,
        weighted=weights is not None,
        measured=measured,
        sheets={name: [cards[int(i)] for i in rows] for name, rows in chosen.items()},
        confused=confused(predicted, pixels),
        duplicates=duplicates,
        health=health.describe(images.with_columns(split["label"]), split, alike, left_out, classes),
        parameters={
            "model": {"backbone": "net", "licence": "Apache-2.0", "cut": None, "best_epoch": 3},
            "image": {"size": 16, "resize": "crop"},
            "fine_tune": {"epochs": 12, "rate": 1e-3},
            "evaluate": settings.model_dump(),
        },
        inputs={"data/split.csv": "0123456789abcdef"},
        computed_with=provenance.computed_with(),
        preset=preset,
        resize=resize,
        augmentations=jpeg(),
    )


def confused(predicted, pixels):
    models = types.SimpleNamespace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(review, "load_pixels", lambda _, positions: dict.fromkeys(positions, pixels))
        return review.confused_pairs(models, predicted, quality.MAX_CONFUSIONS_LISTED)


@functools.cache
def usual():
    """The results that most tests look at, and that none changes."""
    return results(missing=[("x", "x.jpg", "damaged"), ("y", "y.jpg", "damaged")], weights=(1.0, 0.5, 1.0))


@functools.cache
def usual_page():
    return page.render(usual())


def test_the_first_words_say_how_good_how_sure_and_whether_fine_tuning_helped():
    text = Page(usual_page()).sentence()
    test = usual().measured.metrics["fine_tuned"]["test"]
    low, high = (f"{100 * test[f'accuracy_{end}']:.1f}" for end in ("low", "high"))
    first = f"Of 60 photographs that it was never trained on, the fine-tuned model gets {100 * test['accuracy']:.1f} %"
    assert f"{first} right (95 % interval {low}–{high})." in text
    assert text.index(first) < text.index("ine-tuning") < text.index("Accuracy on the test split")


@pytest.mark.parametrize(
    ("interval", "p", "expected"),
    [
        ((0.04, 0.01, 0.07), 0.04, "Fine-tuning helped: 4.0 points more"),
        ((-0.04, -0.07, -0.01), 0.04, "Fine-tuning did harm: 4.0 points less"),
        ((0.04, 0.01, 0.07), 0.125, "Whether fine-tuning helped is not certain: it gets 4.0 points more right"),
        ((-0.04, -0.07, -0.01), 0.125, "Whether fine-tuning helped is not certain: it gets 4.0 points less right"),
        ((0.02, -0.01, 0.05), 0.04, "Whether fine-tuning helped is not certain: it gets 2.0 points more right"),
        ((0.0, -0.02, 0.02), 1.0, "leaves the head’s accuracy as it is"),
        ((0.02, None, None), 1.0, "this split cannot tell"),
    ],
)
def test_the_verdict_wants_both_the_interval_of_the_difference_and_mcnemars_test(monkeypatch, interval, p, expected):
    against = usual().measured.comparisons["fine_tuned_against_head"]
    monkeypatch.setitem(against, "mcnemar_p", p)
    values = dict(zip(("difference", "low", "high"), interval, strict=True))
    monkeypatch.setitem(against["differences"], "accuracy", values)
    assert expected in quality.verdict(usual())


def test_where_a_threshold_decides_report_and_card_say_what_their_figures_are_of_and_how_it_does():
    aimed = results(settings=SETTINGS.model_copy(update={"threshold": "recall:0.95"}))
    test = aimed.measured.thresholds["fine_tuned"]["test"]
    expected = (
        "Figures are of the likeliest class; defective is called above a threshold of its own, with a precision of "
    )
    expected += f"{100 * test.precision:.1f} % and a recall of {100 * test.recall:.1f} % on test."
    assert expected in Page(page.render(aimed)).sentence()
    assert expected in model_card.write(aimed).replace("\u202f", " ")
    assert "Figures are of the likeliest" not in page.render(usual()) + model_card.write(usual())


def test_a_threshold_close_to_0_or_1_is_not_rounded_to_it():
    assert [elements.probability(p) for p in (0.5, 0.9, 3e-7, 0.99995)] == ["0.500", "0.900", "3e-07", "0.99995"]


def test_the_card_names_the_epoch_that_was_kept_and_says_where_it_was_the_start():
    assert "fine-tuned behind `the input` (epoch 3, of at most 12)" in model_card.write(usual())
    parameters = usual().parameters
    parameters = parameters | {"model": parameters["model"] | {"best_epoch": 0}}
    card = model_card.write(dataclasses.replace(usual(), parameters=parameters))
    assert "(the start, which no epoch was better than, of at most 12)" in card


@pytest.mark.parametrize(
    ("rows", "counts", "expected"),
    [
        ([], [40, 30, 60], "Fits of so many classes would take minutes"),
        ([], [40, 30, 0], "Undefined for this split."),
        ([(10, 5), (20, 5)], [40, 30, 60], "It ends before all 40: larger parts would take minutes."),
        ([(20, 5), (40, 1)], [40, 30, 60], "the band reaches"),
    ],
)
def test_a_learning_curve_says_where_it_ends_and_why(rows, counts, expected):
    curve = [
        {"images": n, "draws": draws, "accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9} for n, draws in rows
    ]
    by_split = dict(zip(tables.SPLITS, ([n, 0] for n in counts), strict=True))
    statistics = dataclasses.replace(usual().health, counts=by_split)
    measured = dataclasses.replace(usual().measured, learning_curve=curve)
    text = trust._learning_curve(dataclasses.replace(usual(), measured=measured, health=statistics))
    assert expected in text
    assert ("It ends before" in expected) == ("It ends before" in text)


FOUND = {1: Needed(1.5, 1.2, 2.04), 2: None, 3: None}
END = End(measured=0.8, predicted=0.812, low=0.7, high=0.9)


@pytest.mark.parametrize(
    ("forecast", "expected"),
    [
        (Forecast("few"), "cannot be said: there are too few to draw parts of four sizes"),
        (Forecast("many"), "cannot be said: of so many classes, parts of four sizes cannot be drawn. The smallest has"),
        (Forecast("flat", END), "cannot be said: between the sizes, the accuracy does not rise by more than chance"),
        (Forecast("missed", END), "the largest should get 70.0\u202f% to 90.0\u202f% right, and it gets 80.0\u202f%"),
        (Forecast(None, END, FOUND), "For one point more it takes about 200 photographs in all (160 to 270)."),
        (Forecast(None, END, FOUND), "For two or three points more it cannot be said: the interval is too wide."),
        (Forecast(None, END, FOUND), "predicted from the others, it is off by 1.2 points."),
    ],
)
def test_the_report_says_how_many_photographs_bring_points_or_why_it_cannot_be_said(forecast, expected):
    by_split = dict(zip(tables.SPLITS, ([n, 0] for n in (70, 30, 30)), strict=True))
    statistics = dataclasses.replace(usual().health, counts=by_split)
    measured = dataclasses.replace(usual().measured, forecast=forecast)
    assert expected in trust._learning_curve(dataclasses.replace(usual(), measured=measured, health=statistics))


def test_with_folds_the_report_says_whose_accuracy_the_intervals_hold():
    statistics = dataclasses.replace(usual().health, counts={f"fold {i}": [9, 9] for i in range(5)})
    assert "Bayle" in data.write_provenance(dataclasses.replace(usual(), health=statistics))
    assert "Bayle" not in data.write_provenance(usual())


def test_what_lies_ahead_is_drawn_beside_what_was_measured():
    curve = [{"images": n, "draws": 1, "accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9} for n in (20, 40)]
    ahead = [{"images": n, "accuracy": 0.85, "accuracy_low": 0.8, "accuracy_high": 0.9} for n in (40, 80, 160)]
    measured = dataclasses.replace(usual().measured, learning_curve=curve, forecast=Forecast(None, END, FOUND, ahead))
    drawing = trust._learning_curve(dataclasses.replace(usual(), measured=measured))
    assert drawing.count('<polyline class="head"') == drawing.count('<polyline class="ahead"') == 1
    assert ">160</text>" in drawing


def test_each_part_of_a_grid_is_one_figure_so_that_a_note_stands_below_its_own():
    depth, parts = 0, []
    for tag in re.findall(r"<(/?(?:div|figure|p|details)\b[^>]*)>", section(usual_page(), "comparisons")):
        if depth == 1 and not tag.startswith("/"):
            parts.append(tag)
        if depth or tag == 'div class="grid two"':
            depth += -1 if tag.startswith("/") else 1
    assert parts == ["figure"] * 2


def test_every_section_is_in_the_table_of_contents():
    tags = Page(usual_page()).tags
    links = [attrs["href"] for tag, attrs in tags if tag == "a"]
    contents = ["#summary", *(f"#{attrs['id']}" for tag, attrs in tags if tag == "section")]
    assert links[-len(contents) :] == contents
    assert contents[1:] == [f"#{key}" for key in page.SECTIONS]
    assert {*links} <= {f"#{attrs['id']}" for _, attrs in tags if "id" in attrs}


def test_every_measure_of_both_models_stands_in_the_metrics_with_its_interval():
    rows = [[cell.replace("\u202f", " ") for cell in row] for row in Page(usual_page()).rows]
    metrics = usual().measured.metrics
    for split in ("test", "validation"):
        for suffix in ("", "_weighted"):
            for key, (name, unit, better) in quality.MEASURES.items():
                if f"{key}{suffix}" not in metrics["head"][split]:
                    continue
                cells = [of(metrics[model][split], f"{key}{suffix}", unit) for model in ("head", "fine_tuned")]
                assert [row for row in rows if row[0] == f"{name} {better}" and row[1:3] == cells], (split, key, suffix)


def of(values, key, unit):
    value, *ends = (values[f"{key}{end}"] for end in ("", "_low", "_high"))
    assert value is not None
    ends = ends if None not in ends else []
    if unit:
        return f"{100 * value:.1f} %" + "–".join(f"{100 * end:.1f}" for end in ends)
    return f"{value:.3f}" + "–".join(f"{end:.3f}" for end in ends)


def test_the_confusion_matrix_counts_the_photographs():
    rows = [[cell.replace("\u202f", " ") for cell in row] for row in Page(usual_page()).rows]
    pairs = [(row["actual"], row["predicted"]) for row in usual().measured.curves["confusion"]["head"]]
    right, wrong = pairs.count(("intact", "intact")), pairs.count(("intact", "defective"))
    share = right / (right + wrong)
    assert ["intact", f"{right}{100 * share:.1f} %", f"{wrong}{100 * (1 - share):.1f} %"] in rows


def test_each_curve_has_a_line_for_each_model():
    tags = Page(usual_page()).tags
    charts = [attrs["aria-label"] for tag, attrs in tags if tag == "svg" and attrs.get("class") == "lines"]
    assert charts == [
        "ROC",
        "Precision and recall",
        "What more labels bring to logistic regression on the frozen features",
        "As trained",
        "With the temperature",
    ]
    assert [attrs["class"] for tag, attrs in tags if tag == "polyline"].count("fine_tuned") == 4


def test_a_card_shows_its_photograph_the_map_the_answers_and_the_neighbours():
    card = usual().sheets["mistakes"][0]
    parts = usual_page().split('<figure class="card">')
    html = next(part for part in parts if part.startswith(f"<figcaption><bdi>{card.image_id}</bdi>")).partition(
        "</figure>"
    )[0]
    assert len(re.findall("<img", html)) == 2 + review.NEIGHBOURS
    assert f"{100 * card.predicted['fine_tuned'][1]:.1f}" in html
    assert all(neighbour.image_id in html for neighbour in card.neighbours)


def with_folds():
    """The usual results, as if they were of five folds."""
    decided = {"count": 5, "kept": "head", "asked_for": False, "loss_change": 0.013, "standard_error": 0.047}
    measured = dataclasses.replace(usual().measured, metrics=usual().measured.metrics | {"folds": decided})
    return dataclasses.replace(usual(), measured=measured)


def test_with_folds_the_map_is_said_to_be_of_the_model_that_answers():
    said = "The colours are of the model that predicts, which had not seen the photograph."
    assert said in sheets.write_sheets(with_folds())
    assert said not in sheets.write_sheets(usual())


def test_with_folds_the_temperatures_that_are_measured_are_not_said_to_be_the_saved_one():
    said = "Each fold is measured with a temperature of its own"
    temperature = usual().measured.metrics["calibration"]["head"]["temperature"]
    folded, plain = (Page(trust.write_calibration(of)) for of in (with_folds(), usual()))
    assert said in folded.sentence() and said not in plain.sentence()
    own = f"Head, each fold with its own temperature (as saved: {temperature:.3f})"
    assert own in folded.sentence() and f"Head, temperature {temperature:.3f}" in plain.sentence()
    assert "Where it was chosen" in folded.sentence() and "Where it was chosen" not in plain.sentence()


def test_with_folds_the_report_says_when_the_fine_tuned_model_is_saved():
    text = quality.describe_folds(with_folds())
    assert "with the temperatures of the folds, fine-tuning changed the loss by +0.013 (standard error 0.047)" in text
    assert "and most folds keep an epoch of fine-tuning." in text


def test_photographs_that_cannot_be_read_are_a_line_and_a_frame():
    text = Page(page.render(results(readable=False))).sentence()
    assert "photographs could not be read when this report was written" in text
    assert "not readable" in text


def test_a_model_without_a_map_is_said():
    assert "keeps no map of where it looked" in Page(page.render(results(maps=False))).sentence()


def test_what_was_left_out_is_counted_by_its_reason():
    assert ["damaged", "2"] in Page(usual_page()).rows


def test_parameters_and_hashes_are_listed():
    rows = Page(usual_page()).rows
    for row in (["fine_tune.epochs", "12"], ["evaluate.threshold", "0.5"], ["data/split.csv", "0123456789abcdef"]):
        assert row in rows


NASTY = """<b>&"'"""
ESTIMATES = {"head": Estimate(0.5, 0.4, 0.6)}
PLANE = Plane(axes.unit_axis(NASTY), axes.unit_axis(NASTY))
PARTS = {  # each part of the page → it with a nasty text wherever it takes one
    elements.paragraph: lambda text: elements.paragraph(text) + elements.paragraph(text, text),
    elements.table: lambda text: elements.table(text, [text], [text]),
    elements.row: lambda text: elements.row(text, [text]),
    elements.row_group: lambda text: elements.row_group(text, 2),
    elements.header: lambda text: elements.header(text, [text]),
    elements.cell: lambda text: elements.cell(text, text, bold=True),
    elements.shaded_cell: lambda text: elements.shaded_cell(text, text, 0.5, text),
    elements.empty_cell: lambda text: elements.empty_cell(text),
    elements.details: lambda text: elements.details(text, text),
    elements.isolated: lambda text: elements.isolated(text),
    elements.enumeration: lambda text: elements.enumeration([text, text], text) + elements.enumeration([text], "or"),
    elements.description_list: lambda text: elements.description_list([(text, text)]),
    elements.figure: lambda text: elements.figure(text, text),
    elements.grid: lambda text: elements.grid(text, [text, text]),
    elements.picture: lambda text: elements.picture(jpeg(), text, 8) + elements.picture(None, text, 8),
    elements.rest: lambda text: elements.rest(2, 1, text, text),
    charts.intervals: lambda text: charts.intervals([IntervalRow(text, text, {text: ESTIMATES["head"]})]),
    charts.lines: lambda text: charts.lines(text, {text: [Point(0.1, 0.2, 0.1, 0.3, 0.5), Point(0.2, 0.3)]}, PLANE),
    axes.svg_file: lambda text: axes.svg_file(text, "", (1, 1), [text]),
}
WITHOUT_TEXT = {elements.legend, charts.undefined}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_a_part_of_the_page_escapes_the_texts_that_it_takes(part):
    html = PARTS[part](NASTY)
    assert str(escape(NASTY)) in html
    assert not re.search(r"""<b>&(?!lt;)|&["']|"'""", html)


def test_no_part_of_the_page_is_left_out():
    def returns_markup(function):
        return inspect.isfunction(function) and function.__annotations__.get("return") is Markup

    parts = {f for module in (elements, charts) for _, f in inspect.getmembers(module, returns_markup)}
    public = {function for function in parts if not function.__name__.startswith("_")}
    assert public == (PARTS.keys() | WITHOUT_TEXT) - {axes.svg_file}


@pytest.mark.parametrize("part", [elements.paragraph, elements.figure, elements.cell], ids=lambda part: part.__name__)
def test_what_is_markup_already_is_not_escaped_again(part):
    assert "<code>&amp;</code>" in PARTS[part](Markup("<code>&amp;</code>"))


def test_class_names_are_escaped_in_every_section_card_and_chart():
    classes = (NASTY, f"{NASTY}2", "c")
    nasty = results(classes=classes, source=NASTY, missing=[("x", NASTY, NASTY)], weights=(1.0, 0.5, 1.0))
    html = page.render(nasty)
    parsed = Page(html)
    assert NASTY not in html and NASTY not in model_card.write(nasty)
    labels = [attrs[name] for _, attrs in parsed.tags for name in ("alt", "aria-label") if name in attrs]
    assert any(label.endswith(NASTY) for label in labels)
    assert not [attrs for _, attrs in parsed.tags if any("&" in name or "'" in name for name in attrs)]
    for key in ("summary", "classes", "slices", "photographs", "data", "provenance"):
        section = re.search(rf'id="{key}">(.*?)</(section|header)>', html, re.DOTALL)[1]
        assert str(escape(NASTY)) in section, key


def test_every_text_of_the_data_is_escaped():
    evil = results(classes=("intact", EVIL), source=EVIL, missing=[("x", EVIL, EVIL)])
    html = page.render(evil)
    assert "<script" not in html
    assert "".join(Page(html).text).count(EVIL) >= 20  # wherever the names above are shown
    card = model_card.write(evil)
    assert "<script" not in card and EVIL not in card
    assert len({line.count("|") - line.count("\\|") for line in card.splitlines() if line.startswith("| intact")}) <= 2
    rows = [line for line in card.splitlines() if line.startswith("|")]
    pipes = {name: {row.count("|") - row.count("\\|") for row in rows if name in row} for name in ("intact", "alert")}
    assert pipes["intact"] and pipes["intact"] <= pipes["alert"] <= {4, 5, 6}  # of the three tables that name it


def test_kernels_and_versions_that_computed_are_named():
    html, card = usual_page(), model_card.write(usual())
    for name, value in data.computed_with(usual()):
        assert re.search(rf"<code>{re.escape(name)}</code>.*?<code>.*?{re.escape(value)}", html), name
        assert f"| `{name}` | {value} |" in card
    assert {"kernels", "numpy", "tensorflow"} <= dict(data.computed_with(usual())).keys()


def test_nothing_is_loaded():
    tags = Page(usual_page()).tags
    assert not {"script", "iframe", "object"} & {tag for tag, _ in tags}
    sources = [attrs[name] for _, attrs in tags for name in ("src", "srcset", "href", "data") if name in attrs]
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"url\(|@import|/tmp|/home|/work", usual_page())
    assert any("default-src 'none'" in attrs.get("content", "") for _, attrs in tags)


def test_the_same_results_give_the_same_bytes():
    assert page.render(usual()) == usual_page()
    assert model_card.write(usual()) == model_card.write(usual())


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("# a", "\\# a"),
        ("1. a", "1\\. a"),
        ("- a", "\\- a"),
        ("0.5", "0.5"),
        ("a\n\n# b", "a # b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("é漢", "é漢"),
        ("a|b `c` *d* _e_ [f] ~g~ $h$", "a\\|b \\`c\\` \\*d\\* \\_e\\_ \\[f\\] \\~g\\~ \\$h\\$"),
    ],
)
def test_text_on_the_model_card_has_no_markup(text, written):
    assert model_card.escape_markdown(text) == written


def test_the_model_card_holds_the_metrics_the_data_and_how_to_use_it():
    card = model_card.write(usual())
    test = usual().measured.metrics["fine_tuned"]["test"]
    assert f"{100 * test['accuracy']:.1f}\u202f%" in card
    for text in (
        "CC BY 4",
        "weights of its backbone are under Apache-2.0",
        "decision.json",
        "0123456789abcdef",
        "| intact |",
    ):
        assert text in card


def test_the_model_card_says_whether_mirror_images_are_asked():
    assert "mirror images" not in model_card.write(usual())
    flipped = results(settings=SETTINGS.model_copy(update={"test_time_flips": "both"}))
    assert "its mirror images (test-time flips: both)" in model_card.write(flipped)
    text = Page(page.render(flipped)).sentence()
    assert "means over a photograph and its mirror images (both)" in text
    assert "where it looked in the photograph itself" in text


# --- Bad input ---

HARD = {
    "a class that test lacks": {"classes": ("a", "b", "c"), "absent": (1,)},
    "a test split of one class": {"absent": (0,)},
    "a test split of two photographs": {"counts": (40, 30, 2)},
    "one class is always the answer": {"answer": lambda p: np.tile([0.9, 0.1], (len(p), 1))},
    "all probabilities are equal": {"answer": lambda p: np.full_like(p, 1 / p.shape[1])},
    "probabilities of 0 and 1": {"answer": lambda p: np.eye(p.shape[1])[p.argmax(axis=1)]},
    "no mistake": {"skill": (100.0, 100.0)},
    "classes in other scripts": {"classes": ("Größe ü", "太阳能电池", "خلية", "🦙" * 40), "source": "中文 عربى"},
    "labels of test that weigh nothing": {"weights": (0.0,), "unweighted": ("train", "validation")},
    "nothing to be shown": {"settings": SETTINGS.model_copy(update={"shown": 0})},
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.filterwarnings("error")
def test_a_hard_case_is_a_whole_report_without_nan(case):
    hard = results(**HARD[case])
    html, card = page.render(hard), model_card.write(hard)
    Page(html)
    assert not re.search(r"\b(nan|NaN|inf|None)\b", re.sub('base64,[^"]*', "", html) + card)
    json.dumps(hard.measured.metrics, allow_nan=False)


@functools.cache
def many_classes(count):
    names = tuple(f"class {i:05}" for i in range(count))
    return results(classes=names, counts=(count, 60, 60), settings=SETTINGS.model_copy(update={"shown": 1}))


def test_many_classes_are_cut_and_what_is_left_out_is_said():
    html = page.render(many_classes(200))
    text = Page(html).sentence()
    assert f"{data.MAX_CLASSES_LISTED} of 200 classes" in text
    assert re.search(rf"{quality.MAX_CONFUSIONS_LISTED} of \d+ pairs of classes that are confused", text)
    assert "140 classes without a test photograph are left out" in text
    assert len(html) < 300_000
    assert len(model_card.write(many_classes(200))) < 30_000


def test_a_report_of_more_classes_grows_by_a_short_row_each_and_ends(monkeypatch):
    fewer, more = (len(page.render(many_classes(count))) for count in (60, 200))
    assert more - fewer < 200 * (200 - 60)
    monkeypatch.setattr(quality, "MAX_CLASSES_FOLDED", 50)
    assert len(page.render(many_classes(200))) < fewer
    assert "50 of 200 classes are shown" in Page(page.render(many_classes(200))).sentence()


# --- Classes and confusions ---


@functools.cache
def some_classes(count=6):
    names = tuple(f"kind {i}" for i in range(count))
    return results(classes=names, counts=(60, 60, 120), skill=(1.0, 1.5))


def section(html, key):
    return re.search(rf'<section id="{key}">(.*?)</section>', html, re.DOTALL)[1]


@pytest.mark.parametrize("count", [2, 6, 20])
def test_the_worst_class_stands_first_in_the_report_and_is_named_at_its_top(count):
    many = some_classes(count)
    rows = {row["class"]: row for row in many.measured.per_class["fine_tuned"]}
    html = page.render(many)
    names = re.findall(r'<th scope="row(?:group)?"(?: colspan="4")?><bdi>(kind \d+)</bdi>', section(html, "classes"))
    listed = names[: min(count, quality.MAX_CLASSES_LISTED)]
    highs = [rows[name]["recall_high"] for name in listed]
    assert len(listed) == count and highs == sorted(highs) and highs[0] < highs[-1]
    worst = rows[listed[0]]
    found = f"The weakest class is {listed[0]}: {round(worst['recall'] * worst['support'])} of {worst['support']} are"
    assert found in Page(html).sentence()


def test_a_confusion_matrix_leaves_zeros_blank_and_shades_errors_alone():
    html = section(page.render(some_classes()), "classes")
    matrix = html[html.index('class="matrix') :].partition("</table>")[0]
    cells = re.findall(r'<td class="(right|wrong)( none)?"(?: style="--shade:([\d.]+)")?>(.*?)</td>', matrix)
    assert len(cells) == 36
    assert {shade for kind, _, shade, _ in cells if kind == "right"} == {"0.000"}
    assert max(float(shade) for kind, _, shade, _ in cells if kind == "wrong" and shade) == 1
    blank = [text for _, none, _, text in cells if none]
    assert blank and not any(blank)
    assert not [text for *_, text in cells if text.startswith("0<")]


def test_classes_that_are_confused_stand_together():
    counts = collections.Counter({("a", "d"): 5, ("d", "a"): 4, ("c", "a"): 3, ("b", "b"): 50})
    assert quality.order_by_confusion(counts, "abcd") == ["c", "a", "d", "b"]
    assert quality.order_by_confusion(collections.Counter(), "bac") == ["b", "a", "c"]


def test_many_classes_list_the_pairs_that_are_confused_most_each_with_a_photograph():
    many = some_classes(20)
    errors = collections.Counter(
        (row["actual"], row["predicted"])
        for row in many.measured.curves["confusion"]["fine_tuned"]
        if row["actual"] != row["predicted"]
    )
    html = section(page.render(many), "classes")
    assert [pair.count for pair in many.confused] == [n for _, n in errors.most_common(len(many.confused))]
    assert all(errors[pair.actual, pair.predicted] == pair.count for pair in many.confused)
    assert html.count('<div class="confused"><img') == len(many.confused) and "matrix" not in html


def test_of_more_than_two_classes_the_curve_says_how_right_the_surest_answers_are():
    six = some_classes()
    html = section(page.render(six), "curves")
    assert "Accuracy among the surest photographs" in html and "ROC" not in html
    half = next(row for row in six.measured.curves["coverage"]["fine_tuned"] if row["coverage"] >= 0.5)
    assert half["coverage"] == 0.5  # of 120
    right = round(60 * half["accuracy"])
    assert 30 < right < 60
    assert f"Of the surest 50\u202f%, 60 photographs, the fine-tuned model gets {right} right." in html


def test_slices_that_are_too_small_are_counted_and_not_shown():
    small = results(source="mono", counts=(40, 30, 12))
    assert small.measured.small_slices == 4 and not small.measured.slices["fine_tuned"]
    assert "4 slices of fewer than 10 photographs are left out" in Page(page.render(small)).sentence()


def test_without_slices_the_report_does_not_say_that_the_photographs_are_alike():
    measured = dataclasses.replace(usual().measured, slices={"head": [], "fine_tuned": []}, small_slices=0)
    said = trust.write_slices(dataclasses.replace(usual(), measured=measured))
    assert "Neither a column that the source gives nor the size has two values of 10 tested photographs or more" in said


def test_near_duplicates_are_counted_shown_and_named_where_they_were_left_out():
    assert "#duplicates" not in usual_page()
    grouped = results(groups=3, duplicates=Duplicates(5, jpeg(77)))
    html = page.render(grouped)
    text = Page(html).sentence()
    assert "18 photographs share a group with another" in text and "9 groups, the largest of 2" in text
    assert "No group stands in two splits." in text
    assert (
        "5 photographs were left out of training" in text
        and "no photograph, but for those of groups that are held out" in text
    )
    assert elements.picture(jpeg(77), "The largest groups", 924) in html
    assert "9 groups of near-duplicates with different labels" in text and "One of the labels may be wrong." in text
    across = dataclasses.replace(grouped, health=dataclasses.replace(grouped.health, across_splits=4))
    text = Page(page.render(across)).sentence()
    assert "4 photographs are of groups in several splits" in text and "No group stands" not in text


def test_the_card_calls_no_group_of_ones_own_near_duplicates():
    card = model_card.write(results(groups=3, duplicates=Duplicates(5, None)))
    assert "share a group with another: they are near-duplicates, or the source names the group; no group is" in card
    assert "5 photographs of groups that are held out were left out of training." in card


@pytest.mark.parametrize(("looked_for", "expected"), [(True, "none were found"), (False, "none were looked for")])
def test_without_near_duplicates_the_report_says_whether_they_were_looked_for(looked_for, expected):
    alone = dataclasses.replace(usual(), duplicates=Duplicates(0, None, looked_for))
    assert f"Near-duplicates{expected}" in Page(page.render(alone)).sentence().replace(
        "Near-duplicates ", "Near-duplicates"
    )


def test_an_extended_model_is_not_called_fine_tuned():
    metrics = usual().measured.metrics | {"extension": {"test": {"agreement": None, "accuracy_after": None}}}
    extended = dataclasses.replace(usual(), measured=dataclasses.replace(usual().measured, metrics=metrics))
    said = Page(quality.write_summary(extended)).sentence()
    assert "the extended model gets" in said and "Nothing was fine-tuned" in said


def test_the_majority_is_that_of_the_weights_where_labels_have_some():
    assert "The majority is the class of the largest weight in training." in usual_page()
    assert "The majority is the most frequent class in training." in page.render(results())


def test_a_threshold_that_was_set_is_not_said_to_be_chosen():
    assert "lies above 0.500.\n" in model_card.write(usual()) and "Aim on" not in usual_page()
    assert "lies above the threshold, a number that was set." in usual_page()
    aimed = results(settings=SETTINGS.model_copy(update={"threshold": "best_f1"}))
    assert "(aim: best\\_f1; chosen on validation)." in model_card.write(aimed)
    assert "Aim on validation: <code>best_f1</code>" in page.render(aimed)


def test_a_card_says_that_a_near_duplicate_has_another_label():
    cards = [card for sheet in usual().sheets.values() for card in sheet]
    disputed = [(cards[0].image_id, "another")]
    named = dataclasses.replace(usual(), health=dataclasses.replace(usual().health, disputed=disputed))
    times = sum(card.image_id == cards[0].image_id for card in cards)
    assert times < len(cards)
    assert sheets.write_sheets(named).count("a near-duplicate has another label") == times
    assert "a near-duplicate has another label" not in usual_page()


def test_photographs_that_are_smaller_than_the_views_are_said_to_be_enlarged():
    def said(size, resize="squash", sizes=2):
        parameters = usual().parameters | {"image": {"size": size, "resize": resize}}
        found = dataclasses.replace(usual().health, distinct_sizes=sizes)
        return data.write_data(dataclasses.replace(usual(), parameters=parameters, health=found))

    median = usual().health.shorter_side[1]
    assert "enlarged" not in said(median)
    assert f"for the network, of {3 * median} pixels, half of them enlarged 3.0 times or more<" in said(3 * median)
    assert f"for the network, of {3 * median} pixels, enlarged 3.0 times<" in said(3 * median, sizes=1)
    assert "enlarged" not in said(3 * median, "pad")


def test_with_folds_the_photographs_are_counted_by_fold():
    counts = {f"fold {i}": (20 + i, 10) for i in range(3)}
    folded = results(groups=3)
    folded = dataclasses.replace(folded, health=dataclasses.replace(folded.health, counts=counts))
    text = Page(page.render(folded)).sentence()
    assert "No group stands in two folds." in text and "Of 93 photographs" in text
    assert '<th class="number" scope="col">fold 2</th>' in page.render(folded)
    assert "no group is in two folds." in model_card.write(folded)


def test_the_report_says_which_augmentation_was_taken_and_why():
    assert "The preset upright, as set in the parameters" in Page(usual_page()).sentence()
    compared = {"any_way_up": {"against": "upright", "validation_loss_change": -0.0312, "standard_error": 0.01}}
    text = Page(page.render(results(preset=PresetChoice("any_way_up", compared)))).sentence()
    assert "any_way_up against upright: validation loss −0.031 (standard error 0.010)" in text
    assert "No augmented copies" in page.render(results(preset=PresetChoice(None, None)))
    assert "no heads of augmented photographs were trained" in page.render(results(preset=PresetChoice("upright", {})))
    one_group = {"any_way_up": compared["any_way_up"] | {"standard_error": None}}
    assert "(standard error unknown)" in page.render(results(preset=PresetChoice("upright", one_group)))


def test_the_report_says_how_photographs_were_made_square_and_why():
    assert "made square" not in usual_page()
    choice = {"resize": "squash", "reason": "", "change": -0.0312, "standard_error": 0.01}
    text = Page(page.render(results(resize=choice))).sentence()
    assert "made square by squash, as a linear head on validation chose: squash against crop" in text
    assert "squash against crop, validation loss −0.031 (standard error 0.010)" in text
    square = {"resize": "crop", "reason": "all photographs are square", "change": None, "standard_error": None}
    assert "made square by crop: all photographs are square." in Page(page.render(results(resize=square))).sentence()


def test_a_name_from_right_to_left_turns_nothing_around_it_wherever_it_stands():
    classes, source = ("خلية", "قط"), "מקור"
    settings = SETTINGS.model_copy(update={"threshold": "recall:0.95"})
    hebrew = results(
        classes=classes, source=source, missing=[("x", source, source)], settings=settings, weights=(1.0, 0.5)
    )
    html = page.render(hebrew)
    head, _, body = html.partition("</title>")
    assert f"{classes[0]} or {classes[1]}?" in head and "bdi" not in head
    text = re.sub(r"<[^>]*>", lambda tag: tag[0] if "bdi" in tag[0] else "", body)
    for name in (*classes, source):
        assert text.count(name) == len(re.findall(rf"<bdi>[^<]*{name}[^<]*</bdi>", text)) > 2


def test_one_accuracy_has_one_interval_wherever_it_stands():
    """Near-duplicates make the plain interval of images as independent, and that of groups, two different ones."""
    grouped = results(groups=4)
    for model in ("head", "fine_tuned"):
        test = grouped.measured.metrics[model]["test"]
        low, high = test["accuracy_low"], test["accuracy_high"]
        assert (low, high) == (test["accuracy_weighted_low"], test["accuracy_weighted_high"])
        interval = f"{100 * low:.1f}–{100 * high:.1f}"
        assert interval in page.render(grouped) and interval in model_card.write(grouped)
        assert f"({low:.1%} to {high:.1%})" in measure.summary(test)


def test_each_model_is_resampled_once_for_all_its_intervals_and_comparisons(monkeypatch):
    """The areas under the curves of 1,000 classes take minutes each time."""
    calls = []
    monkeypatch.setattr(measure, "resample", lambda *args, areas: calls.append(areas) or resample(*args, areas=areas))
    results()
    assert len(calls) == 12  # both models, calibrated ones and baselines, on two splits
    assert sum(calls) == 6  # both models on two splits, the baselines on test


# --- In a browser ---

WIDTHS = (320, 390, 768, 1280)
HARNESS = """<!doctype html><body><script>
const widths = %s, frames = [];
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = "900px"; frame.src = "report.html";
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    const wide = [...page.querySelectorAll("body *")].filter(e => {
      const box = e.getBoundingClientRect(), inside = e.parentElement.closest(".scroll");
      return !inside && box.width && (box.right > root.clientWidth + 1 || box.left < -1);
    });
    frames.push({width, client: root.clientWidth, scroll: root.scrollWidth,
      wide: wide.map(e => e.outerHTML.slice(0, 200)),
      fetched: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name),
      broken: [...page.images].filter(i => !i.naturalWidth).length, pictures: page.images.length});
    if (frames.length === widths.length) document.body.textContent = JSON.stringify(frames);
  };
  document.body.append(frame);
}
</script></body>"""


def check_in_browser(text: str, folder: Path) -> None:
    """Show a report at all WIDTHS in Chromium: nothing may overflow, be fetched, be broken or be complained of."""
    (folder / "report.html").write_text(text, encoding="utf-8")
    (folder / "harness.html").write_text(HARNESS % json.dumps(WIDTHS), encoding="utf-8")
    browser = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom",
         "--enable-logging=stderr", "--virtual-time-budget=20000", f"--user-data-dir={folder / 'profile'}",
         f"file://{folder / 'harness.html'}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    body = re.search(r"<body>(\[.*\])</body>", browser.stdout, re.DOTALL)
    assert body, browser.stdout[-500:] + browser.stderr[-500:]
    frames = json.loads(body[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert sorted(frame["width"] for frame in frames) == sorted(WIDTHS)
    for frame in frames:
        assert frame["scroll"] <= frame["client"], frame
        assert frame["wide"] == [], frame["wide"]
        assert frame["fetched"] == []
        assert frame["pictures"] > 10 and frame["broken"] == 0
    assert not [line for line in browser.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium is installed")
def test_in_a_browser_nothing_overflows_nothing_is_fetched_and_nothing_is_complained_of(tmp_path):
    long = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
    wide = results(classes=("intact", long, "third"), source=long, weights=(1.0, 0.5, 1.0))
    check_in_browser(page.render(wide), tmp_path)


def test_sets_are_shown_by_level_and_the_card_says_what_they_hold():
    run = results(("a", EVIL, "c"), counts=(90, 150, 150))
    scores = run.measured.metrics["sets"]["fine_tuned"]
    shown = Page(sets.write_sets(run))
    percents = [f"{100 * scores[level]['coverage']:.1f}" for level in ("0.9", "0.95", "0.99")]
    assert [row[1].replace("\u202f", " ").split(" %")[0] for row in shown.rows[1:4]] == percents
    assert [row[2] for row in shown.rows[1:4]] == [f"{scores[key]['mean_size']:.2f}" for key in ("0.9", "0.95", "0.99")]
    assert [row[0] for row in shown.rows[5:]].count(EVIL) == 1 and {row[3] for row in shown.rows[5:]} == {"own"}
    assert "the photographs are too few" not in shown.sentence()
    assert f"Of the test split, {percents[1]} % had their label in their set" in shown.sentence()
    card = model_card.write(run).replace("\u202f", " ")
    assert "`predict.py --sets 0.95` gives each photograph" in card and f"{percents[1]} % had their label" in card


def test_too_few_photographs_for_sets_and_sets_that_break_their_promise_are_said():
    few = Page(sets.write_sets(results(counts=(40, 18, 60)))).sentence()
    assert "Too few photographs were held out for that: each set has all classes." in few
    assert "For 95 % and 99 % the photographs are too few" in few
    run = results(counts=(40, 100, 60))
    made = run.measured.sets["fine_tuned"]

    def said_of(**scores):
        changed = dataclasses.replace(made, scores=made.scores | {0.95: made.scores[0.95] | scores})
        measured = dataclasses.replace(run.measured, sets={"fine_tuned": changed})
        return Page(sets.write_sets(dataclasses.replace(run, measured=measured))).sentence()

    low = {"coverage": 0.5, "coverage_low": 0.4, "coverage_high": 0.6}
    assert "less than promised: these photographs are harder" in said_of(**low)
    folds = {"folds": {"count": 5, "kept": "fine_tuned"}}
    run = dataclasses.replace(run, measured=dataclasses.replace(run.measured, metrics=run.measured.metrics | folds))
    assert "less than promised: the folds differ from one another." in said_of(**low)
    assert "less than promised" not in said_of()
    assert "No photograph was held out to measure it." in said_of(**dict.fromkeys(made.scores[0.95]))
    extended = dataclasses.replace(run.measured, metrics=run.measured.metrics | {"extension": {"test": {}}})
    assert "An extended model has no sets" in sets.write_sets(dataclasses.replace(run, measured=extended))


def test_what_is_approximate_for_so_many_photographs_is_said():
    exact = results()
    measured = dataclasses.replace(exact.measured, neighbours_drawn=20_000, resamples=60, area_resamples=50)
    drawn, whole = (Page(page.render(r)).sentence() for r in (dataclasses.replace(exact, measured=measured), exact))
    assert "among 20,000 of the training photographs, drawn" in drawn
    assert "So many photographs are tested that intervals come from 60 of 100 resamples, those of areas under" in drawn
    assert "drawn, since there are so many" not in whole and "resamples, those" not in whole
