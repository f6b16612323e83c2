"""What is measured of several labels, and the report and the model card of it: whole, safe, deterministic."""

import functools
import json
import re
import shutil
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score
from test_report import NO_DUPLICATES, PRESET, Page, check_in_browser, jpeg

from thaw.core import tables
from thaw.core.label_values import ABSENT, PRESENT, UNKNOWN, as_text
from thaw.core.metrics_file import MEAN_AVERAGE_PRECISION as MAP
from thaw.evaluation import plots
from thaw.evaluation.multi_label import comparison, label_errors, measure, resampling, review, together
from thaw.evaluation.multi_label import plots as multi_label_plots
from thaw.evaluation.multi_label.predictions import write
from thaw.evaluation.predictions import Predictions
from thaw.features.examples import Examples
from thaw.parameters.evaluate import Evaluate
from thaw.report import health, provenance
from thaw.report.accuracy import accuracy_svg
from thaw.report.collect import DUPLICATES
from thaw.report.multi_label import model_card, page, quality, trust
from thaw.report.multi_label import results as multi_results
from thaw.report.multi_label.results import Groups, MultiResults, disputed_pairs, read_groups
from thaw.report.results import RunFacts

CLASSES = ("sheep", "goat", "alpaca", "person")
EVIL = '<script>alert("1")</script>&|`*'
SETTINGS = Evaluate(
    test_time_flips=None, threshold=0.5, multi_aim="best_f1", bootstrap=100, bins=10, shown=3, seed=1
)  # fmt: skip


def results(
    classes=CLASSES, counts=(120, 60, 60), skill=(1.5, 3.0), unknown=0.4, known=None, weights=1.0, source="farms",
    readable=True, maps=True, settings=SETTINGS, answer=None,
):  # fmt: skip
    """Return what `evaluate` hands to the report, for drawn images, a head and a better model.

    known: changes the (n, k) values, given the splits; answer: changes the (n, k) probabilities.
    """
    generator = np.random.default_rng(0)
    count = sum(counts)
    splits = np.repeat(tables.SPLITS, counts)
    ids = np.array([f"{split[:2]}{number:05}" for number, split in enumerate(splits)])
    order = np.argsort(ids)
    ids, splits = ids[order], splits[order]
    truth = generator.random((count, len(classes))) < np.linspace(0.25, 0.5, len(classes))
    values = np.where(generator.random(truth.shape) < unknown, UNKNOWN, truth).astype(np.int8)
    values[~(values != UNKNOWN).any(axis=1), 0] = ABSENT
    if known:
        values = known(values, splits).astype(np.int8)
    value_weights = np.where(values == UNKNOWN, 0.0, np.resize(weights, values.shape))
    groups = ids.copy()
    groups[1::10] = groups[0::10][: len(groups[1::10])]  # some are near-duplicates, where they are of one split
    groups = np.where(splits == splits[np.searchsorted(ids, groups)], groups, ids)
    examples = Examples(
        ids, splits, np.arange(count)[:, None], np.zeros(count, int), np.ones(count), groups,
        values=values, value_weights=value_weights,
    )  # fmt: skip
    features = generator.normal(size=(count, 8)).astype(np.float32) + 2 * np.tile(truth, 8)[:, :8]
    noise, probabilities = generator.normal(size=truth.shape), {}
    for model, by in zip(("head", "fine_tuned"), skill, strict=True):
        p = 1 / (1 + np.exp(-(noise + by * (truth - 0.5))))
        probabilities[model] = answer(p) if answer else p
    images = pl.DataFrame({"image_id": ids, "width": 300, "height": 200 + np.arange(count) % 2})
    images = images.with_columns(meta_camera=pl.Series(np.resize([source, "north"], count)))
    confidence = label_errors.self_confidence(features, examples, seed=1)
    predicted = Predictions(examples, tuple(classes), probabilities, confidence, np.zeros(count, int))
    measured = measure.measure_models(predicted, features, images, settings)
    chosen = review.choose_pairs(predicted, measured, settings.shown)
    pairs = sorted({pair for sheet in chosen.values() for pair in sheet})
    near = review.nearest_known(features, predicted, pairs)
    pixels = dict.fromkeys(range(count), np.full((16, 16, 3), 99, np.uint8) if readable else None)
    drawn = dict.fromkeys(pairs if maps and readable else (), np.eye(4))
    cards = review.make_cards(predicted, measured, near, pixels, drawn)
    labels = [as_text(name for name, value in zip(classes, row, strict=True) if value == PRESENT) for row in values]
    split = pl.DataFrame(
        {"image_id": ids, "label": labels, "weight": 1.0, "group": groups, "split": splits},
        schema_overrides={"weight": pl.Float64},
    )
    missing = pl.DataFrame([("x", "x.jpg", "damaged")], tables.MISSING, orient="row")
    return MultiResults(
        source={"name": source, "license": "CC BY 4.0", "citation": f"{source} et al. 2019"},
        classes=tuple(classes),
        weighted=bool(np.ptp(value_weights[values != UNKNOWN])),
        duplicates=NO_DUPLICATES,
        health=health.describe(
            images.with_columns(split["label"]), split, pl.DataFrame(schema=DUPLICATES), missing, sorted(set(labels))
        ),
        parameters={
            "model": {"backbone": "net", "licence": "Apache-2.0", "cut": None, "best_epoch": 3},
            "image": {"size": 16, "resize": "crop"},
            "fine_tune": {"epochs": 12},
            "evaluate": settings.model_dump(exclude={"threshold"}),
        },
        inputs={"data/split.csv": "0123456789abcdef"},
        computed_with=provenance.computed_with(),
        preset=PRESET,
        resize=None,
        augmentations=jpeg(),
        measured=measured,
        saved="fine_tuned",
        sheets={name: [cards[pair] for pair in sheet] for name, sheet in chosen.items()},
        disputed_pairs=disputed_pairs(Groups(examples.image_ids, groups, values), classes),
    ), predicted


