"""Comparisons equal scipy, scikit-learn or a count by hand, and hold in both directions."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk
from sklearn.neighbors import NearestNeighbors

from thaw.evaluation import comparison
from thaw.evaluation.comparison import LabelledFeatures
from thaw.evaluation.metrics import classification_metrics
from thaw.evaluation.resampling import Resampling
from thaw.evaluation.scored import Scored

pytestmark = pytest.mark.filterwarnings("error")


def two_models(count=200, seed=0):
    """Return the probabilities of a good and of a worse model of three classes, and labels, weights and groups."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    logits = [skill * np.eye(3)[labels] + generator.normal(size=(count, 3)) for skill in (2.5, 1.0)]
    models = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in logits]
    return *models, labels, generator.choice([1, 0.5], count), generator.integers(0, count // 2, count)


def difference(a, b, labels, weights, groups, resamples=500):
    a, b = (Scored(p, labels, weights, groups) for p in (a, b))
    return comparison.paired_difference(a, b, 10, Resampling(resamples, seed=0))


@pytest.mark.parametrize(("only_a", "only_b"), [(5, 0), (3, 9), (20, 20), (60, 31)])
def test_mcnemar_is_the_exact_binomial_test_of_the_pairs_that_differ(only_a, only_b):
    hits_a = np.repeat([True, True, False, False], [40, only_a, only_b, 7])
    hits_b = np.repeat([True, False, True, False], [40, only_a, only_b, 7])
    expected = binomtest(only_b, only_a + only_b).pvalue
    assert comparison.mcnemar(hits_a, hits_b) == {
        "both": 40, "only_a": only_a, "only_b": only_b, "neither": 7, "p": pytest.approx(expected, abs=1e-12),
    }  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 30])
def test_mcnemar_finds_nothing_where_the_models_agree(count):
    hits = np.arange(count) % 3 == 0
    assert comparison.mcnemar(hits, hits)["p"] == 1


def test_the_difference_is_that_of_the_metrics():
    a, b, labels, weights, groups = two_models()
    metrics_a, metrics_b = (
        classification_metrics(Scored(p, labels, weights, groups), 10, Resampling(500, seed=0)) for p in (a, b)
    )
    got = difference(a, b, labels, weights, groups)
    assert set(got) == {name for name in metrics_a if not name.endswith(("_low", "_high"))}
    for name, values in got.items():
        assert values["difference"] == pytest.approx(metrics_a[name] - metrics_b[name], abs=1e-12), name


def test_the_interval_equals_drawing_groups_one_by_one():
    a, b, labels, weights, groups = two_models()
    generator = np.random.default_rng(5)
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    hits = (a.argmax(axis=1) == labels) * 1.0 - (b.argmax(axis=1) == labels)
    draws = []
    for _ in range(2000):
        draw = np.concatenate([members[i] for i in generator.integers(0, len(members), len(members))])
        draws.append(np.average(hits[draw], weights=weights[draw]))
    low, high = np.quantile(draws, [0.025, 0.975])
    got = difference(a, b, labels, weights, groups, resamples=10_000)["accuracy_weighted"]
    # the ends of a bootstrap of 2,000 scatter by a fiftieth of the interval's width
    assert (got["low"], got["high"]) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_the_difference_turns_with_the_models():
    a, b, *rest = two_models()
    forth, back = difference(a, b, *rest), difference(b, a, *rest)
    for name, values in forth.items():
        if not name.startswith("ece"):
            assert back[name]["low"] == pytest.approx(-values["high"], abs=1e-12)
    assert forth["accuracy"]["low"] > 0 and forth["log_loss"]["high"] < 0


def test_pairs_tell_more_than_two_intervals():
    """A model and a slightly better one make the same mistakes: only the paired difference excludes 0."""
    a, _, labels, weights, groups = two_models(400)
    worse = a.copy()
    right = np.flatnonzero(a.argmax(axis=1) == labels)[:8]
    worse[right] = worse[right][:, [1, 2, 0]]
    got = difference(a, worse, labels, weights, groups)["accuracy"]
    metrics_a, metrics_worse = (
        classification_metrics(Scored(p, labels, weights, groups), 10, Resampling(200, seed=0)) for p in (a, worse)
    )
    assert got["difference"] == pytest.approx(0.02) and got["low"] > 0
    assert metrics_worse["accuracy_high"] > metrics_a["accuracy_low"]


def test_a_model_does_not_differ_from_itself():
    a, _, *rest = two_models()
    for values in difference(a, a, *rest).values():
        assert values == {"difference": 0, "low": None, "high": None}


def test_calibration_errors_have_a_difference_without_an_interval():
    got = difference(*two_models())["ece"]
    assert got["difference"] != 0 and got["low"] is None and got["high"] is None


def test_without_images_no_difference_is_defined():
    got = difference(np.empty((0, 3)), np.empty((0, 3)), *np.empty((3, 0), int))
    assert {value for values in got.values() for value in values.values()} == {None}


def labelled(labels, weights=None, features=None):
    labels = np.array(labels, int)
    weights = np.ones(len(labels)) if weights is None else np.array(weights, float)
    return LabelledFeatures(np.zeros((len(labels), 1)) if features is None else features, labels, weights)


def test_the_majority_has_the_frequencies_of_training():
    got = comparison.majority_probabilities(labelled([0, 0, 2, 2], [1, 1, 0.5, 0.5]), 4, 3)
    assert got.tolist() == [[2 / 3, 0, 1 / 3, 0]] * 3


@pytest.mark.parametrize("labels", [[], [0, 1]])
def test_the_majority_of_nothing_is_undecided(labels):
    got = comparison.majority_probabilities(labelled(labels, np.zeros(len(labels))), 4, 2)
    assert got.tolist() == [[0.25] * 4] * 2


