"""The metrics equal scikit-learn, scipy or a count by hand; what is undefined is None, without a warning.

The intervals cover the truth as often as they say, and treat near-duplicates as one.
"""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest
from scored_images import example, scored
from sklearn import metrics as sk

from thaw.evaluation import metrics, resampling
from thaw.evaluation.resampling import Resampling

pytestmark = pytest.mark.filterwarnings("error")
EXACT = {"rel": 0, "abs": 1e-9}
# Above and below all classes' images: the areas under the curves by either way.
each_way = pytest.mark.parametrize("min_sorted", [0, 10_000])


def measure(probabilities, labels, weights=None, groups=None, bins=10, resamples=500, seed=0):
    images = scored(probabilities, labels, weights, groups)
    return metrics.classification_metrics(images, bins, Resampling(resamples, seed))


def by_class(probabilities, labels, groups=None, resamples=200):
    names = [f"class {k}" for k in range(probabilities.shape[1])]
    return metrics.class_metrics(scored(probabilities, labels, groups=groups), names, Resampling(resamples, seed=0))


def scikit_learn(probabilities, labels, weights=None):
    """Return the measures by other people's code; every class must have an image."""
    classes = probabilities.shape[1]
    predictions, truth = probabilities.argmax(axis=1), np.eye(classes, dtype=int)[labels]
    positives = [1] if classes == 2 else range(classes)
    given = {"sample_weight": weights}
    areas, precisions = (
        np.mean([area(truth[:, k], probabilities[:, k], **given) for k in positives])
        for area in (sk.roc_auc_score, sk.average_precision_score)
    )
    return {
        "accuracy": sk.accuracy_score(labels, predictions, **given),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predictions, **given),
        "macro_f1": sk.f1_score(labels, predictions, average="macro", **given),
        "roc_auc": areas,
        "pr_auc": precisions,
        "log_loss": sk.log_loss(labels, probabilities, **given),
        "brier": sk.brier_score_loss(
            labels, probabilities[:, 1] if classes == 2 else probabilities, scale_by_half=True, **given
        ),
    }


def weighted(key):
    name, _, end = key.rpartition("_")
    return f"{name}_weighted_{end}" if end in ("low", "high") else f"{key}_weighted"


@each_way
@pytest.mark.parametrize("classes", [2, 4, 7])
def test_plain_metrics_equal_scikit_learn(classes, min_sorted, monkeypatch):
    monkeypatch.setattr(resampling, "MIN_SORTED_IMAGES", min_sorted)
    probabilities, labels = example(classes=classes)
    got = measure(probabilities, labels)
    expected = scikit_learn(probabilities, labels)
    assert {key: got[key] for key in expected} == pytest.approx(expected, **EXACT)
    assert tuple(got) == metrics.metric_names(classes)
    assert all(type(value) is float for value in got.values())
    assert ("top_5_accuracy" in got) == (classes > 5)


@each_way
@pytest.mark.parametrize("classes", [2, 4, 7])
def test_weighted_metrics_equal_scikit_learn(classes, min_sorted, monkeypatch):
    monkeypatch.setattr(resampling, "MIN_SORTED_IMAGES", min_sorted)
    probabilities, labels = example(classes=classes)
    weights = np.random.default_rng(1).choice([1, 1 / 3, 2 / 3, 0], len(labels))
    got = measure(probabilities, labels, weights)
    expected = {weighted(key): value for key, value in scikit_learn(probabilities, labels, weights).items()}
    assert {key: got[key] for key in expected} == pytest.approx(expected, **EXACT)


def test_the_label_among_the_five_most_probable_equals_scikit_learn():
    generator = np.random.default_rng(0)
    probabilities, labels = generator.dirichlet(np.ones(9), 300), generator.integers(0, 9, 300)
    weights = generator.random(300)
    got = measure(probabilities, labels, weights)
    for key, given in (("top_5_accuracy", None), ("top_5_accuracy_weighted", weights)):
        expected = sk.top_k_accuracy_score(labels, probabilities, k=5, sample_weight=given)
        assert got[key] == pytest.approx(expected, **EXACT)