@functools.cache
def usual():
    return results()


@functools.cache
def usual_page():
    return page.render(usual()[0])


# --- What is measured ---


def test_metrics_have_the_main_metric_its_interval_and_the_counts_of_known_pairs():
    run, predicted = usual()
    metrics, values, splits = run.measured.metrics, predicted.examples.values, predicted.examples.splits
    for model in ("head", "fine_tuned"):
        for split in ("validation", "test"):
            scores = metrics[model][split]
            assert scores[f"{MAP}_low"] < scores[MAP] < scores[f"{MAP}_high"]
            assert {"micro_average_precision", "macro_f1", "macro_ece", "per_class"} <= set(scores)
            for number, name in enumerate(CLASSES):
                known = np.flatnonzero((splits == split) & (values[:, number] != UNKNOWN))
                expected = average_precision_score(values[known, number], predicted.probabilities[model][known, number])
                assert scores["per_class"][name]["average_precision"] == pytest.approx(expected, abs=1e-9)
                counts = [int((values[known, number] == value).sum()) for value in (PRESENT, ABSENT)]
                assert list(metrics["pairs"][split][name].values()) == counts
                assert [scores["per_class"][name][key] for key in ("known_present", "known_absent")] == counts
    json.dumps(metrics, allow_nan=False)


def test_the_frequency_of_a_class_ranks_as_chance_does_and_neighbours_rank_better():
    run, predicted = usual()
    test = {model: scores["test"] for model, scores in run.measured.metrics["baselines"].items()}
    values = predicted.examples.values[predicted.examples.splits == "test"]
    shares = [(values[:, k] == PRESENT).sum() / (values[:, k] != UNKNOWN).sum() for k in range(4)]
    assert test["majority"][MAP] == pytest.approx(np.mean(shares))
    assert test["majority"]["macro_roc_auc"] == pytest.approx(0.5)
    assert test["neighbours"][f"{MAP}_low"] > test["majority"][MAP]


