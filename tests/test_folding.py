"""The thawed layers as training computes them: the same function, the same gradients."""

import numpy as np
import pytest
from conftest import needs_bfloat16


@pytest.fixture(scope="module")
def keras():
    from thaw.engines.keras_setup import keras

    return keras


CASES = {  # a layer that a batch normalisation follows, and whether the two can be folded
    "pointwise": (lambda layers: layers.Conv2D(6, 1, use_bias=False), True),
    "pointwise with bias": (lambda layers: layers.Conv2D(6, 1), True),
    "pointwise strided": (lambda layers: layers.Conv2D(6, 1, strides=2), True),
    "3x3": (lambda layers: layers.Conv2D(6, 3, padding="same", use_bias=False), True),
    "3x3 strided, valid": (lambda layers: layers.Conv2D(6, 3, strides=2), True),
    "depthwise 3x3": (lambda layers: layers.DepthwiseConv2D(3, padding="same", use_bias=False), True),
    "depthwise 5x5": (lambda layers: layers.DepthwiseConv2D(5, padding="same", use_bias=False), True),
    "depthwise 5x5 strided": (lambda layers: layers.DepthwiseConv2D(5, strides=2, padding="same"), True),
    "depthwise 5x5 valid": (lambda layers: layers.DepthwiseConv2D(5), True),
    "depthwise 7x3": (lambda layers: layers.DepthwiseConv2D((7, 3), padding="same"), True),
    "depthwise times two": (lambda layers: layers.DepthwiseConv2D(5, depth_multiplier=2, padding="same"), True),
    "dilated": (lambda layers: layers.Conv2D(6, 3, dilation_rate=2), False),
    "grouped": (lambda layers: layers.Conv2D(8, 3, groups=2), False),
    "with an activation": (lambda layers: layers.Conv2D(6, 1, activation="tanh"), False),
    "separable": (lambda layers: layers.SeparableConv2D(6, 3), False),
}


def draw(model):
    generator = np.random.default_rng(1)
    model.set_weights([generator.uniform(0.3, 1.2, w.shape) for w in model.get_weights()])
    return generator


def answers(model, variables, x):
    """The output of a model in inference mode, and the gradients of a sum of it: of the variables, and of the input,
    which are those of all layers before."""
    from thaw.engines.tensorflow_setup import tf

    @tf.function
    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = model(x, training=False)
            loss = tf.reduce_sum(tf.sin(output))
        return output, tape.gradient(loss, [*variables, x])

    output, gradients = compute(tf.constant(x))
    return [output.numpy(), *(gradient.numpy() for gradient in gradients)]


def folded_layers(model):
    return [layer.name for layer in model.layers if type(layer).__name__ == "_Folded"]


@pytest.mark.parametrize("sides", [(9, 12), (8, 7)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_a_folded_norm_gives_the_same_output_and_gradients(keras, name, sides):
    from thaw.training.folding import folded

    build, foldable = CASES[name]
    image = keras.Input((None, None, 4))
    x = keras.layers.BatchNormalization(epsilon=0.1)(build(keras.layers)(image))
    model = keras.Model(image, keras.layers.Activation("tanh")(x))
    x = draw(model).normal(size=(3, *sides, 4)).astype(np.float32)
    other = folded(model)
    assert len(folded_layers(other)) == foldable
    variables = model.trainable_variables
    for actual, expected in zip(answers(other, variables, x), answers(model, variables, x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("parts", [{"scale": False}, {"center": False}], ids=str)
def test_a_norm_without_one_of_its_parts_is_folded(keras, parts):
    from thaw.training.folding import folded

    image = keras.Input((None, None, 4))
    model = keras.Model(image, keras.layers.BatchNormalization(**parts)(keras.layers.Conv2D(3, 1)(image)))
    x = draw(model).normal(size=(2, 5, 5, 4)).astype(np.float32)
    other = folded(model)
    assert folded_layers(other)
    np.testing.assert_allclose(other(x, training=False), model(x, training=False), rtol=1e-4, atol=1e-4)


def test_a_convolution_that_something_else_reads_or_that_comes_before_the_part_is_left(keras):
    from thaw.training.folding import folded

    image = keras.Input((6, 6, 4))
    convolved = keras.layers.Conv2D(4, 1)(image)
    normal = keras.layers.BatchNormalization()(convolved)
    summed = keras.layers.Add()([convolved, normal])
    assert not folded_layers(folded(keras.Model(image, summed)))
    assert not folded_layers(folded(keras.Model(image, [convolved, normal])))
    assert not folded_layers(folded(keras.Model(convolved, normal)))


def test_the_gradients_of_what_many_layers_read_are_the_same(keras):
    from thaw.training.folding import folded

    layers = keras.layers
    image = keras.Input((6, 6, 4))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(image))
    x = layers.Concatenate()([*(layers.Conv2D(2, 1)(x) for _ in range(3)), x]) * 2.0
    model = keras.Model(image, layers.Activation("tanh")(layers.Add()([x, x, x])))
    x, variables = draw(model).normal(scale=0.1, size=(3, 6, 6, 4)).astype(np.float32), model.trainable_variables
    for actual, expected in zip(answers(folded(model), variables, x), answers(model, variables, x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


@needs_bfloat16
def test_gradients_in_bfloat16_are_those_of_float32_to_a_hundredth_and_the_output_is_the_same(keras):
    from thaw.training.folding import folded

    image = keras.Input((None, None, 24))
    x = keras.layers.BatchNormalization(epsilon=0.1)(keras.layers.Conv2D(16, 1, use_bias=False)(image))
    model = keras.Model(image, keras.layers.Activation("tanh")(x))
    x = draw(model).normal(scale=0.1, size=(3, 6, 5, 24)).astype(np.float32)
    long, short = (answers(folded(model, dtype), model.trainable_variables, x) for dtype in ("float32", "bfloat16"))
    np.testing.assert_array_equal(short[0], long[0])
    for actual, expected in zip((short[1], short[-1]), (long[1], long[-1]), strict=True):  # of the kernel, of the input
        error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
        assert 1e-5 < error < 1e-2


def test_folding_leaves_the_model_as_it_is(keras):
    from thaw.training.folding import folded

    image = keras.Input((6, 6, 4))
    model = keras.Model(image, keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1)(image)))
    names, weights = [layer.name for layer in model.layers], model.get_weights()
    folded(model)
    assert [layer.name for layer in model.layers] == names
    assert all((one == other).all() for one, other in zip(model.get_weights(), weights, strict=True))
    assert keras.Model(model.input, model.output).count_params() == model.count_params()