def test_weights_change_the_weighted_metrics_alone():
    probabilities, labels = example()
    plain, other = measure(probabilities, labels), measure(probabilities, labels, np.random.default_rng(1).random(300))
    changed = {key for key in plain if plain[key] != other[key]}
    assert changed >= {key for key in plain if key.endswith("weighted")}
    assert all("weighted" in key for key in changed)


def test_equal_weights_give_the_plain_metrics():
    probabilities, labels = example()
    got = measure(probabilities, labels, np.full(300, 0.25))
    assert not [key for key in got if "weighted" not in key and got[key] != got[weighted(key)]]


def test_expected_calibration_error_by_hand():
    top = np.array([0.6, 0.75, 0.9, 0.95])  # two bins of five: (0.6, 0.8] and (0.8, 1]; 0.6 closes (0.4, 0.6]
    probabilities = np.stack([1 - top, top], axis=1)
    labels = np.array([1, 0, 1, 0])
    # one image at 0.6, right; one at 0.75, wrong; two at 0.925 on average, half of them right
    expected = (1 * 0.4 + 1 * 0.75 + 2 * 0.425) / 4
    assert measure(probabilities, labels, bins=5)["ece"] == pytest.approx(expected, **EXACT)


def test_expected_calibration_error_counts_the_weights():
    top = np.array([0.9, 0.95])  # in one of five bins
    probabilities = np.stack([1 - top, top], axis=1)
    got = measure(probabilities, np.array([1, 0]), np.array([3.0, 1.0]), bins=5)
    assert got["ece_weighted"] == pytest.approx((3 * 0.9 + 0.95) / 4 - 3 / 4, **EXACT)


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 40), (40, 40), (17, 40), (580, 656)])
def test_wilson_interval_equals_scipy(hits, count):
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert metrics.wilson(hits, count) == pytest.approx((expected.low, expected.high), **EXACT)


@pytest.fixture(scope="module")
def drawn():
    """Arguments of `measure`, and the weighted metrics of 150 resamples whose groups were drawn one by one."""
    probabilities, labels = example(200, classes=3)
    generator = np.random.default_rng(3)
    weights, groups = generator.choice([1, 1 / 3], 200), generator.integers(0, 80, 200).astype(str)
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    draws = []
    for _ in range(150):
        draw = np.concatenate([members[i] for i in generator.integers(0, len(members), len(members))])
        draws.append(scikit_learn(probabilities[draw], labels[draw], weights[draw]))
    return (probabilities, labels, weights, groups), draws


@each_way
def test_bootstrap_intervals_equal_drawing_groups_one_by_one(min_sorted, drawn, monkeypatch):
    monkeypatch.setattr(resampling, "MIN_SORTED_IMAGES", min_sorted)
    arguments, draws = drawn
    resampled = resampling.resample(scored(*arguments), 10, Resampling(4000, seed=0))
    for name in draws[0]:
        low, high = np.quantile([draw[name] for draw in draws], [0.025, 0.975])
        _, *found = resampling.interval(resampled[f"{name}_weighted"])
        # of 150 draws, the ends scatter by 8 % of the interval's width
        assert found == pytest.approx((low, high), abs=0.25 * (high - low)), name