def test_neighbours_are_asked_among_the_training_images_whose_pair_is_known():
    features = np.array([[1, 0.0], [1, 0.1], [0, 1.0], [0.1, 1.0]])
    values = np.array([[UNKNOWN, PRESENT], [PRESENT, PRESENT], [ABSENT, UNKNOWN], [ABSENT, ABSENT]], np.int8)
    train = comparison.Images(features, values, (values != UNKNOWN).astype(float))
    p, chosen = comparison.neighbours(train, train, np.array([[1, 0.0], [0, 1.0]]))
    assert chosen == [1, 1]
    share = (values == PRESENT).sum(axis=0) / (values != UNKNOWN).sum(axis=0)
    assert p == pytest.approx(np.array([(1 + share) / 2, share / 2]))
    nothing = comparison.Images(features, np.full((4, 2), UNKNOWN, np.int8), np.zeros((4, 2)))
    p, chosen = comparison.neighbours(nothing, nothing, features)
    assert (p == 0.5).all() and chosen == [0, 0]


def test_models_are_compared_on_the_same_resamples():
    run, _ = usual()
    pairs = run.measured.metrics["comparison"]
    assert pairs["fine_tuned_against_head"][f"{MAP}_low"] > 0
    same, _ = results(skill=(2.0, 2.0))
    difference = same.measured.metrics["comparison"]["fine_tuned_against_head"]
    assert difference[MAP] == 0 and difference[f"{MAP}_low"] is None


def test_thresholds_are_chosen_on_validation_alone_and_written_for_those_who_use_the_model():
    run, predicted = usual()
    changed = lambda values, splits: np.where((splits == "test")[:, None], 1 - values, values)  # noqa: E731
    other, _ = results(known=lambda values, splits: np.where(values == UNKNOWN, UNKNOWN, changed(values, splits)))
    decisions = [measure.decision(part.measured, predicted.classes, SETTINGS, "fine_tuned") for part in (run, other)]
    assert decisions[0] == decisions[1]
    assert decisions[0]["task"] == "multi" and decisions[0]["classes"] == list(CLASSES)
    assert set(decisions[0]["thresholds"]) == set(decisions[0]["temperatures"]) == set(CLASSES)
    assert json.loads(json.dumps(decisions[0]))["aim_reached"] == dict.fromkeys(CLASSES, True)


def test_an_aim_that_is_not_reached_is_said_in_a_line_in_the_decision_in_the_report_and_in_the_card():
    aim = SETTINGS.model_copy(update={"multi_aim": "precision:1.0"})

    def answer(p):  # says nothing of goats
        return np.where(np.arange(4) == 1, 0.4 + 0.1 * (np.arange(len(p))[:, None] % 2), p)

    run, _ = results(settings=aim, answer=answer)
    chosen = run.measured.thresholds["fine_tuned"]["validation"]
    assert not chosen[1].reached
    assert "precision:1.0 is not reached by the fine-tuned model on validation for" in run.measured.misses["fine_tuned"]
    assert "goat (the nearest is taken: 0." in run.measured.misses["fine_tuned"]
    assert not measure.decision(run.measured, CLASSES, aim, "fine_tuned")["aim_reached"]["goat"]
    text = Page(page.render(run)).sentence()
    assert re.search(r"On validation, no threshold of [\w, ]*goat[\w, ]* reaches the aim precision:1.0", text)
    assert "The aim is not reached for" in text
    assert "The aim is not reached on validation for" in model_card.write(run)
    assert usual()[0].measured.misses == {} and "reaches the aim" not in Page(usual_page()).sentence()


