"""A centred gradient moves the inputs of an output apart, and never all of them the same way."""

import numpy as np
import pytest

from thaw.engines.keras_setup import keras
from thaw.engines.tensorflow_setup import tf
from thaw.training.centring import centre, input_axes

layers = keras.layers


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (layers.Dense(2), (5,), {"kernel": (0,), "bias": ()}),
        (layers.Conv2D(4, 3), (8, 8, 3), {"kernel": (0, 1, 2), "bias": ()}),
        (layers.Conv2D(1, 1), (8, 8, 3), {"kernel": (0, 1, 2), "bias": ()}),
        (layers.DepthwiseConv2D(3), (8, 8, 3), {"kernel": (0, 1), "bias": ()}),
        (
            layers.SeparableConv2D(4, 3),
            (8, 8, 3),
            {"depthwise_kernel": (0, 1), "pointwise_kernel": (0, 1, 2), "bias": ()},
        ),
        (layers.BatchNormalization(), (8, 8, 3), {"gamma": (), "beta": ()}),
    ],
)
def test_the_mean_runs_over_the_inputs_of_one_output(layer, shape, axes):
    layer.build((None, *shape))
    assert {path.split("/")[-1]: found for path, found in input_axes([layer]).items()} == axes


def test_a_centred_gradient_has_no_mean_over_the_inputs_and_keeps_what_differs():
    gradient = tf.constant(np.random.default_rng(0).normal(3, 1, (1, 1, 6, 4)).astype(np.float32))
    centred = centre(gradient, (0, 1, 2)).numpy()
    assert np.abs(centred.sum(axis=2)).max() < 1e-5
    np.testing.assert_allclose(np.diff(centred, axis=2), np.diff(gradient, axis=2), atol=1e-5)


def test_what_is_no_kernel_keeps_its_gradient():
    gradient = tf.constant([1.0, 2.0])
    assert centre(gradient, ()) is gradient
