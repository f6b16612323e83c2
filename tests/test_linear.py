"""The linear head is scikit-learn's logistic regression, in the form in which Keras carries it on."""

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from thaw.core.errors import ThawError
from thaw.features import linear_probe
from thaw.features.examples import NO_VIEW, Examples
from thaw.features.linear_probe import Samples, until_worse
from thaw.heads import linear, registry
from thaw.heads.linear import LinearHead, fit_path
from thaw.heads.protocol import HeadData

NAMES = ("a", "b", "c")
CS = [0.01, 1.0]


def examples(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """120 features of 5 channels of different scale, and labels that they tell apart, though not quite."""
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % classes
    features = rng.normal(0, 1, (120, 5)) + np.eye(classes, 5)[labels]
    return (features * [1, 10, 0.1, 1, 1] + [0, 5, 0, -3, 0]).astype(np.float32), labels


def fit(features, labels, weights=None, Cs=CS) -> list[LinearHead]:  # noqa: N803
    weights = np.ones(len(labels)) if weights is None else weights
    return list(fit_path(Samples(features, labels, weights), NAMES[: labels.max() + 1], Cs))


def test_the_number_of_threads_changes_no_bit_of_the_answers():
    """OpenBLAS divides some sums otherwise where it has several threads, such as those over 300 channels."""
    rng = np.random.default_rng(1)
    head = LinearHead(*(rng.normal(size=shape).astype(np.float32) for shape in ((300, 3), 3)), NAMES, 1.0)
    features = rng.normal(size=(1000, 300)).astype(np.float32)
    answers = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            answers.append(head.probabilities(features))
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("step", [0, 1])
def test_the_fit_is_scikit_learns_on_scaled_features(classes, step):
    """The variance of each channel is shrunk halfway towards the mean one."""
    features, labels = examples(classes)
    variance = features.var(axis=0)
    standardised = (features - features.mean(axis=0)) / np.sqrt((variance + variance.mean()) / 2)
    expected = LogisticRegression(C=CS[step], tol=1e-8, max_iter=10_000).fit(standardised, labels)
    actual = fit(features, labels)[step].probabilities(features)
    np.testing.assert_allclose(actual, expected.predict_proba(standardised), atol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_one_a_class_and_sum_to_one(classes):
    features, labels = examples(classes)
    for head in fit(features, labels):
        assert head.kernel.shape == (5, classes)
        assert head.bias.shape == (classes,)
        assert head.kernel.dtype == head.bias.dtype == np.float32
        np.testing.assert_allclose(head.probabilities(features).sum(axis=1), 1, atol=1e-12)
        assert head.probabilities(features).shape == (120, classes)


def test_probabilities_are_the_softmax_of_the_kernel():
    head = LinearHead(np.array([[1.0, 2.0, 0.0]], np.float32), np.array([0.0, 0.0, 1.0], np.float32), NAMES, 1.0)
    exponentials = np.exp([3.0, 6.0, 1.0])
    np.testing.assert_allclose(head.probabilities(np.array([[3.0]])), [exponentials / exponentials.sum()])


def test_probabilities_of_huge_logits_are_finite():
    head = LinearHead(np.array([[1000.0, -1000.0]], np.float32), np.zeros(2, np.float32), ("a", "b"), 1.0)
    assert head.probabilities(np.array([[50.0], [-50.0]])).tolist() == [[1, 0], [0, 1]]


def test_features_in_half_precision_are_taken():
    features, labels = examples(2)
    head = fit(features, labels)[0]
    half = features.astype(np.float16)
    np.testing.assert_array_equal(head.probabilities(half), head.probabilities(half.astype(np.float64)))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_weight_of_two_is_a_row_that_stands_twice(classes):
    features, labels = examples(classes)
    weights = np.ones(120)
    weights[:40] = 2
    repeated = np.concatenate([np.arange(120), np.arange(40)])
    for one, two in zip(fit(features, labels, weights), fit(features[repeated], labels[repeated]), strict=True):
        np.testing.assert_allclose(one.kernel, two.kernel, rtol=1e-2, atol=1e-3)
        np.testing.assert_allclose(one.probabilities(features), two.probabilities(features), atol=1e-3)


def test_a_weight_of_nothing_is_a_row_that_is_not_there():
    features, labels = examples(2)
    outliers = np.concatenate([features, np.full((30, 5), 50, np.float32)])
    weights = np.concatenate([np.ones(120), np.zeros(30)])
    one = fit(outliers, np.concatenate([labels, np.zeros(30, int)]), weights)[1]
    np.testing.assert_allclose(one.probabilities(features), fit(features, labels)[1].probabilities(features), atol=1e-3)


def test_the_path_is_ascending_and_a_stronger_penalty_gives_a_smaller_kernel():
    features, labels = examples(2)
    heads = fit(features, labels, Cs=[1.0, 1e-4, 1e-2])
    assert [head.C for head in heads] == [1e-4, 1e-2, 1.0]
    sizes = [np.abs(head.kernel).sum() for head in heads]
    assert sizes == sorted(sizes)


def test_the_heads_of_a_path_are_not_changed_by_those_that_follow():
    features, labels = examples(2)
    path = fit_path(Samples(features, labels, np.ones(120)), ("a", "b"), [1e-4, 1.0])
    first = next(path)
    before = first.kernel.copy(), first.bias.copy()
    next(path)
    np.testing.assert_array_equal(first.kernel, before[0])
    np.testing.assert_array_equal(first.bias, before[1])


@pytest.mark.parametrize(
    ("losses", "tried"),
    [
        ([3, 2, 1], 3),
        ([3, 2, 2.1, 1.9, 2, 1.8], 6),  # never twice in a row
        ([3, 2, 2.1, 2.2, 1], 4),
        ([1, 1, 1, 1, 1], 5),  # no rise
        ([1, 2, 3, 0], 3),
    ],
)
def test_a_path_ends_when_the_validation_loss_has_risen_twice_in_a_row(losses, tried):
    column = np.array(["x"])
    validation = Examples(column, np.array(["validation"]), np.zeros((1, 1), int), np.array([0]), np.ones(1), column)
    fitted = []

    def path():
        for loss in losses:
            fitted.append(loss)
            bias = np.log([np.exp(-loss), 1 - np.exp(-loss)])
            yield LinearHead(np.zeros((5, 2), np.float32), bias, ("a", "b"), 1.0)

    actual = list(until_worse(path(), np.zeros((1, 5)), validation))
    assert [loss for _, loss, _ in actual] == pytest.approx(losses[:tried])
    assert [accuracy for *_, accuracy in actual] == [loss < np.log(2) for loss in losses[:tried]]
    assert fitted == losses[:tried]  # nothing is computed beyond


def test_the_scale_of_a_channel_does_not_matter():
    features, labels = examples(2)
    one, two = fit(features, labels)[0], fit(features * np.float32(1000), labels)[0]
    np.testing.assert_allclose(one.probabilities(features), two.probabilities(features * np.float32(1000)), atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.25])
def test_a_constant_channel_is_harmless(value):
    features, labels = examples(2)
    with_constant = np.column_stack([features, np.full(120, value, np.float32)])
    for one, two in zip(fit(with_constant, labels), fit(features, labels), strict=True):
        assert np.isfinite(one.kernel).all()
        np.testing.assert_allclose(one.probabilities(with_constant), two.probabilities(features), atol=1e-3)


def test_the_same_examples_give_the_same_bytes():
    one, two = (fit(*examples(3))[1] for _ in range(2))
    assert one.kernel.tobytes() == two.kernel.tobytes()
    assert one.bias.tobytes() == two.bias.tobytes()


def test_a_head_reads_back_as_it_was_saved(tmp_path):
    features, labels = examples(3)
    head = fit(features, labels)[0]
    named = LinearHead(head.kernel, head.bias, ("é漢", 'a"b', "c,d"), head.C)
    named.save(tmp_path / "head")
    loaded = registry.load(tmp_path / "head")
    assert loaded.probabilities(features).tobytes() == named.probabilities(features).tobytes()
    assert (loaded.classes, loaded.C) == (named.classes, named.C)
    assert loaded.kernel.dtype == np.float32


def test_a_head_saved_twice_is_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        fit(*examples(3))[0].save(tmp_path / name)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert len(one) == 3


def test_the_weight_of_an_image_is_shared_out_over_its_views():
    fitted = []

    def fit(samples):
        fitted.append(samples)
        return iter(())

    ids = np.array(["x", "y", "z"])
    views = np.array([[0, 1, 2], [3, 4, NO_VIEW], [5, NO_VIEW, NO_VIEW]])
    splits = np.array(["train", "train", "validation"])
    images = Examples(ids, splits, views, np.array([0, 1, 0]), np.array([1.0, 2.0, 1.0]), ids)
    train = images.split("train")
    training = {"plain": train.without_augmented_views(), "augmented": train}
    features = np.arange(12, dtype=np.float16).reshape(6, 2)
    params = SimpleNamespace(class_weight=None)
    data = HeadData(features, training, images.split("validation"), ("a", "b"), Path("backbone"))
    linear.train_paths(params, data, print, {"logistic": linear.HeadPath(fit, 2)})
    for samples, rows, labels, weights in zip(
        fitted,
        ([0, 3], [0, 1, 2, 3, 4]),
        ([0, 1], [0, 0, 0, 1, 1]),
        ([2 / 3, 4 / 3], [2 / 9, 2 / 9, 2 / 9, 2 / 3, 2 / 3]),
        strict=True,
    ):
        np.testing.assert_array_equal(samples.features, features[rows].astype(np.float32), strict=True)
        assert samples.labels.tolist() == labels
        np.testing.assert_allclose(samples.weights, weights)


def test_a_linear_head_is_fitted_and_read_without_tensorflow(tmp_path, monkeypatch):
    for module in ("thaw.engines.tensorflow_setup", "thaw.heads.network", "tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, module, None)  # whoever imports it now fails
    fit(*examples(3))[0].save(tmp_path / "head")
    assert registry.load(tmp_path / "head").probabilities(examples(3)[0]).shape == (120, 3)


def test_a_fit_that_does_not_end_is_said_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(linear_probe, "MAX_ITERATIONS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(linear_probe.fit_path(Samples(*examples(3), np.ones(120)), [1.0]))
    assert capsys.readouterr().err.startswith("thaw: warning: the fit at C 1 stopped at 2 steps, before its end")


def test_a_head_that_is_missing_is_one_line(tmp_path):
    with pytest.raises(ThawError, match=r"head.json is missing: run `dvc repro`"):
        registry.load(tmp_path / "head")


def test_maps_are_refused_with_what_would_mend_it():
    with pytest.raises(ThawError, match=r"`head\.kind: linear` needs pooled features, .* maps of 7 x 7 x 5: set"):
        linear.require_pooled(np.zeros((2, 7, 7, 5), np.float16))
    linear.require_pooled(np.zeros((2, 5), np.float16))


def test_more_classes_than_half_the_images_are_fitted_without_a_warning():
    features, labels = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32), np.arange(30) % 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head, *_ = fit_path(Samples(features, labels, np.ones(30)), tuple(map(str, range(20))), CS)
    assert head.kernel.shape == (5, 20)