def test_a_class_without_a_known_absent_pair_in_test_is_not_in_the_mean_and_is_named():
    def known(values, splits):
        is_goat = (splits == "test")[:, None] & (np.arange(4) == 1)
        return np.where(is_goat & (values == ABSENT), UNKNOWN, values)

    run, _ = results(known=known)
    test = run.test
    assert test["classes_measured"] == 3 and test["per_class"]["goat"]["average_precision"] is None
    rest = [test["per_class"][name]["average_precision"] for name in CLASSES if name != "goat"]
    assert test[MAP] == pytest.approx(np.mean(rest))
    text = Page(page.render(run)).sentence()
    assert "goat is not in the mean: test knows no photograph that shows the class, or none without it." in text
    assert "1 class that test does not measure is left out" in text


def test_classes_that_occur_together_are_counted_where_both_are_known():
    values = np.array([[1, 1], [1, 0], [1, -1], [0, 1], [-1, 1]], np.int8)
    rows = {(row["class"], row["other"]): row for row in together.count_together(values, ("a", "b"))}
    assert (rows["a", "b"]["known"], rows["a", "b"]["together"], rows["a", "b"]["share"]) == (2, 1, 0.5)
    assert rows["b", "a"]["share"] == 0.5 and rows["a", "b"]["other_share"] == 0.75
    assert together.labels_per_image(values) == [(1, 4), (2, 1)]


def test_the_surest_mistakes_are_known_pairs_that_are_called_wrongly_the_least_probable_truth_first():
    p = np.array([[0.9, 0.2], [0.8, 0.1], [0.3, 0.95]])
    values = np.array([[0, -1], [0, 1], [-1, 0]], np.int8)
    chosen = review.surest_mistakes(p, p > 0.5, values, np.array([0, 1, 2]), 3)
    assert chosen == [(2, 1), (0, 0), (1, 1)]
    assert review.surest_mistakes(p, p > 0.5, values, np.array([0, 1]), 9) == [(0, 0), (1, 1), (1, 0)]


def test_flipped_labels_are_found_those_that_are_present_and_those_that_are_absent():
    generator = np.random.default_rng(3)
    truth = generator.random((300, 2)) < 0.4
    features = generator.normal(size=(300, 12)) + 3 * np.tile(truth, 6)
    values = truth.astype(np.int8)
    values[generator.random((300, 2)) < 0.3] = UNKNOWN
    wrong = {PRESENT: np.flatnonzero(values[:, 0] == ABSENT)[:3], ABSENT: np.flatnonzero(values[:, 1] == PRESENT)[:3]}
    values[wrong[PRESENT], 0], values[wrong[ABSENT], 1] = PRESENT, ABSENT
    examples = Examples(
        np.arange(300).astype(str), np.full(300, "train"), np.arange(300)[:, None], np.zeros(300, int), np.ones(300),
        np.arange(300).astype(str), values=values, value_weights=(values != UNKNOWN).astype(float),
    )  # fmt: skip
    confidence = label_errors.self_confidence(features, examples, seed=1)
    assert (confidence[values == UNKNOWN] == 1).all()
    for value, number in ((PRESENT, 0), (ABSENT, 1)):
        found = {image for image, k in label_errors.suspicious(confidence, values, value, 6) if k == number}
        assert set(wrong[value].tolist()) <= found


def test_neighbours_of_a_card_are_training_images_whose_pair_is_known():
    _, predicted = usual()
    examples = predicted.examples
    pairs = [(0, 1), (5, 2), (200, 1)]
    found = review.nearest_known(np.eye(len(examples), 8), predicted, pairs)
    for (image, number), near in found.items():
        assert len(near) == review.NEIGHBOURS and image not in near
        assert (examples.splits[near] == "train").all() and (examples.values[near, number] != UNKNOWN).all()


def test_a_slice_that_is_worse_is_found_with_its_p_value():
    def answer(p):  # wrong for every other image: those of one camera
        return np.where(np.arange(len(p))[:, None] % 2 == 0, 1 - p, p)

    half = SETTINGS.model_copy(update={"multi_aim": 0.5})
    run, _ = results(answer=answer, unknown=0.2, settings=half)
    row = next(row for row in run.measured.slices["fine_tuned"] if row["column"] == "camera")
    assert row["value"] == "farms" and row["p_value"] < 0.01 and row["accuracy_high"] < 0.6
    assert {"known_present", "known_absent", MAP, f"{MAP}_low"} <= set(row)
    assert "camera: farms" in Page(page.render(run)).sentence()


