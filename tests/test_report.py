"""The report is one whole, safe, deterministic HTML file."""

import copy
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from thaw import metrics, plots, report

PNG = b"\x89PNG\r\n\x1a\n picture"
VOID = {"meta", "img"}


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


def arguments(tmp_path, classes=("intact", "defective"), count=120):
    """Return what `evaluate` would hand to `render`, of a head and of a better fine-tuned model."""
    generator = np.random.default_rng(0)
    results = {"head": {}, "fine_tuned": {}}
    for split in ("validation", "test"):
        labels = generator.integers(0, len(classes), count)
        noise, models = generator.normal(size=(count, len(classes))), {}
        for model, skill in (("head", 1.0), ("fine_tuned", 2.0)):
            odds = np.exp(noise + skill * np.eye(len(classes))[labels])
            models[model] = odds / odds.sum(axis=1, keepdims=True)
            results[model][split] = metrics.classification_metrics(
                models[model], labels, np.ones(count), np.arange(count), bins=10, bootstrap=200, seed=0
            )
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    return {
        "title": "Solar cells",
        "classes": classes,
        "metrics": results,
        "plots": plots.write_plots(tmp_path, models, labels, classes, bins=10),
        "data": report.Data(
            "ELPV",
            "CC BY-NC-SA 4.0",
            "Deitsch et al. 2019, https://doi.org/10",
            {"train": counts, "test": counts},
        ),
        "parameters": {
            "fine_tune": {"freeze_depth": "block5", "epochs": 12, "rate": 1e-3},
            "augment": {"flip": True},
        },
        "pictures": [report.Picture(PNG, "Augmented copies")],
    }


def test_the_result_is_one_sentence_with_both_accuracies_and_intervals(tmp_path):
    given = arguments(tmp_path)
    for model, accuracy in (("head", 0.8642), ("fine_tuned", 0.8871)):
        given["metrics"][model]["test"] |= {
            "accuracy": accuracy,
            "accuracy_low": accuracy - 0.03,
            "accuracy_high": accuracy + 0.02,
        }
    text = "".join(Page(report.render(**given)).text).replace("\u202f", " ")
    assert (
        "Of 120 test images, the fine-tuned network predicts 88.7 % correctly (95 % interval 85.7–90.7); "
        "the head on the frozen backbone, 86.4 % (83.4–88.4)."
    ) in text
    assert "by +2.3 points; the two intervals overlap" in text


def test_every_section_is_in_the_table_of_contents(tmp_path):
    page = Page(report.render(**arguments(tmp_path)))
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    sections = [f"#{attrs['id']}" for tag, attrs in page.tags if tag == "section"]
    assert links == sections
    assert links == [f"#{n}" for n in ("result", "metrics", "confusion", "curves", "data", "parameters", "pictures")]


def test_the_metrics_table_shows_each_model_on_each_split(tmp_path):
    given = arguments(tmp_path)
    given["metrics"]["head"]["validation"]["log_loss"] = 0.5
    given["metrics"]["fine_tuned"]["validation"]["log_loss"] = 0.25
    given["metrics"]["fine_tuned"]["test"]["log_loss"] = None
    given["metrics"]["head"]["test"]["log_loss"] = 0.75
    page = report.render(**given)
    assert ["Log loss\u00a0↓", "0.500", "0.250", "0.750", "–"] in Page(page).rows
    assert "<b>0.250</b>" in page and "<b>0.500</b>" not in page and "<b>0.750</b>" not in page


def test_the_confusion_matrix_counts_the_images(tmp_path):
    given = arguments(tmp_path)
    pairs = [("intact", "intact")] * 3 + [("intact", "defective")] + [("defective", "defective")] * 2
    given["plots"]["confusion"]["head"] = [{"actual": a, "predicted": p} for a, p in pairs]
    rows = [[cell.replace("\u202f", " ") for cell in row] for row in Page(report.render(**given)).rows]
    assert ["intact", "375.0 %", "125.0 %"] in rows  # three images, 75.0 % of the class; one image, 25.0 %
    assert ["defective", "00.0 %", "2100.0 %"] in rows


def test_many_classes_give_a_list_of_the_most_frequent_errors(tmp_path):
    classes = [f"class {i}" for i in range(report.MATRIX_CLASSES + 1)]
    given = arguments(tmp_path, classes)
    wrong = [("class 3", "class 1")] * 7 + [("class 2", "class 5")] * 9
    given["plots"]["confusion"]["head"] = [{"actual": a, "predicted": p} for a, p in wrong]
    rows = Page(report.render(**given)).rows
    first = rows.index(["class 2", "class 5", "9"])
    assert rows[first + 1] == ["class 3", "class 1", "7"]


