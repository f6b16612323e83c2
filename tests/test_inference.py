"""The engines answer every row, in order, however the rows arrive."""

from pathlib import Path

import numpy as np
import pytest

from thaw import inference

SIZE = 8
BATCH = inference.BATCH


def photographs(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def means(pixels: np.ndarray) -> np.ndarray:
    """What the network of these tests computes: the mean of each channel, on a scale from 0 to 1."""
    return pixels.mean(axis=(1, 2)) / 255


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """An OpenVINO network with two outputs: the means of the channels and, on the way, the scaled pixels."""
    from thaw.openvino import ov

    opset = ov.opset13
    image = opset.parameter([-1, -1, -1, 3], np.float32, name="image")
    scaled = opset.multiply(image, opset.constant(np.float32(1 / 255)))
    pooled = opset.reduce_mean(scaled, opset.constant([1, 2]), keep_dims=False)
    scaled.output(0).get_tensor().set_names({"scaled"})
    pooled.output(0).get_tensor().set_names({"means"})
    path = tmp_path_factory.mktemp("network") / "network.xml"
    ov.save_model(ov.Model([scaled, pooled], [image], "network"), path, compress_to_fp16=False)
    return path


@pytest.fixture(scope="module")
def run(network):
    return inference.openvino(network, "means", SIZE)


@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1, 1, 5), (0, 7, 0), (2, 0, 5)])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_rows_are_batched_anew_in_their_order(sizes, size):
    arrays = np.split(np.arange(14).reshape(7, 2), np.cumsum(sizes)[:-1])
    batches = list(inference.rebatch(arrays, size))
    assert [len(batch) for batch in batches] == [size] * (7 // size) + [7 % size] * (7 % size > 0)
    np.testing.assert_array_equal(np.concatenate(batches), np.arange(14).reshape(7, 2))


def test_no_rows_are_no_batches():
    assert list(inference.rebatch([])) == []
    assert list(inference.rebatch([np.zeros((0, 2))])) == []


def test_batches_are_made_as_they_are_asked_for():
    taken = []

    def arrays():
        for i in range(100):
            taken.append(i)
            yield np.full((3, 1), i)

    next(inference.rebatch(arrays(), 4))
    assert len(taken) == 2


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 20 * BATCH + 3])
def test_every_row_is_answered_in_order(run, count):
    pixels = photographs(count)
    answers = list(run(inference.rebatch([pixels])))
    assert [len(answer) for answer in answers] == [BATCH] * (count // BATCH) + [count % BATCH] * (count % BATCH > 0)
    assert all(answer.dtype == np.float16 for answer in answers)
    np.testing.assert_allclose(np.concatenate(answers), means(pixels), atol=1e-3)


def test_nothing_asked_is_nothing_answered(run):
    assert list(run([])) == []


@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_answers_do_not_depend_on_how_the_rows_arrive(run, pieces):
    pixels = photographs(100)
    whole = np.concatenate(list(run(inference.rebatch([pixels]))))
    answers = run(inference.rebatch(np.array_split(pixels, pieces)))
    assert np.concatenate(list(answers)).tobytes() == whole.tobytes()


def test_answers_do_not_depend_on_what_was_asked_before(run):
    first = np.concatenate(list(run(inference.rebatch([photographs(5)]))))
    list(run([np.full((BATCH, SIZE, SIZE, 3), 255, np.uint8)] * 10))
    assert np.concatenate(list(run(inference.rebatch([photographs(5)])))).tobytes() == first.tobytes()


def test_an_answer_stays_as_it_is_while_more_are_computed(run):
    answers = run([photographs(BATCH), *[np.zeros((BATCH, SIZE, SIZE, 3), np.uint8)] * 20])
    first = next(answers)
    copy = first.copy()
    list(answers)
    np.testing.assert_array_equal(first, copy)


def test_few_batches_are_read_ahead(run):
    taken = []

    def batches():
        for i in range(1000):
            taken.append(i)
            yield photographs(BATCH)

    next(run(batches()))
    assert len(taken) < 100


def test_reading_can_be_broken_off_and_begun_again(run):
    answers = run([photographs(BATCH)] * 50)
    next(answers)
    answers.close()
    np.testing.assert_allclose(
        np.concatenate(list(run(inference.rebatch([photographs(5)])))), means(photographs(5)), atol=1e-3
    )


def test_an_output_on_the_way_can_be_asked_for(network):
    run = inference.openvino(network, "scaled", SIZE)
    answer = np.concatenate(list(run(inference.rebatch([photographs(3)]))))
    assert answer.shape == (3, SIZE, SIZE, 3)
    np.testing.assert_allclose(answer, photographs(3) / 255, atol=1e-3)


def test_tensorflow_answers_as_openvino_does(tmp_path):
    from thaw import models, openvino
    from thaw.conversion import convert
    from thaw.keras import keras

    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="convolution")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="features")(x))
    model.get_layer("norm").set_weights([np.full(4, value, np.float32) for value in (2, 1, 0.5, 3)])
    models.save(model, tmp_path / "backbone.keras", {})
    openvino.write(convert(keras.Model(model.input, {"features": model.output})), tmp_path / "backbone.xml")
    batches = list(inference.rebatch([photographs(BATCH + 5)]))
    one = list(inference.tensorflow(tmp_path / "backbone.keras", "features")(batches))
    two = list(inference.openvino(tmp_path / "backbone.xml", "features", SIZE)(batches))
    assert [a.dtype for a in one] == [np.float16] * len(batches)
    np.testing.assert_allclose(np.concatenate(one), np.concatenate(two), rtol=2e-3, atol=1e-3)