def test_bootstrap_is_seeded_and_leaves_the_global_state_alone():
    probabilities, labels = example()
    weights = np.random.default_rng(1).random(len(labels))
    before = np.random.get_state()[1].tolist()
    first, again, other = (measure(probabilities, labels, weights, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first["accuracy_weighted_low"] != other["accuracy_weighted_low"]
    assert np.random.get_state()[1].tolist() == before


def test_bootstrap_is_the_same_however_much_is_held_at_a_time(monkeypatch):
    probabilities, labels = example(classes=3)
    weights = np.random.default_rng(1).random(len(labels))
    whole, class_rows = measure(probabilities, labels, weights), by_class(probabilities, labels)
    monkeypatch.setattr(resampling, "BLOCK_NUMBERS", 1000)
    monkeypatch.setattr(resampling, "MAX_SORTED", 1)  # one class
    assert measure(probabilities, labels, weights) == pytest.approx(whole, **EXACT)
    for row, expected in zip(by_class(probabilities, labels), class_rows, strict=True):
        assert row.pop("class") == expected.pop("class")
        assert row == pytest.approx(expected, **EXACT)


def test_copies_within_their_groups_leave_the_intervals_the_same():
    probabilities, labels = example()
    groups = np.arange(len(labels))
    twice = [np.repeat(array, 2, axis=0) for array in (probabilities, labels, np.ones(len(labels)), groups)]
    once, doubled = measure(probabilities, labels), measure(*twice)
    alone = measure(*twice[:3], groups=np.arange(2 * len(labels)))
    for name in ("accuracy_weighted", "macro_f1", "roc_auc", "pr_auc", "log_loss"):
        low, high = f"{name}_low", f"{name}_high"
        assert [doubled[low], doubled[high]] == pytest.approx([once[low], once[high]], **EXACT)
        assert alone[high] - alone[low] < 0.85 * (once[high] - once[low])  # by 1 / sqrt(2) = 0.71


def population(count, generator, sharpness):
    """Return a draw of a classifier of two classes, calibrated at a sharpness of 1."""
    labels = (generator.random(count) < 0.35).astype(int)
    logits = 1.8 * (generator.normal(size=count) + 1.8 * (labels - 0.5)) + np.log(0.35 / 0.65)
    positive = 1 / (1 + np.exp(-sharpness * logits))
    return np.stack([1 - positive, positive], axis=1), labels


@pytest.mark.parametrize("sharpness", [1.0, 1.5])
def test_intervals_cover_the_truth_as_often_as_they_say(sharpness):
    """In 300 splits: chance alone moves the share by 1.3 %. In 2,000 it was 93.6 to 95.9 % for each measure."""
    everyone = scored(*population(200_000, np.random.default_rng(0), sharpness), groups=np.zeros(200_000, int))
    whole = resampling.resample(everyone, 10, Resampling(1, seed=0))
    names = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "pr_auc", "log_loss", "brier", "ece")
    truth = {name: np.abs(whole[name][..., 0]).sum() for name in names}
    covered = dict.fromkeys(names, 0)
    for split in range(300):
        probabilities, labels = population(600, np.random.default_rng([1, split]), sharpness)
        got = measure(probabilities, labels, resamples=300, seed=split)
        for name in names:
            covered[name] += got[f"{name}_low"] <= truth[name] <= got[f"{name}_high"]
    assert {name: count / 300 for name, count in covered.items()} == dict.fromkeys(names, pytest.approx(0.95, abs=0.04))


def test_the_calibration_error_of_a_calibrated_model_may_be_0():
    lows = [measure(*population(600, np.random.default_rng(i), 1.0))["ece_low"] for i in range(20)]
    assert sum(low == 0 for low in lows) >= 17
    surely_off = measure(*population(5000, np.random.default_rng(0), 3.0))
    assert 0.05 < surely_off["ece_low"] < surely_off["ece"] <= surely_off["ece_high"]


@pytest.mark.parametrize(("wrong", "high"), [(4, 0.04), (8, 0.105)])
def test_the_calibration_error_of_a_model_that_is_always_as_sure_may_be_many_times_the_measured_one(wrong, high):
    """The highest error of which such a split is no rare one: in 2.5 % of the resamples that many are wrong or less."""
    probabilities = np.tile([0.97, 0.03], (100, 1))
    got = measure(probabilities, (np.arange(100) < wrong).astype(int), bins=15)
    assert got["ece"] == pytest.approx(abs(wrong - 3) / 100, abs=1e-9)
    assert got["ece_high"] == pytest.approx(high, abs=0.01)


def test_no_calibration_error_at_all_has_no_interval():
    for p in (0.97, float(np.float32(0.97))):
        got = measure(np.tile([p, 1 - p], (100, 1)), (np.arange(100) < 3).astype(int), bins=15)
        assert got["ece"] == pytest.approx(0, abs=1e-7) and got["ece_low"] is got["ece_high"] is None


def test_without_a_mistake_the_calibration_error_has_no_interval():
    sure = 1 - np.random.default_rng(0).exponential(0.004, 200)
    got = measure(np.stack([sure, 1 - sure], axis=1), np.zeros(200, int))
    assert got["ece"] > 0.001 and got["ece_low"] is got["ece_high"] is None


def test_a_calibration_error_that_few_resamples_meet_has_an_interval_beyond_it():
    got = measure(np.tile([0.972, 0.028], (100, 1)), (np.arange(100) < 3).astype(int), bins=15)
    assert got["ece"] == pytest.approx(0.002) and got["ece_low"] == 0 and 0.02 < got["ece_high"] < 0.05


def test_without_weight_the_weighted_metrics_are_undefined():
    probabilities, labels = example()
    got = measure(probabilities, labels, weights=np.zeros(len(labels)))
    assert [key for key in got if got[key] is None] == [key for key in got if "weighted" in key]


def test_images_of_weight_0_take_no_part():
    probabilities, labels = example()
    weights = np.random.default_rng(1).choice([0, 1, 0.5], len(labels))
    kept = weights > 0
    got = measure(probabilities, labels, weights)
    alone = measure(probabilities[kept], labels[kept], weights[kept])
    assert {key: got[key] for key in got if "weighted" in key} == {key: alone[key] for key in got if "weighted" in key}


@pytest.mark.parametrize("classes", [2, 7])
def test_one_group_has_no_interval(classes):
    probabilities, labels = example(classes=classes)
    one = np.zeros(len(labels), int)
    got = measure(probabilities, labels, groups=one)
    wilsons = {f"accuracy{kind}_{end}" for kind in ("", "_weighted") for end in ("low", "high")}
    assert {key for key in got if got[key] is None} == {key for key in got if key.endswith(("low", "high"))} - wilsons
    assert (got["accuracy_low"], got["accuracy_high"]) == metrics.wilson(got["accuracy"], 1)  # it tells as much as one
    for row in by_class(probabilities, labels, groups=one):
        assert row["recall"] is not None and row["f1_low"] is None and row["roc_auc_high"] is None
        assert (row["recall_low"], row["recall_high"]) == metrics.wilson(row["recall"], 1)


def test_the_interval_of_the_accuracy_counts_groups_and_is_wilsons_where_each_image_is_alone():
    probabilities, labels = example()
    hits = int((probabilities.argmax(axis=1) == labels).sum())
    alone = measure(probabilities, labels)
    assert (alone["accuracy_low"], alone["accuracy_high"]) == pytest.approx(metrics.wilson(hits, 300), **EXACT)
    groups = np.where(np.arange(300) < 100, 0, np.arange(300))  # one of a hundred, 200 single ones
    effective = 300**2 / (100**2 + 200)
    got = measure(probabilities, labels, groups=groups)
    expected = metrics.wilson(hits / 300 * effective, effective)
    assert (got["accuracy_low"], got["accuracy_high"]) == pytest.approx(expected, **EXACT)
    assert (got["accuracy_weighted_low"], got["accuracy_weighted_high"]) == pytest.approx(expected, **EXACT)


def test_the_interval_of_the_accuracy_covers_the_truth_where_images_are_copied():
    """In 500 splits. Wilson's interval of images as independent covers 79 % of them."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(500):
        hits, copies = generator.random(150) < 0.85, generator.integers(1, 4, 150)
        probabilities = np.stack([~hits, hits], axis=1).astype(float).repeat(copies, axis=0)
        groups = np.arange(150).repeat(copies)
        got = measure(probabilities, np.ones(len(groups), int), groups=groups, resamples=1)
        covered += got["accuracy_low"] <= 0.85 <= got["accuracy_high"]
    assert covered / 500 == pytest.approx(0.95, abs=0.03)


def drawn_weights(count, light, shares, generator):
    """Return weights, 30 % of them 1, and which images are right: of the heavy and of the light ones these shares."""
    heavy = generator.random(count) < 0.3
    return np.where(heavy, 1, light), generator.random(count) < np.where(heavy, *shares)


def measure_hits(hits, weights, groups=None, resamples=200):
    return measure(np.stack([~hits, hits], axis=1).astype(float), np.ones(len(hits), int), weights, groups,
                   resamples=resamples)  # fmt: skip


@pytest.mark.parametrize("shares", [(0.9, 0.9), (0.95, 0.7), (0.8, 0.95)])
def test_the_interval_of_the_weighted_accuracy_covers_the_truth_where_few_images_weigh_much(shares):
    """In 200 splits. A bootstrap covers 82 to 92 % of them."""
    generator, covered = np.random.default_rng(0), 0
    truth = np.average(shares, weights=(0.3, 0.7 * 0.1))
    for _ in range(200):
        weights, hits = drawn_weights(40, 0.1, shares, generator)
        got = measure_hits(hits, weights, resamples=60)
        covered += got["accuracy_weighted_low"] <= truth <= got["accuracy_weighted_high"]
    assert covered / 200 > 0.92


def test_where_no_heavy_image_is_wrong_the_weighted_accuracy_has_wilsons_interval_of_few_images():
    weights, hits = np.repeat([1, 0.1], [20, 30]), np.arange(50) < 44
    got = measure_hits(hits, weights)
    effective = 23**2 / 20.3
    expected = metrics.wilson(22.4 / 23 * effective, effective)
    assert (got["accuracy_weighted_low"], got["accuracy_weighted_high"]) == pytest.approx(expected, **EXACT)
    twice = measure_hits(hits.repeat(2), weights.repeat(2), groups=np.arange(50).repeat(2))
    assert twice["accuracy_weighted_low"] == pytest.approx(expected[0], **EXACT)
    extreme = measure_hits(np.arange(10) > 0, 10.0 ** np.arange(-4, 6))
    assert extreme["accuracy_weighted_low"] < 0.5 and extreme["accuracy_weighted_high"] > 0.999


def test_where_heavy_images_are_wrong_more_often_fewer_images_tell_the_weighted_accuracy():
    weights = np.repeat([1, 0.1], [20, 100])
    light_are_wrong, heavy_are_wrong = (
        metrics.effective_images(scored(np.eye(2)[is_right.astype(int)], np.ones(120, int), weights))
        for is_right in (np.arange(120) < 40, np.arange(120) >= 8)
    )
    assert light_are_wrong == pytest.approx(30**2 / 21, **EXACT)
    right, wrong = 22 / 30, 8 / 30
    variance = (8 * right**2 + 12 * wrong**2 + 100 * (0.1 * wrong) ** 2) / 30**2
    assert heavy_are_wrong == pytest.approx(right * wrong / variance, **EXACT)
    assert heavy_are_wrong < light_are_wrong


def test_of_many_images_the_weighted_accuracy_keeps_the_interval_of_the_bootstrap():
    weights, hits = drawn_weights(650, 1 / 3, (0.92, 0.7), np.random.default_rng(0))
    got = measure_hits(hits, weights)
    images = scored(np.stack([~hits, hits], axis=1).astype(float), np.ones(650, int), weights)
    ends = resampling.interval(resampling.resample(images, 10, Resampling(200, 0))["accuracy_weighted"])[1:]
    assert (got["accuracy_weighted_low"], got["accuracy_weighted_high"]) == ends


def test_labels_without_weight_leave_the_others_wilsons_interval():
    probabilities, labels = example()
    got = measure(probabilities, labels, np.repeat([0.0, 1.0], [50, 250]))
    alone = measure(probabilities[50:], labels[50:])
    assert [got[f"accuracy_weighted_{end}"] for end in ("low", "high")] == [
        alone["accuracy_low"],
        alone["accuracy_high"],
    ]


@pytest.mark.parametrize(("classes", "each", "skill"), [(300, 4, 2.5), (100, 5, 2.0), (5, 8, 2.0), (10, 20, 3.0)])
def test_the_intervals_of_macro_f1_and_pr_auc_hold_the_measured_value_with_many_classes(classes, each, skill):
    generator = np.random.default_rng(0)
    labels = np.arange(classes).repeat(each)
    odds = np.exp(2 * (generator.normal(size=(len(labels), classes)) + skill * np.eye(classes)[labels]))
    got = measure(odds / odds.sum(axis=1, keepdims=True), labels, resamples=200)
    for name in ("macro_f1", "pr_auc", "balanced_accuracy", "roc_auc"):
        assert 0 <= got[f"{name}_low"] < got[name] < got[f"{name}_high"] <= 1, name


def test_shifted_resamples_lie_around_the_value_and_around_what_it_is_without_its_bias():
    values = np.append(0.5, 0.6 + np.linspace(-0.1, 0.1, 201))
    value, low, high = resampling.shifted_interval(values)
    assert (value, low, high) == (0.5, pytest.approx(0.4 - 0.095), pytest.approx(0.5 + 0.095))
    assert resampling.shifted_interval(1 - values)[1:] == (pytest.approx(0.5 - 0.095), pytest.approx(0.6 + 0.095))
    assert resampling.shifted_interval(np.array([0.5, 0.5, 0.5])) == (0.5, None, None)
    assert resampling.shifted_interval(np.array([np.nan, 0.5, 0.6])) == (None, None, None)
    assert resampling.shifted_interval(np.append(0.02, np.linspace(0.05, 0.1, 50)))[1] == 0


def test_recall_and_precision_of_a_class_have_wilsons_interval_of_its_groups():
    probabilities = np.eye(2)[[0, 0, 0, 1, 1, 1]]
    first, second = by_class(probabilities, np.array([0, 0, 0, 0, 1, 1]), groups=np.array([0, 0, 1, 2, 3, 4]))
    effective = 4**2 / (2**2 + 1 + 1)
    assert (first["recall_low"], first["recall_high"]) == pytest.approx(metrics.wilson(0.75 * effective, effective))
    assert (second["recall_low"], second["recall_high"]) == pytest.approx(metrics.wilson(2, 2))
    assert (second["precision_low"], second["precision_high"]) == pytest.approx(metrics.wilson(2, 3))


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("label", [0, 1])
def test_one_image_is_measured(classes, label):
    probabilities = np.full((1, classes), 0.1 / (classes - 1))
    probabilities[0, 0] = 0.9
    got = measure(probabilities, np.array([label]))
    assert got["accuracy"] == got["balanced_accuracy"] == got["macro_f1"] == (label == 0)
    assert got["log_loss"] == pytest.approx(-np.log(probabilities[0, label]), **EXACT)
    assert got["roc_auc"] is None and got["pr_auc"] is None
    assert got["log_loss_low"] is None and got["ece_low"] is None and got["accuracy_low"] is not None


def test_a_model_without_mistakes_has_wilsons_interval_alone():
    labels = np.arange(50) % 2
    weights = np.repeat([1.0, 0.5], 25)
    got = measure(np.eye(2)[labels], labels, weights)
    assert got["accuracy"] == got["accuracy_weighted"] == got["macro_f1"] == got["roc_auc"] == got["pr_auc"] == 1
    assert (got["accuracy_low"], got["accuracy_high"]) == metrics.wilson(50, 50)
    effective = 37.5**2 / 31.25
    weighted = metrics.wilson(effective, effective)
    assert (got["accuracy_weighted_low"], got["accuracy_weighted_high"]) == pytest.approx(weighted, **EXACT)
    assert got["balanced_accuracy_low"] is None and got["roc_auc_high"] is None


def test_of_equal_weights_the_weighted_accuracy_has_wilsons_interval_of_as_many_groups():
    probabilities, labels = example()
    got = measure(probabilities, labels, np.full(len(labels), 0.5))
    ends = ("low", "high")
    alone = [got[f"accuracy_{end}"] for end in ends]
    assert [got[f"accuracy_weighted_{end}"] for end in ends] == pytest.approx(alone, **EXACT)
    pairs = measure(probabilities, labels, groups=np.arange(len(labels)) // 2)
    wider = metrics.wilson(pairs["accuracy"] * len(labels) / 2, len(labels) / 2)
    assert [pairs[f"accuracy_weighted_{end}"] for end in ends] == pytest.approx(wider, **EXACT)


def test_probabilities_that_are_all_equal_rank_nothing():
    labels = np.arange(60) % 10
    got = measure(np.full((60, 10), 0.1), labels)
    assert got["accuracy"] == pytest.approx(0.1, **EXACT) and got["top_5_accuracy"] == pytest.approx(0.5, **EXACT)
    assert got["roc_auc"] == pytest.approx(0.5, **EXACT) and got["pr_auc"] == pytest.approx(0.1, **EXACT)
    assert got["log_loss"] == pytest.approx(np.log(10), **EXACT) and got["ece"] == pytest.approx(0, **EXACT)


def test_a_single_predicted_class_is_measured():
    probabilities, labels = np.tile([0.3, 0.7], (40, 1)), np.arange(40) % 4 // 3
    got = measure(probabilities, labels)
    assert got["balanced_accuracy"] == got["roc_auc"] == 0.5
    assert got["macro_f1"] == pytest.approx(sk.f1_score(labels, np.ones(40), average="macro"), **EXACT)
    never, always = by_class(probabilities, labels)
    assert (never["predicted"], never["precision"], never["recall"], never["f1"]) == (0, None, 0, 0)
    assert (always["predicted"], always["precision"], always["recall"]) == (40, 0.25, 1)


@pytest.mark.parametrize("present", [0, 1])
def test_a_single_class_leaves_the_rank_undefined(present):
    probabilities, labels = example()
    kept = labels == present
    got = measure(probabilities[kept], labels[kept])
    assert {key for key in got if got[key] is None} == {key for key in got if "_auc" in key}
    assert got["balanced_accuracy"] == pytest.approx(got["accuracy"], **EXACT)


@each_way
def test_macro_averages_go_over_the_classes_present(min_sorted, monkeypatch):
    monkeypatch.setattr(resampling, "MIN_SORTED_IMAGES", min_sorted)
    probabilities, labels = example(classes=4)
    kept = labels != 2
    probabilities, labels = probabilities[kept], labels[kept]
    predictions = probabilities.argmax(axis=1)
    assert 2 in predictions
    got = measure(probabilities, labels)
    recalls = [(predictions[labels == k] == k).mean() for k in (0, 1, 3)]
    areas = [sk.roc_auc_score(labels == k, probabilities[:, k]) for k in (0, 1, 3)]
    precisions = [sk.average_precision_score(labels == k, probabilities[:, k]) for k in (0, 1, 3)]
    assert got["balanced_accuracy"] == pytest.approx(np.mean(recalls), **EXACT)
    assert got["roc_auc"] == pytest.approx(np.mean(areas), **EXACT)
    assert got["pr_auc"] == pytest.approx(np.mean(precisions), **EXACT)
    assert got["macro_f1"] == pytest.approx(
        sk.f1_score(labels, predictions, labels=[0, 1, 3], average="macro"), **EXACT
    )
    missing = by_class(probabilities, labels)[2]
    assert missing["support"] == 0 and missing["predicted"] > 0
    assert {missing[key] for key in missing if key not in ("class", "support", "predicted")} == {None}


def test_an_empty_split_has_no_metrics():
    probabilities, labels = np.empty((0, 2)), np.empty(0, int)
    assert measure(probabilities, labels) == dict.fromkeys(metrics.metric_names(2))
    assert [row["f1"] for row in by_class(probabilities, labels)] == [None, None]


@each_way
def test_measures_by_class_equal_scikit_learn(min_sorted, monkeypatch):
    monkeypatch.setattr(resampling, "MIN_SORTED_IMAGES", min_sorted)
    probabilities, labels = example(classes=4)
    predictions = probabilities.argmax(axis=1)
    expected = sk.precision_recall_fscore_support(labels, predictions)
    rows = by_class(probabilities, labels)
    assert [row["class"] for row in rows] == ["class 0", "class 1", "class 2", "class 3"]
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[name] for row in rows] == pytest.approx(values, **EXACT)
    for k, row in enumerate(rows):
        assert row["predicted"] == (predictions == k).sum()
        assert row["roc_auc"] == pytest.approx(sk.roc_auc_score(labels == k, probabilities[:, k]), **EXACT)
        assert row["pr_auc"] == pytest.approx(sk.average_precision_score(labels == k, probabilities[:, k]), **EXACT)
        for name in ("precision", "recall", "f1", "roc_auc", "pr_auc"):
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]


def test_the_areas_of_class_1_of_two_are_those_of_the_model():
    probabilities, labels = example()
    whole, positive = measure(probabilities, labels, resamples=300), by_class(probabilities, labels, resamples=300)[1]
    keys = [f"{name}{end}" for name in ("roc_auc", "pr_auc") for end in ("", "_low", "_high")]
    assert {key: positive[key] for key in keys} == pytest.approx({key: whole[key] for key in keys}, **EXACT)


def test_ten_thousand_classes_are_measured_in_bounded_memory():
    """An array of resamples by classes by images, or of images by resamples by images, would be seen."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10_000, 1000)
    probabilities = generator.random((1000, 10_000))
    probabilities[np.arange(1000), labels] += 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    tracemalloc.start()
    got = measure(probabilities, labels, resamples=200)
    rows = by_class(probabilities, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.6 < got["roc_auc_low"] < got["roc_auc"] < got["roc_auc_high"] < 1
    k = labels[0]
    assert rows[k]["roc_auc"] == pytest.approx(sk.roc_auc_score(labels == k, probabilities[:, k]), **EXACT)
    assert len(rows) == 10_000 and peak < 250e6


def test_resamples_are_fewer_where_they_would_cost_much(monkeypatch):
    probabilities, labels = example(classes=3)

    def resamples():
        values = resampling.resample(scored(probabilities, labels), 5, Resampling(1000, seed=0))
        return {name: values[name].shape[-1] - 1 for name in ("log_loss", "ece", "roc_auc", "pr_auc_weighted")}

    assert set(resamples().values()) == {1000}
    monkeypatch.setattr(resampling, "MAX_COMPARISONS", 1)
    assert resamples() == {"log_loss": 1000, "ece": 1000, "roc_auc": 200, "pr_auc_weighted": 200}
    monkeypatch.setattr(resampling, "MAX_DRAWN_BYTES", 1)
    assert set(resamples().values()) == {200}


def test_single_precision_is_used_only_where_it_changes_no_bit(monkeypatch):
    exact = resampling._exact_dtype
    generator = np.random.default_rng(0)
    odds = generator.exponential(size=(300, 30)).round(2)  # some are level
    images = scored(odds / odds.sum(axis=1, keepdims=True), generator.permutation(np.arange(300) % 30))
    drawn = resampling.resample(images, 10, Resampling(50, seed=0))
    types = []
    monkeypatch.setattr(resampling, "_exact_dtype", lambda counts: types.append(exact(counts)) or np.float64)
    doubled = resampling.resample(images, 10, Resampling(50, seed=0))
    assert set(types) == {np.float32}
    for name, values in drawn.items():
        np.testing.assert_array_equal(values, doubled[name], name)
    assert exact(np.array([[1 / 3], [1.0]])) is exact(np.array([[2.0**24], [1.0]])) is np.float64
