"""Probes on features that are too many to hold are those on held features, whatever the number of cores."""

import numpy as np
import pytest

from thaw.core import arrays
from thaw.features import discriminant, linear_probe, streamed_probe
from thaw.features.linear_probe import Samples

CS = [0.01, 1.0]


def drawn(classes: int, count: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of 8 channels, some far from 0, labels that they tell apart, though not quite, and weights."""
    generator = np.random.default_rng(classes)
    labels = np.arange(count) % classes
    features = generator.normal(size=(count, 8)) + np.eye(classes, 8)[labels]
    features = features * [1, 1, 1, 5, 0.1, 1, 1, 1] + [0, 20, 0, -3, 0, 0, 7, 0]
    return features.astype(np.float16), labels, generator.choice([1 / 3, 1.0], count)


@pytest.fixture
def streamed(monkeypatch):
    """All features are too many to hold, and a block has 100 images."""
    monkeypatch.setattr(linear_probe, "MAX_HELD_BYTES", 0)
    monkeypatch.setattr(streamed_probe, "BLOCK_NUMBERS", 800)


def probes(classes: int) -> list[linear_probe.Probe]:
    features, labels, weights = drawn(classes)
    samples = linear_probe.read_samples(features, np.arange(len(labels)), labels, weights)
    return list(linear_probe.fit_path(samples, CS))


@pytest.mark.parametrize("classes", [2, 5])
def test_the_fits_are_those_of_held_features(classes, monkeypatch):
    held = probes(classes)
    monkeypatch.setattr(linear_probe, "MAX_HELD_BYTES", 0)
    features, _, _ = drawn(classes)
    for mine, expected in zip(probes(classes), held, strict=True):
        assert mine.C == expected.C
        np.testing.assert_allclose(mine.probabilities(features), expected.probabilities(features), atol=2e-3)


def test_the_number_of_cores_changes_no_bit(streamed, monkeypatch):
    kernels = []
    for cores in (1, 3):
        monkeypatch.setattr(streamed_probe, "usable_cores", lambda cores=cores: cores)
        kernels.append([probe.kernel for probe in probes(3)])
    np.testing.assert_array_equal(*kernels)


def test_the_discriminant_is_that_of_held_features(streamed):
    features, labels, weights = drawn(4)
    rows = np.arange(len(labels))
    read_in_blocks = Samples(arrays.Rows(features, rows), labels, weights)
    held = Samples(features.astype(np.float32), labels, weights)
    for mine, expected in zip(*(discriminant.fit_path(s, [0.1, 10]) for s in (read_in_blocks, held)), strict=True):
        np.testing.assert_allclose(mine.kernel, expected.kernel, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(mine.bias, expected.bias, rtol=1e-3, atol=1e-3)


def test_moments_are_weighted(streamed):
    features, _, weights = drawn(2)
    mean, variance = streamed_probe.moments(features, weights)
    x = features.astype(float)
    np.testing.assert_allclose(mean, np.average(x, axis=0, weights=weights))
    np.testing.assert_allclose(variance, np.average((x - mean) ** 2, axis=0, weights=weights), rtol=1e-6)


def test_features_that_fit_are_held_and_others_are_not(monkeypatch):
    features, labels, weights = drawn(2)
    rows = np.array([5, 3, 8])
    held = linear_probe.read_samples(features, rows, labels[rows], weights[rows]).features
    np.testing.assert_array_equal(held, features[rows].astype(np.float32))
    monkeypatch.setattr(linear_probe, "MAX_HELD_BYTES", held.nbytes - 1)
    read = linear_probe.read_samples(features, rows, labels[rows], weights[rows]).features
    assert isinstance(read, arrays.Rows)
    np.testing.assert_array_equal(read[:], features[rows])


def test_a_fit_that_does_not_end_is_said(streamed, monkeypatch, capsys):
    monkeypatch.setattr(linear_probe, "MAX_ITERATIONS", 1)
    probes(3)
    assert "stopped at 1 steps, before its end" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [1, 2, 64, 65, 130])
def test_channels_in_blocks_have_the_bits_of_all_at_once(channels):
    generator = np.random.default_rng(channels)
    features = generator.normal(size=(500, channels)).astype(np.float32)
    weights = generator.uniform(size=500)
    x, mean, scale = linear_probe.standardised(features, weights)
    np.testing.assert_array_equal(mean, np.average(features, axis=0, weights=weights))
    variance = np.average((features - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_array_equal(scale, linear_probe.channel_scale(variance))
    np.testing.assert_array_equal(x, (features - mean) / scale)