# --- Files ---


def test_predictions_have_the_rows_of_the_arrays_and_the_called_classes(tmp_path):
    run, predicted = usual()
    write(tmp_path, predicted, run.measured.called)
    table = pl.read_csv(tmp_path / "predictions.csv").with_columns(pl.col(pl.String).fill_null(""))
    assert table["image_id"].to_list() == predicted.examples.image_ids.tolist()
    p = np.load(tmp_path / "head.npy")
    assert p.dtype == np.float32 and p.shape == (len(table), 4)
    calls = [as_text(np.array(sorted(CLASSES))[row]) for row in run.measured.called["head"][:, np.argsort(CLASSES)]]
    assert table["head_label"].to_list() == calls
    assert any(" + " in text for text in calls) and "" in calls
    doubted = [CLASSES.index(name) for name in table["doubted_class"]]
    rows = np.arange(len(table))
    assert (predicted.examples.values[rows, doubted] == table["doubted_value"].to_numpy()).all()
    assert set(table["doubted_value"]) == {0, 1}
    lowest = predicted.self_confidence.min(axis=1)
    assert table["self_confidence"].to_numpy() == pytest.approx(lowest, abs=1e-6)
    assert predicted.self_confidence[rows, doubted] == pytest.approx(lowest)


def test_plots_have_the_files_and_columns_that_dvc_yaml_names(tmp_path):
    measured = usual()[0].measured
    by_model = {**measured.curves, "per_class": measured.per_class, "slices": plots.name_slices(measured.slices)}
    comparisons = multi_label_plots.comparison_rows(measured.comparisons)
    plots.write(tmp_path, by_model, {"learning_curve": [], "learning_curve_ahead": [], "comparisons": comparisons})
    for kind, columns in plots.COLUMNS.items():
        for path in (*tmp_path.glob(f"{kind}_head.csv"), *tmp_path.glob(f"{kind}.csv")):
            header = path.read_text().splitlines()[0].split(",")
            axes = {"slices": ("slice", "accuracy"), "per_class": ("class", "f1"), "comparisons": ("pair", "accuracy")}
            assert set(axes.get(kind, columns)) <= set(header), path.name
    confusion = pl.read_csv(tmp_path / "confusion_head.csv")
    test = measured.metrics["head"]["test"]
    assert len(confusion) == test["known_present"] + test["known_absent"]
    assert (confusion["actual"] == confusion["predicted"]).mean() == pytest.approx(test["micro_accuracy"])


def test_the_picture_shows_the_main_metric():
    run = usual()[0]
    svg = accuracy_svg(run.measured.metrics, MAP)
    assert "Mean average precision with its 95 % interval" in svg
    assert f"{run.test[MAP]:.1%}" in svg


# --- The page and the card ---


def test_the_first_words_say_how_good_how_sure_and_on_how_many_pairs():
    run, text = usual()[0], Page(usual_page()).sentence()
    test = run.test
    low, high = (f"{100 * test[f'{MAP}_{end}']:.1f}" for end in ("low", "high"))
    lead = (
        f"On {test['photographs']} photographs that it was never trained on, the fine-tuned model has a mean average "
    )
    assert lead + f"precision of {100 * test[MAP]:.1f} % (95 % interval {low}–{high})." in text
    assert (
        f"in {test['known_present']} the class is present, in {test['known_absent']} it is verified to be absent"
        in text
    )
    unknown = 4 * test["photographs"] - test["known_present"] - test["known_absent"]
    assert f"Of {unknown} other pairs nothing is known; they count nowhere." in text
    assert "Fine-tuning helped:" in text


