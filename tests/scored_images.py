"""Scored images for tests: drawn, or of given probabilities and labels."""

import numpy as np

from thaw.evaluation.scored import Scored


def example(count=300, classes=2, seed=0):
    """Return probabilities and labels of a classifier that is often right; some probabilities are 0, many are tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    logits = generator.normal(size=(count, classes)) + 1.2 * np.eye(classes)[labels]
    probabilities = np.exp(2 * logits)
    probabilities[:5, 0] = 0
    probabilities[5:60] = probabilities[5:60].clip(0, 9).round() + 1
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels


def scored(probabilities, labels, weights=None, groups=None):
    weights = np.ones(len(labels)) if weights is None else weights
    groups = np.arange(len(labels)) if groups is None else groups
    return Scored(probabilities, labels, weights, groups)
