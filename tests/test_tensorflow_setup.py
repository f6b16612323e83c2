"""TensorFlow as Thaw sets it: no sum depends on timing."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tensorflow_setup():
    from thaw.engines import tensorflow_setup

    return tensorflow_setup


def operations(function) -> list[str]:
    """Return the kind of each operation of a function of TensorFlow without arguments, those it calls included."""
    graph = function.get_concrete_function().graph.as_graph_def()
    return [node.op for part in (graph.node, *(f.node_def for f in graph.library.function)) for node in part]


def test_a_sum_is_added_one_after_the_other(tensorflow_setup):
    small = [
        tensorflow_setup.tf.constant(value) for value in (2.0**24, 1.0, 1.0, -(2.0**24))
    ]  # float32 loses each 1 there
    assert tensorflow_setup.ordered_sum(small) == 0
    assert tensorflow_setup.ordered_sum(small[::-1]) == 2
    assert tensorflow_setup.ordered_sum(small[1:2]) == 1


def test_the_gradient_of_what_many_operations_read_is_added_one_after_the_other(tensorflow_setup):
    """TensorFlow's AddN adds first into whichever buffer is free: of three tensors, the sum depends on timing."""
    tf, x = tensorflow_setup.tf, tensorflow_setup.tf.constant([0.5, 2.0])

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.exp(x) + tf.sin(x) + tf.square(x) + tf.sqrt(x)
        return tape.gradient(y, x)

    expected = np.exp(x) + np.cos(x) + 2 * x + 0.5 / np.sqrt(x)
    np.testing.assert_allclose(gradient(), expected, rtol=1e-6)
    kinds = operations(gradient)
    assert kinds.count("AddV2") == 6 and "AddN" not in kinds


def test_a_layer_that_reads_its_input_more_than_twice_has_such_a_gradient_too(tensorflow_setup):
    from thaw.engines.keras_setup import keras

    tf, layer = tensorflow_setup.tf, keras.layers.LayerNormalization()
    x = tf.constant(np.random.default_rng(1).normal(size=(2, 3, 4)), tf.float32)
    layer.build(x.shape)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.square(layer(x))
        return tape.gradient(y, x)

    gradient()
    assert "AddN" not in operations(gradient)


def test_gradients_of_single_rows_are_added_as_before(tensorflow_setup):
    tf, table = tensorflow_setup.tf, tensorflow_setup.tf.Variable(np.eye(4, 2, dtype=np.float32))
    with tf.GradientTape() as tape:
        y = sum(tf.gather(table, rows) for rows in ([0, 1], [1, 2], [1, 0])) + table[:2]
    np.testing.assert_array_equal(tf.convert_to_tensor(tape.gradient(y, table))[:, 0], [3, 4, 1, 0])


def test_additions_stay_additions(tensorflow_setup):
    """The optimizer of arithmetic makes AddN of them."""
    assert tensorflow_setup.tf.config.optimizer.get_experimental_options()["arithmetic_optimization"] is False


def test_roots_are_rounded_as_every_processor_rounds_them(tensorflow_setup):
    """Estimates of a processor, from which `tf.math.rsqrt` and `tf.math.reciprocal` start, differ between makers."""
    tf = tensorflow_setup.tf
    x = np.random.default_rng(0).uniform(1e-6, 50, 10_000).astype(np.float32)
    optimised = tf.function(tensorflow_setup.inverse_root)
    assert np.array_equal(optimised(tf.constant(x)), np.float32(2) / np.sqrt(np.float32(4) * x))


def test_gelu_is_made_of_operations_that_round_the_same(tensorflow_setup):
    from scipy.special import erf

    from thaw.engines.keras_setup import keras

    tf, x = tensorflow_setup.tf, np.linspace(-6, 6, 1001, dtype=np.float32)
    exact = x / 2 * (1 + erf(x.astype(float) / np.sqrt(2)))
    np.testing.assert_allclose(keras.activations.gelu(x, approximate=False), exact, atol=1e-6)
    np.testing.assert_allclose(keras.activations.gelu(x, approximate=True), exact, atol=5e-4)
    kinds = set(operations(tf.function(lambda: keras.activations.gelu(tf.constant(x), approximate=False))))
    assert "Erf" in kinds and "Erfc" not in kinds


@pytest.mark.parametrize("kind", ["BatchNormalization", "LayerNormalization"])
def test_a_normalisation_has_no_estimate_in_it(tensorflow_setup, kind):
    from thaw.engines.keras_setup import keras

    norm = getattr(keras.layers, kind)()
    norm.build((None, 4))
    x = tensorflow_setup.tf.zeros([2, 4])
    kinds = set(operations(tensorflow_setup.tf.function(lambda: norm(x, training=False))))
    assert "Sqrt" in kinds and not kinds & {"Rsqrt", "Reciprocal", "Inv"}


def test_products_of_a_gpu_are_in_float32(tensorflow_setup):
    assert not tensorflow_setup.tf.config.experimental.tensor_float_32_execution_enabled()


def test_a_gpu_is_named_where_there_is_one(tensorflow_setup):
    gpus = tensorflow_setup.tf.config.list_physical_devices("GPU")
    assert len(tensorflow_setup.gpu_names()) == len(gpus)
    assert all(tensorflow_setup.tf.config.experimental.get_memory_growth(gpu) for gpu in gpus)