def test_the_verdict_says_when_it_is_not_certain():
    run = results(skill=(2.0, 2.05))[0]
    assert re.search("not certain|as it is", quality.verdict(run))
    assert "did harm" in quality.verdict(results(skill=(3.0, 1.0))[0])
    assert "this split cannot tell" in quality.verdict(results(skill=(2.0, 2.0))[0])


def test_every_section_is_in_the_table_of_contents_and_no_link_leads_nowhere():
    tags = Page(usual_page()).tags
    links = {attrs["href"] for tag, attrs in tags if tag == "a"}
    assert {f"#{key}" for key in page.SECTIONS} <= links <= {f"#{attrs['id']}" for _, attrs in tags if "id" in attrs}


def test_every_class_stands_with_its_counts_and_numbers_in_the_table_the_worst_first():
    run = usual()[0]
    rows = [[cell.replace("\u202f", " ") for cell in row] for row in Page(quality.write_classes(run)).rows]
    listed = [row for row in rows if "present, " in row[0]]
    highs = []
    for cells in listed:
        name = next(name for name in CLASSES if cells[0].startswith(name))
        row = run.test["per_class"][name]
        assert f"{row['known_present']} present, {row['known_absent']} absent" in cells[0]
        assert cells[1].startswith(f"{100 * row['average_precision']:.1f} %")
        highs.append(row["average_precision_high"])
    assert len(listed) == 4 and highs == sorted(highs)


def test_the_known_pairs_of_each_split_are_counted_in_the_report_and_in_the_card():
    run = usual()[0]
    text = Page(usual_page()).sentence()
    for name in CLASSES:
        counts = [by_class[name] for by_class in run.measured.metrics["pairs"].values()]
        cells = [f"{of['present']} / {of['absent']}" for of in counts]
        assert all(cell in text for cell in cells)
        assert f"| {name} | {' | '.join(cells)} |" in model_card.write(run)


@pytest.mark.parametrize("write", [page.render, model_card.write])
def test_text_of_the_data_becomes_no_tag(write):
    evil = results(classes=(EVIL, "b", "c"), source=EVIL)[0]
    text = write(evil)
    assert "<script" not in text and "alert" in text
    if write is page.render:
        Page(text)


def test_the_same_results_give_the_same_bytes():
    assert page.render(results()[0]) == usual_page()
    assert model_card.write(results()[0]) == model_card.write(usual()[0])


HARD = {
    "no test image": {"counts": (40, 30, 0)},
    "one test image": {"counts": (40, 30, 1)},
    "one class": {"classes": ("alone",)},
    "everything known": {"unknown": 0.0},
    "nothing known of a class but in training": {
        "known": lambda values, splits: np.where(
            (np.arange(4) == 2) & (splits != "train")[:, None], UNKNOWN, values
        )
    },
    "only present pairs": {"known": lambda values, splits: np.where(values == ABSENT, UNKNOWN, values)},
    "weights": {"weights": (1.0, 0.5, 0.0)},
    "all probabilities are equal": {"answer": lambda p: np.full_like(p, 0.5)},
    "probabilities of 0 and 1": {"answer": lambda p: np.round(p)},
    "no mistake": {"skill": (100.0, 100.0)},
    "many classes": {"classes": tuple(f"kind {number}" for number in range(30)), "counts": (60, 30, 30)},
    "classes in other scripts": {"classes": ("Größe ü", "太阳能电池", "خلية", "🦙" * 40), "source": "中文 عربى"},
    "photographs are gone": {"readable": False},
    "nothing to be shown": {"settings": SETTINGS.model_copy(update={"shown": 0})},
    "a number for all classes": {"settings": SETTINGS.model_copy(update={"multi_aim": 0.25})},
    "mirror images": {"settings": SETTINGS.model_copy(update={"test_time_flips": "both"})},
}  # fmt: skip