def test_each_chart_has_a_line_for_each_model(tmp_path):
    page = Page(report.render(**arguments(tmp_path)))
    charts = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    lines = [attrs["class"] for tag, attrs in page.tags if tag == "polyline"]
    assert charts == ["ROC", "Precision and recall", "Reliability"]
    assert lines == ["head", "fine_tuned"] * 3


def test_the_roc_curve_is_drawn_from_corner_to_corner(tmp_path):
    page = Page(report.render(**arguments(tmp_path)))
    frame = next(
        {key: int(value) for key, value in attrs.items() if key != "class"} for tag, attrs in page.tags if tag == "rect"
    )
    line = next(attrs["points"] for tag, attrs in page.tags if tag == "polyline").split()
    first, last = ([float(number) for number in point.split(",")] for point in (line[0], line[-1]))
    assert first == [frame["x"], frame["y"] + frame["height"]]
    assert last == [frame["x"] + frame["width"], frame["y"]]


def test_data_counts_have_totals(tmp_path):
    given = arguments(tmp_path)
    data = {"train": [1200, 300], "test": [50, 0]}
    rows = Page(report.render(**given | {"data": given["data"]._replace(counts=data)})).rows
    assert ["intact", "1,200", "50", "1,250"] in rows
    assert ["defective", "300", "0", "300"] in rows
    assert ["all", "1,500", "50", "1,550"] in rows


def test_parameters_are_listed_as_params_yaml_has_them(tmp_path):
    rows = Page(report.render(**arguments(tmp_path))).rows
    for row in (["fine_tune.freeze_depth", "block5"], ["fine_tune.epochs", "12"], ["augment.flip", "true"]):
        assert row in rows


def test_every_string_is_escaped(tmp_path):
    evil = '<script>alert("1")</script>&'
    given = arguments(tmp_path, classes=("intact", evil))
    given |= {
        "title": evil,
        "data": report.Data(evil, evil, evil, {evil: [0, 1], "test": [0, 3]}),
        "parameters": {evil: {evil: evil, "list": [evil]}},
        "pictures": [report.Picture(PNG, evil)],
    }
    page = report.render(**given)
    assert "<script" not in page
    assert "".join(Page(page).text).count(evil) >= 12  # wherever one of the strings above is shown
    assert next(attrs["alt"] for tag, attrs in Page(page).tags if tag == "img") == evil


def test_nothing_is_loaded(tmp_path):
    page = report.render(**arguments(tmp_path))
    tags = Page(page).tags
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags}
    sources = [attrs[name] for _, attrs in tags for name in ("src", "srcset", "xlink:href", "data") if name in attrs]
    assert sources == ["data:image/png;base64,iVBORw0KGgogcGljdHVyZQ=="]
    assert all(attrs["href"].startswith("#") for _, attrs in tags if "href" in attrs)
    assert not re.search(r"url\(|@import|/tmp|/home|/work", page)
    assert any("default-src 'none'" in attrs.get("content", "") for _, attrs in tags)


def test_the_same_arguments_give_the_same_bytes_and_stay_as_they_were(tmp_path):
    given = arguments(tmp_path)
    before = copy.deepcopy(given)
    assert report.render(**given) == report.render(**given)
    assert given == before


def test_a_test_split_of_one_class_has_no_roc_but_a_report(tmp_path):
    given = arguments(tmp_path)
    given["plots"]["roc"] = given["plots"]["precision_recall"] = {"head": [], "fine_tuned": []}
    assert "".join(Page(report.render(**given)).text).count("Undefined for this split.") == 2


def test_an_empty_test_split_is_said(tmp_path):
    given = arguments(tmp_path)
    empty = given["data"]._replace(counts={"train": [1, 0], "test": [0, 0]})
    for model in given["metrics"].values():
        model["test"] = dict.fromkeys(metrics.METRICS)
    assert "nothing was measured" in report.render(**given | {"data": empty})


def test_without_pictures_there_is_no_section_for_them(tmp_path):
    assert "Pictures" not in report.render(**arguments(tmp_path) | {"pictures": []})


def test_a_picture_that_no_browser_shows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'Scan' is neither PNG nor JPEG"):
        report.render(**arguments(tmp_path) | {"pictures": [report.Picture(b"II*\0", "Scan")]})
