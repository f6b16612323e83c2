"""The measures of several labels: against scikit-learn, by hand, and where a split leaves them undefined."""

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from dependencies import ROOT
from sklearn import calibration as sk_calibration
from sklearn import metrics as sk

from thaw.evaluation.multi_label import calibration, comparison, metrics, resampling, slices, thresholds
from thaw.evaluation.multi_label.pairs import Pairs, names_of
from thaw.evaluation.resampling import Resampling
from thaw.handbook import measured
from thaw.training import temperatures

CLASSES = ("sheep", "goat", "alpaca", "person")
FEW = Resampling(100, 1)
BINS = 10
SK = {
    "average_precision": sk.average_precision_score,
    "roc_auc": sk.roc_auc_score,
    "log_loss": lambda truth, p, sample_weight: sk.log_loss(truth, p, sample_weight=sample_weight, labels=[0, 1]),
    "brier": sk.brier_score_loss,
}
SK_CALLED = {
    "f1": sk.f1_score,
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "accuracy": sk.accuracy_score,
}


def drawn(count=300, classes=4, unknown=0.4, seed=0, skill=2.0, digits=2):
    """Return pairs of which some are unknown, with ties, weights from 0 to 1, and groups of up to three."""
    generator = np.random.default_rng(seed)
    truth = generator.random((count, classes)) < np.linspace(0.2, 0.6, classes)
    p = 1 / (1 + np.exp(-(generator.normal(size=truth.shape) + skill * (truth - 0.5))))
    values = np.where(generator.random(truth.shape) < unknown, -1, truth).astype(np.int8)
    weights = np.where(values < 0, 0.0, generator.choice([0.0, 0.5, 1.0], truth.shape))
    groups = np.array([f"g{number:04}" for number in generator.integers(0, count // 2, count)])
    p = p.round(digits)
    return Pairs(p, p > 0.5, values, weights, groups)


def columns(pairs, weighted):
    """Yield truth, probabilities, calls and weights of the known pairs of each class, then of all together."""
    parts = []
    for number in range(pairs.class_count):
        known = pairs.values[:, number] >= 0
        weights = pairs.weights[known, number] if weighted else np.ones(int(known.sum()))
        of_class = (array[known, number] for array in (pairs.values, pairs.probabilities, pairs.called))
        parts.append((*of_class, weights))
    return parts, tuple(map(np.concatenate, zip(*parts, strict=True)))


def by_scikit_learn(truth, p, called, weights):
    result = {name: measure(truth, p, sample_weight=weights) for name, measure in SK.items()}
    result |= {name: measure(truth, called, sample_weight=weights) for name, measure in SK_CALLED.items()}
    # `calibration_curve` takes no weights: whole ones are repeats
    truth, p = (np.repeat(array, (2 * weights).astype(int)) for array in (truth, p))
    present, confidence = sk_calibration.calibration_curve(truth, p, n_bins=BINS)
    counts = np.unique(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], p), return_counts=True)[1]
    return result | {"ece": np.average(np.abs(present - confidence), weights=counts)}


@pytest.mark.parametrize("kind", ["", "_weighted"])
def test_measures_are_those_of_scikit_learn(kind):
    pairs = drawn()
    measured = metrics.multi_label_metrics(pairs, CLASSES, BINS, FEW)
    of_classes = resampling.resample(pairs, BINS, FEW)[kind].by_class
    by_class, pooled = columns(pairs, bool(kind))
    expected = [by_scikit_learn(*part) for part in by_class]
    for number, (name, values) in enumerate(zip(CLASSES, expected, strict=True)):
        for measure, value in values.items():
            resampled = of_classes[measure][number][..., 0]  # of `ece`, the gap in each bin
            assert np.abs(resampled).sum() == pytest.approx(value, abs=1e-9), (name, measure)
            if not kind:
                assert measured["per_class"][name][measure] == pytest.approx(value, abs=1e-9), (name, measure)
    for measure, value in by_scikit_learn(*pooled).items():
        assert measured[f"micro_{measure}{kind}"] == pytest.approx(value, abs=1e-9), measure
    for measure in metrics.AVERAGED:
        mean = np.mean([values[measure] for values in expected])
        assert measured[f"{metrics.mean_name(measure)}{kind}"] == pytest.approx(mean, abs=1e-9), measure


def test_without_unknown_pairs_the_means_are_scikit_learns_macro_and_micro():
    pairs = drawn(unknown=0)
    measured = metrics.multi_label_metrics(pairs, CLASSES, BINS, FEW)
    for average, prefix in (("macro", "macro_"), ("micro", "micro_")):
        f1 = sk.f1_score(pairs.values, pairs.called, average=average)
        assert measured[f"{prefix}f1"] == pytest.approx(f1, abs=1e-9)
        area = sk.roc_auc_score(pairs.values, pairs.probabilities, average=average)
        assert measured[f"{prefix}roc_auc"] == pytest.approx(area, abs=1e-9)
        precision = sk.average_precision_score(pairs.values, pairs.probabilities, average=average)
        name = metrics.MAIN if average == "macro" else "micro_average_precision"
        assert measured[name] == pytest.approx(precision, abs=1e-9)


def test_chance_has_the_mean_of_all_orders_of_the_known_pairs():
    truth = np.array([1, 1, 0, 0, 0])
    orders = [sk.average_precision_score(truth, order) for order in itertools.permutations(range(5))]
    assert metrics.precision_by_chance(2, 3) == pytest.approx(np.mean(orders), abs=1e-12) and np.mean(orders) > 2 / 5
    measured = metrics.multi_label_metrics(drawn(), CLASSES, BINS, FEW)
    each = [
        metrics.precision_by_chance(row["known_present"], row["known_absent"]) for row in measured["per_class"].values()
    ]
    assert measured[metrics.BY_CHANCE] == pytest.approx(np.mean(each), abs=1e-12)


def test_unknown_pairs_count_nowhere():
    pairs = drawn()
    generator = np.random.default_rng(5)
    noise = np.where(pairs.known, pairs.probabilities, generator.random(pairs.values.shape))
    called = np.where(pairs.known, pairs.called, ~pairs.called)
    weights = np.where(pairs.known, pairs.weights, 9.0)
    other = Pairs(noise, called, pairs.values, weights, pairs.groups)
    expected = metrics.multi_label_metrics(pairs, CLASSES, BINS, FEW)
    assert metrics.multi_label_metrics(other, CLASSES, BINS, FEW) == expected
    assert expected["known_present"] == int((pairs.values == 1).sum())
    assert expected["known_absent"] == int((pairs.values == 0).sum())
    assert expected["photographs"] == int(pairs.known.any(axis=1).sum()) < len(pairs)


def test_an_image_with_no_known_pair_changes_no_resample():
    pairs = drawn()
    nothing = changed(pairs.take(np.arange(5)), np.full((5, 4), -1))
    columns = ((getattr(pairs, name), getattr(nothing, name)) for name in vars(pairs))
    values = resampling.resample(Pairs(*map(np.concatenate, columns)), BINS, FEW)
    for kind, expected in resampling.resample(pairs, BINS, FEW).items():
        for name in resampling.MEASURES:
            assert np.array_equal(values[kind].by_class[name], expected.by_class[name], equal_nan=True)


def test_a_resample_counts_the_images_of_a_group_as_often_as_the_group_is_drawn():
    pairs = drawn(count=60)
    values = resampling.resample(pairs, BINS, FEW)[""]
    known = pairs.known.any(axis=1)
    group, times = resampling.draw(pairs.groups[known], FEW)
    for at in (1, 7):
        drawn_rows = np.repeat(np.flatnonzero(known), times[group, at])
        again = resampling.resample(pairs.take(drawn_rows), BINS, Resampling(0, 0))[""]
        for name in resampling.MEASURES:
            assert again.pooled[name][..., 0] == pytest.approx(values.pooled[name][..., at], abs=1e-12), name
            assert again.by_class[name][..., 0] == pytest.approx(values.by_class[name][..., at], abs=1e-12, nan_ok=True)


def test_all_labels_of_one_weight_have_the_plain_measures_by_weight_too():
    pairs = drawn()
    same = Pairs(pairs.probabilities, pairs.called, pairs.values, np.where(pairs.known, 0.5, 0.0), pairs.groups)
    measured = metrics.multi_label_metrics(same, CLASSES, BINS, FEW)
    for name in metrics.metric_names():
        if "_weighted" in name:
            assert measured[name] == measured[name.replace("_weighted", "")]


def changed(pairs, values):
    return replace(pairs, values=values.astype(np.int8), weights=pairs.weights * (values >= 0))


HARD = {
    "no image": lambda pairs: pairs.take(np.arange(0)),
    "one image": lambda pairs: pairs.take(np.arange(1)),
    "nothing known": lambda pairs: changed(pairs, np.full(pairs.values.shape, -1)),
    "no pair absent": lambda pairs: changed(pairs, np.where(pairs.values == 0, -1, pairs.values)),
    "no pair present": lambda pairs: changed(pairs, np.where(pairs.values == 1, -1, pairs.values)),
    "a class unknown": lambda pairs: changed(pairs, np.where(np.arange(4) == 2, -1, pairs.values)),
    "weights of 0": lambda pairs: replace(pairs, weights=np.zeros(pairs.values.shape)),
    "one group": lambda pairs: replace(pairs, groups=np.zeros(len(pairs))),
    "probabilities of 0 and 1": lambda pairs: replace(pairs, probabilities=pairs.called * 1.0),
    "all probabilities are equal": lambda pairs: replace(pairs, probabilities=np.full(pairs.values.shape, 0.3)),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.filterwarnings("error")
def test_what_a_split_leaves_undefined_is_none(case):
    measured = metrics.multi_label_metrics(HARD[case](drawn()), CLASSES, BINS, FEW)
    json.dumps(measured, allow_nan=False)
    if case in ("no image", "nothing known", "no pair absent", "no pair present"):
        assert measured[metrics.MAIN] is None and measured["classes_measured"] == 0
    if case == "a class unknown":
        assert measured["per_class"]["alpaca"]["average_precision"] is None and measured["classes_measured"] == 3
        rest = [measured["per_class"][name]["average_precision"] for name in CLASSES if name != "alpaca"]
        assert measured[metrics.MAIN] == pytest.approx(np.mean(rest))


def test_a_class_without_a_known_absent_pair_has_no_area_and_keeps_its_recall():
    pairs = drawn()
    values = pairs.values.copy()
    values[:, 1] = np.where(values[:, 1] == 0, -1, values[:, 1])
    goat = metrics.multi_label_metrics(changed(pairs, values), CLASSES, BINS, FEW)["per_class"]["goat"]
    assert goat["average_precision"] is goat["roc_auc"] is None
    assert goat["known_absent"] == 0 and goat["recall"] is not None


def test_the_interval_of_a_mean_reaches_below_what_all_resamples_have_in_common():
    draws = np.random.default_rng(0).normal(0.53, 0.01, 200)  # of a mean over many classes: its bias is 0.03 or more
    values = np.array([0.5, *draws])
    value, low, high = resampling.precision_interval(values)
    _, least, most = resampling.wide_interval(values)
    assert least > 0.49 and most == high
    percentiles = np.quantile(draws, [0.025, 0.975])
    assert (value, low) == (0.5, pytest.approx(percentiles[0] - 3 * (draws.mean() - 0.5)))
    no_bias = np.array([0.5, *(draws - draws.mean() + 0.5)])
    assert resampling.precision_interval(no_bias) == pytest.approx(resampling.wide_interval(no_bias))
    assert resampling.precision_interval(values - 0.45)[1] == 0
    assert resampling.precision_interval(values - 0.45, (-1, 1))[1] < 0
    assert resampling.precision_interval(np.array([np.nan, np.nan])) == (None, None, None)
    assert resampling.precision_interval(np.ones(9)) == (1, None, None)


def test_the_mean_average_precision_has_the_interval_of_a_mean_in_a_split_a_slice_and_a_comparison():
    pairs = drawn(80, skill=0.5)
    resampled = resampling.resample(pairs, BINS, FEW)
    means = resampled[""].means()["average_precision"]
    measured = metrics.summarise(pairs, CLASSES, resampled)
    ends = [measured[f"{metrics.MAIN}{end}"] for end in metrics.ENDS]
    assert ends == list(resampling.precision_interval(means)) != list(resampling.wide_interval(means))
    north = np.arange(len(pairs)) % 2 == 0
    images = pl.DataFrame({"width": 300, "height": 200, "meta_camera": np.where(north, "north", "south")})
    row = next(row for row in slices.measure_slices(images, pairs, BINS, FEW) if row["value"] == "north")
    of_slice = resampling.resample(pairs.take(north), BINS, FEW)[""].means()["average_precision"]
    ends = [row[f"{metrics.MAIN}{end}"] for end in metrics.ENDS]
    assert ends == list(resampling.precision_interval(of_slice)) != list(resampling.wide_interval(of_slice))
    other = resampling.resample(drawn(80), BINS, FEW)
    difference = comparison.subtract(resampled, other)[metrics.MAIN]
    values = means - other[""].means()["average_precision"]
    assert list(difference.values()) == list(resampling.precision_interval(values, (-1, 1)))


# --- Calibration and thresholds ---


def test_a_temperature_of_each_class_lowers_its_log_loss_and_keeps_its_order():
    pairs = drawn(count=1000, skill=1.0, digits=6)
    sharp = np.array([0.5, 1.0, 2.0, 4.0])
    logits = np.log(pairs.probabilities) - np.log1p(-pairs.probabilities)
    p = 1 / (1 + np.exp(-sharp * logits))
    fitted = calibration.fit_temperatures(p, pairs.values, pairs.weights)
    assert (np.diff(fitted) > 0).all()
    calibrated = temperatures.apply(p, fitted)
    exact = 1 / (1 + np.exp(-sharp * logits / fitted))
    np.testing.assert_allclose(calibrated, exact, atol=1e-9)
    for number in range(4):
        known = pairs.values[:, number] >= 0
        truth, weights = pairs.values[known, number], pairs.weights[known, number]
        losses = [sk.log_loss(truth, q[known, number], sample_weight=weights) for q in (calibrated, p)]
        assert losses[0] <= losses[1] + 1e-12
        for other in (0.97, 1.03):
            near = temperatures.apply(p, fitted * other)[known, number]
            assert sk.log_loss(truth, near, sample_weight=weights) >= losses[0]


def test_a_class_that_cannot_be_calibrated_keeps_its_bits():
    pairs = drawn()
    values = np.where((pairs.values == 0) & (np.arange(4) == 2), -1, pairs.values).astype(np.int8)
    assert calibration.cannot_calibrate(values, pairs.weights).tolist() == [False, False, True, False]
    fitted = calibration.fit_temperatures(pairs.probabilities, values, pairs.weights)
    assert fitted[2] == 1
    calibrated = temperatures.apply(pairs.probabilities, fitted)
    assert np.array_equal(calibrated[:, 2], pairs.probabilities[:, 2])


def test_a_threshold_of_each_class_is_the_best_that_scikit_learn_finds():
    pairs = drawn()
    chosen = thresholds.choose_thresholds(pairs.probabilities, pairs.values, pairs.weights, "best_f1")
    for number, threshold in enumerate(chosen):
        known = pairs.values[:, number] >= 0
        truth, p = pairs.values[known, number], pairs.probabilities[known, number]
        scores = [
            sk.f1_score(truth, p > level, sample_weight=pairs.weights[known, number]) for level in np.unique(p)[:-1]
        ]
        assert threshold.f1 == pytest.approx(max(scores), abs=1e-9) and threshold.reached
    called = thresholds.above(pairs.probabilities, chosen)
    assert np.array_equal(called[:, 3], pairs.probabilities[:, 3] > chosen[3].value)


def test_the_recall_of_an_aim_is_reached_and_one_number_is_for_all_classes():
    pairs = drawn()
    chosen = thresholds.choose_thresholds(pairs.probabilities, pairs.values, pairs.weights, "recall:0.9")
    assert all(threshold.recall >= 0.9 and threshold.reached for threshold in chosen)
    fixed = thresholds.choose_thresholds(pairs.probabilities, pairs.values, pairs.weights, 0.25)
    assert [threshold.value for threshold in fixed] == [0.25] * 4


def test_an_aim_that_no_threshold_reaches_is_a_line_that_names_the_class_and_what_was_taken():
    pairs = drawn()
    p, values = pairs.probabilities.copy(), pairs.values.copy()
    p[:, 1] = 0.4 + 0.1 * (np.arange(len(p)) % 2)  # says nothing of goats
    values[:, 3] = np.where(values[:, 3] == 0, -1, values[:, 3])  # no person is known to be absent
    chosen = thresholds.choose_thresholds(p, values, pairs.weights, "precision:0.9")
    untold = calibration.cannot_calibrate(values, pairs.weights)
    line = thresholds.missed(chosen, CLASSES, untold, "head")
    assert line.startswith("evaluate.multi_aim precision:0.9 is not reached by the head on validation for goat (")
    assert f"the nearest is taken: {chosen[1].value:.3g}, with a precision of {chosen[1].precision:.1%}" in line
    assert "person (0.5 is taken: no pair is known to be present, or none to be absent)" in line
    assert "sheep" not in line and "\n" not in line
    zero = thresholds.choose_thresholds(p * 0, values, pairs.weights, "best_f1")
    assert "sheep (the nearest is taken: 0.5" in thresholds.missed(zero, CLASSES, untold, "head")
    reached = thresholds.choose_thresholds(p[:, :1], values[:, :1], pairs.weights[:, :1], "precision:0.5")
    assert thresholds.missed(reached, CLASSES[:1], untold[:1], "head") == ""


def test_names_of_several_classes_are_sorted_and_joined():
    present = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], bool)
    assert names_of(CLASSES, present) == ["goat + sheep", "", "alpaca"]


def test_the_benchmark_of_the_intervals_says_how_often_they_hold(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import multi_label_coverage as benchmark

    monkeypatch.setattr(benchmark.results, "FOLDER", tmp_path)
    monkeypatch.setattr(benchmark, "TRUTH", 3000)
    monkeypatch.setattr("sys.argv", ["x", "--sets", "4", "--photographs", "60", "--many", "40", "--bootstrap", "100"])
    benchmark.main()
    said = capsys.readouterr().out
    for name in ("mean_average_precision", "macro_ece", "micro_f1", "average_precision of a class"):
        assert re.search(rf"^  {name} +holds +\d+\.\d %, \d\.\d+ wide, off by [+-]", said, re.MULTILINE), name
    assert "of equally good models, one is called better: mean_average_precision" in said
    assert [row[0] for row in measured.read(tmp_path / "multi_label_coverage.json")["rows"]][:2] == [
        "mean average precision", "… its interval is wide",
    ]  # fmt: skip