@pytest.mark.parametrize("case", HARD)
@pytest.mark.filterwarnings("error")
def test_a_hard_case_is_a_whole_report_without_nan(case):
    hard, _ = results(**HARD[case])
    html, card = page.render(hard), model_card.write(hard)
    Page(html)
    assert not re.search(r"\b(nan|NaN|inf|None)\b", re.sub('base64,[^"]*', "", html) + card)
    json.dumps(hard.measured.metrics, allow_nan=False)
    if case == "photographs are gone":
        assert "could not be read when this report was written" in html
    if case == "many classes":
        assert "20 of 30 classes" in Page(html).sentence() and len(html) < 400_000
    if case == "no test image":
        assert "nothing was measured" in html and "nothing was measured" in card


def test_photographs_of_a_group_of_which_one_shows_a_class_and_one_does_not_are_listed():
    run = usual()[0]
    assert run.disputed_pairs
    name, ids = run.disputed_pairs[0]
    text = Page(usual_page()).sentence()
    caption = "Near-duplicates of which one shows a class and one does not"
    assert caption in text and f"{name}: {', '.join(ids)}" in text


def test_a_photograph_that_was_left_out_of_training_may_contradict_its_group(tmp_path):
    ids = np.array(["a", "b", "c"])
    values = np.array([[PRESENT, UNKNOWN], [UNKNOWN, PRESENT], [ABSENT, ABSENT]], np.int8)
    images = Examples(
        ids, np.array(["train"] * 3), np.arange(3)[:, None], np.zeros(3, int), np.ones(3), np.array(["a", "a", "c"]),
        values=values, value_weights=(values != UNKNOWN).astype(float),
    )  # fmt: skip
    known = [("a", "cat", 1), ("b", "dog", 1), ("c", "cat", 0), ("c", "dog", 0), ("d", "cat", 0), ("e", "cat", 1)]
    labels = pl.DataFrame([(*row, 1.0) for row in known], tables.LABELS, orient="row")
    labels.write_csv(tmp_path / "labels.csv")
    rows = [("a", "a", "a.jpg", "train", "kept", "a"), ("a", "d", "d.jpg", None, "left out", "a"),
            ("a", "e", "e.jpg", None, "left out", "e")]  # fmt: skip

    def found(count: int):
        pl.DataFrame(rows[:count], DUPLICATES, orient="row").write_csv(tmp_path / "duplicates.csv")
        groups = read_groups(images, ("cat", "dog"), tmp_path / "labels.csv", tmp_path / "duplicates.csv")
        return disputed_pairs(groups, ("cat", "dog"))

    assert found(3) == [("cat", ("a", "d"))]  # `e` is of the person's own group, and no near-duplicate
    assert found(1) == []


def test_what_is_unknown_is_no_different_label(tmp_path, monkeypatch):
    run, predicted = usual()
    facts = RunFacts(**{field.name: getattr(run, field.name) for field in fields(RunFacts)})
    facts = replace(facts, health=replace(facts.health, disputed=[("a", "b")]))
    pl.DataFrame([("a", "sheep", 1, 1.0)], tables.LABELS, orient="row").write_csv(tmp_path / "labels.csv")
    groups = pl.Series(predicted.examples.groups)
    listing = pl.DataFrame({"group": groups, "image_id": predicted.examples.image_ids, "alike": groups})
    rest = (pl.lit("x").alias(name) for name in ("path", "split", "action"))
    listing.with_columns(rest).select(*DUPLICATES).write_csv(tmp_path / "duplicates.csv")
    monkeypatch.setattr(multi_results, "collect_facts", lambda *_, **__: facts)
    models = SimpleNamespace(
        examples=predicted.examples, head=SimpleNamespace(classes=CLASSES), kept="fine_tuned",
        files=SimpleNamespace(dataset=SimpleNamespace(raw=tmp_path)),
    )  # fmt: skip
    files = SimpleNamespace(duplicates=tmp_path / "duplicates.csv")
    found = multi_results.collect(models, run.measured, run.sheets, SETTINGS, hashes={}, files=files)
    assert not found.health.disputed and found.disputed_pairs == run.disputed_pairs
    text = Page(page.render(found)).sentence()
    assert "with different labels" not in text and "one of the labels may be wrong" not in text