@pytest.mark.parametrize("block", [7, 2048])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_nearest_images_equal_scikit_learns(block, dtype, monkeypatch):
    monkeypatch.setattr(comparison, "BLOCK_IMAGES", block)
    generator = np.random.default_rng(0)
    train, features = (generator.normal(size=(n, 20)).astype(dtype) for n in (50, 30))
    rows, similarities = comparison.nearest_training(train, features, 5)
    judge = NearestNeighbors(n_neighbors=5, metric="cosine").fit(train.astype(np.float64))
    distances, expected = judge.kneighbors(features.astype(np.float64))
    assert rows.tolist() == expected.tolist()
    assert similarities == pytest.approx(1 - distances, abs=1e-6)


def test_there_are_no_more_neighbours_than_training_images():
    rows, similarities = comparison.nearest_training(np.eye(3), np.eye(3), 10)
    assert rows.shape == similarities.shape == (3, 3)
    assert rows[:, 0].tolist() == [0, 1, 2]


def test_of_equally_near_images_the_lower_row_stands_first():
    rows, similarities = comparison.nearest_training(np.ones((4, 2)), np.array([[3.0, 3.0], [0.0, 0.0]]), 4)
    assert rows.tolist() == [[0, 1, 2, 3]] * 2
    assert similarities.round(6).tolist() == [[1] * 4, [0] * 4]


@pytest.mark.parametrize("block", [3, 2048])
def test_of_many_copies_the_lowest_rows_are_taken(block, monkeypatch):
    monkeypatch.setattr(comparison, "BLOCK_IMAGES", block)
    train = np.eye(2)[np.arange(60) % 3 // 2]  # two of three are the first unit vector
    rows, _ = comparison.nearest_training(train, np.array([[1.0, 0], [0.2, 1]]), 4)
    assert rows.tolist() == [[0, 1, 3, 4], [2, 5, 8, 11]]


def test_neighbours_of_no_image_are_none():
    rows, _ = comparison.nearest_training(np.eye(3), np.empty((0, 3)), 2)
    assert rows.shape == (0, 2)
    train = labelled(range(3), features=np.eye(3))
    assert comparison.neighbour_probabilities(train, np.empty((0, 3)), 3, 2).shape == (0, 3)


def test_the_vote_of_the_neighbours_by_hand():
    train = labelled([0, 1, 1], [1.0, 0.5, 1.0], np.array([[1.0, 0], [1, 0.1], [0, 1]]))
    got = comparison.neighbour_probabilities(train, np.array([[1.0, 0.01]]), 2, 2)
    # votes 1 and 0.5, and one more by the frequencies of training, 1 and 1.5 of 2.5
    assert got == pytest.approx(np.array([[1 + 0.4, 0.5 + 0.6]]) / 2.5)


def clusters(count, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (3 * np.eye(3, 8)[labels] + generator.normal(size=(count, 8))).astype(np.float32), labels


def test_the_number_of_neighbours_is_the_best_on_validation():
    train_features, train_labels = clusters(120, 0)
    features, labels = clusters(60, 1)
    train = labelled(train_labels, features=train_features)
    validation = labelled(labels, np.random.default_rng(2).random(60), features)

    def loss(k):
        probabilities = comparison.neighbour_probabilities(train, features, 3, k)
        return sk.log_loss(labels, probabilities, sample_weight=validation.weights)

    assert comparison.choose_neighbours(train, validation, 3) == min(comparison.NEIGHBOURS, key=loss)


@pytest.mark.parametrize("count", [0, 5])
def test_without_a_validation_image_that_counts_the_fewest_neighbours_are_chosen(count):
    features, labels = clusters(12, 0)
    train = labelled(labels, features=features)
    validation = labelled(labels[:count], np.zeros(count), features[:count])
    assert comparison.choose_neighbours(train, validation, 3) == 1


def test_the_neighbours_of_many_images_take_little_memory():
    train, features = (np.ones((n, 64), np.float16) for n in (20_000, 5000))
    tracemalloc.start()
    comparison.nearest_training(train, features, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6  # all pairs are 400 MB


def test_the_votes_of_many_images_are_counted_in_blocks():
    train_features, labels = clusters(60, 0)
    train, features = labelled(labels, features=train_features), clusters(20_000, 1)[0]
    tracemalloc.start()
    probabilities = comparison.neighbour_probabilities(train, features, 3, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6  # the votes of all images are 36 MB
    ends = [comparison.neighbour_probabilities(train, part, 3, 50) for part in (features[:3000], features[-3000:])]
    np.testing.assert_allclose(probabilities[[*range(3000), *range(-3000, 0)]], np.concatenate(ends), rtol=1e-6)


def test_neighbours_are_looked_for_among_a_draw_where_there_are_many():
    labels = np.arange(50) % 2
    train = labelled(labels, np.arange(50.0), np.arange(50.0)[:, None])
    drawn = train.drawn(20, seed=1)
    assert len(set(drawn.weights)) == 20
    np.testing.assert_array_equal(drawn.features[:, 0], drawn.weights)
    np.testing.assert_array_equal(drawn.labels, drawn.weights % 2)
    assert train.drawn(50, seed=1) is train


@pytest.mark.parametrize(("weights", "chosen"), [([1.0, 0.05], 1), ([0.05, 1.0], 3)])
def test_validation_images_choose_the_neighbours_by_their_weight(weights, chosen):
    features = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1], [0.2, 1]])
    train = labelled([0, 1, 1, 1, 0, 0], features=features)
    validation = labelled([0, 0], weights, np.array([[1, -0.1], [-0.1, 1]]))
    assert comparison.choose_neighbours(train, validation, 2, [1, 3]) == chosen