def test_fewer_resamples_than_were_asked_for_are_said_in_the_report_and_in_the_metrics(monkeypatch):
    monkeypatch.setattr(resampling, "MAX_PAIR_RESAMPLES", 1)
    few, _ = results(settings=SETTINGS.model_copy(update={"bootstrap": 300}))
    said = "ith so many classes or pairs, intervals come from 200 of 300 resamples"
    assert measure.resamples_text(few.measured, 300) == f"w{said}"
    assert f"W{said}. " in Page(page.render(few)).sentence()
    assert few.measured.metrics["resamples"] == {"asked_for": 300, "drawn": 200}
    assert "intervals come from" not in Page(usual_page()).sentence()
    assert measure.resamples_text(usual()[0].measured, 100) == "" and "resamples" not in usual()[0].measured.metrics
    nothing, _ = results(**HARD["no test image"])
    assert measure.resamples_text(nothing.measured, 100) == ""


def test_pairs_that_the_plots_leave_out_are_said(monkeypatch):
    curves = usual()[0].measured.curves
    assert multi_label_plots.thinned_text(curves) == ""
    monkeypatch.setattr(multi_label_plots, "MAX_CONFUSION_ROWS", 50)
    count = len(curves["confusion"]["head"])
    assert multi_label_plots.thinned_text(curves) == f"; plots/confusion_… shows 50 of the {count} pairs"


def test_the_card_names_no_picture_that_the_report_does_not_show():
    said = "`report.html` shows the surest mistakes"
    assert said in model_card.write(usual()[0])
    assert said not in model_card.write(results(**HARD["nothing to be shown"])[0])


def test_groups_may_be_those_of_a_person_and_temperatures_rank_the_pairs_of_all_classes_anew():
    run = usual()[0]
    card = model_card.write(replace(run, duplicates=replace(NO_DUPLICATES, left_out=2)))
    assert f"{run.health.grouped} photographs share a group, of near-duplicates or yours; " in card
    assert "2 photographs of groups with held-out photographs were left out of training." in card
    assert "it changes no ranking within a class." in Page(usual_page()).sentence()
    assert "around the value less twice the bias that the resamples show" in Page(usual_page()).sentence()


def test_slices_that_are_too_small_are_counted():
    few = results(counts=(40, 30, 12))[0]
    assert few.measured.small_slices and "of fewer than 10 photographs are left out" in trust.write_slices(few)


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium is installed")
def test_in_a_browser_nothing_overflows_nothing_is_fetched_and_nothing_is_complained_of(tmp_path):
    long = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
    wide = results(classes=("sheep", long, *(f"kind {number}" for number in range(8))), source=long, weights=(1.0, 0.5))
    check_in_browser(page.render(wide[0]), tmp_path)


def test_the_parameter_is_a_number_or_one_of_three_aims():
    values = SETTINGS.model_dump()
    for aim in (0.5, "best_f1", "precision:0.9", "recall:0.95"):
        assert Evaluate(**values | {"multi_aim": aim}).multi_aim == aim
    for aim in (0, 1.5, "f1", "precision 0.9", "recall:2", None, True):
        with pytest.raises(ValueError, match=r"evaluate\.multi_aim should be a number between 0 and 1, best_f1"):
            Evaluate(**values | {"multi_aim": aim})


def test_together_with_folds_it_ends_with_a_line():
    from thaw.core.errors import ThawError
    from thaw.evaluation.multi_label.predictions import predict

    _, predicted = usual()
    images = replace(predicted.examples, folds=np.zeros((len(predicted.examples), 1), int))
    with pytest.raises(ThawError, match=r"split\.folds does not work with task: multi: set it to null"):
        predict(SimpleNamespace(examples=images), predicted.probabilities, 1)
