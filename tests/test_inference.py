"""Compiled networks return every row, in order, however the rows arrive."""

import os
from pathlib import Path

import numpy as np
import pytest

from thaw.engines import inference

SIZE = 8
BATCH = inference.BATCH


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def means(pixels: np.ndarray) -> np.ndarray:
    """What the network of these tests computes: the mean of each channel, on a scale from 0 to 1."""
    return pixels.mean(axis=(1, 2)) / 255


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """An OpenVINO network with two outputs: the means of the channels and, on the way, the scaled pixels."""
    from thaw.engines.openvino_setup import ov

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
    return inference.compile_openvino(network, "means", SIZE)


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


def test_batches_are_made_when_they_are_needed():
    taken = []

    def arrays():
        for i in range(100):
            taken.append(i)
            yield np.full((3, 1), i)

    next(inference.rebatch(arrays(), 4))
    assert len(taken) == 2


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 20 * BATCH + 3])
def test_every_row_is_returned_in_order(run, count):
    pixels = images(count)
    outputs = list(run(inference.rebatch([pixels])))
    assert [len(output) for output in outputs] == [BATCH] * (count // BATCH) + [count % BATCH] * (count % BATCH > 0)
    assert all(output.dtype == np.float16 for output in outputs)
    np.testing.assert_allclose(np.concatenate(outputs), means(pixels), atol=1e-3)


def test_no_batches_are_no_outputs(run):
    assert list(run([])) == []


@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_outputs_do_not_depend_on_how_the_rows_arrive(run, pieces):
    pixels = images(100)
    expected = np.concatenate(list(run(inference.rebatch([pixels]))))
    outputs = run(inference.rebatch(np.array_split(pixels, pieces)))
    assert np.concatenate(list(outputs)).tobytes() == expected.tobytes()


def test_outputs_do_not_depend_on_earlier_ones(run):
    first = np.concatenate(list(run(inference.rebatch([images(5)]))))
    list(run([np.full((BATCH, SIZE, SIZE, 3), 255, np.uint8)] * 10))
    assert np.concatenate(list(run(inference.rebatch([images(5)])))).tobytes() == first.tobytes()


def test_an_output_stays_as_it_is_while_more_are_computed(run):
    outputs = run([images(BATCH), *[np.zeros((BATCH, SIZE, SIZE, 3), np.uint8)] * 20])
    first = next(outputs)
    copy = first.copy()
    list(outputs)
    np.testing.assert_array_equal(first, copy)


def test_few_batches_are_read_ahead(run):
    taken = []

    def batches():
        for i in range(1000):
            taken.append(i)
            yield images(BATCH)

    next(run(batches()))
    assert len(taken) < 100


def test_a_run_can_stop_early_and_another_can_start(run):
    outputs = run([images(BATCH)] * 50)
    next(outputs)
    outputs.close()
    np.testing.assert_allclose(np.concatenate(list(run(inference.rebatch([images(5)])))), means(images(5)), atol=1e-3)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or os.cpu_count() < 2, reason="threads are bound on Linux")
def test_a_process_that_uses_one_core_may_use_any(network):
    """The workers of a machine would all compute on its first core."""
    cores, others = os.sched_getaffinity(0), set(Path("/proc/self/task").iterdir())
    run, seen = inference.compile_openvino(network, "means", SIZE, cores=1), []
    for _ in run([images(BATCH)] * 3000):  # a thread is bound while it computes
        seen += [os.sched_getaffinity(int(t.name)) for t in set(Path("/proc/self/task").iterdir()) - others]
    assert seen and all(one == cores for one in seen)


def test_a_core_shares_no_operation_with_another(network, monkeypatch):
    """However many cores OpenVINO finds, each request runs on one: sums do not depend on their number."""
    from thaw.engines.openvino_setup import ov

    compiled, compile_model = [], ov.Core.compile_model
    monkeypatch.setattr(ov.Core, "compile_model", lambda *args: compiled.append(compile_model(*args)) or compiled[-1])
    outputs = []
    for cores in (1, 64):
        monkeypatch.setattr(inference, "usable_cores", lambda cores=cores: cores)
        run = inference.compile_openvino(network, "means", SIZE, np.float32)
        outputs.append(np.concatenate(list(run(inference.rebatch([images(5)])))))
    assert compiled[0].get_property("NUM_STREAMS") == 1
    assert all(one.get_property("NUM_STREAMS") == one.get_property("INFERENCE_NUM_THREADS") for one in compiled)
    np.testing.assert_array_equal(*outputs)


def test_an_output_before_the_last_can_be_compiled(network):
    run = inference.compile_openvino(network, "scaled", SIZE)
    output = np.concatenate(list(run(inference.rebatch([images(3)]))))
    assert output.shape == (3, SIZE, SIZE, 3)
    np.testing.assert_allclose(output, images(3) / 255, atol=1e-3)


def test_tensorflow_returns_what_openvino_does(tmp_path):
    from thaw.engines import model_files, openvino_setup
    from thaw.engines.keras_setup import keras
    from thaw.engines.keras_to_openvino import convert

    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="convolution")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="features")(x))
    model.get_layer("norm").set_weights([np.full(4, value, np.float32) for value in (2, 1, 0.5, 3)])
    model_files.save(model, tmp_path / "backbone.keras", {})
    openvino_setup.write(convert(keras.Model(model.input, {"features": model.output})), tmp_path / "backbone.xml")
    batches = list(inference.rebatch([images(BATCH + 5)]))
    from_tensorflow = list(inference.compile_tensorflow(tmp_path / "backbone.keras", "features")(batches))
    from_openvino = list(inference.compile_openvino(tmp_path / "backbone.xml", "features", SIZE)(batches))
    assert [a.dtype for a in from_tensorflow] == [np.float16] * len(batches)
    np.testing.assert_allclose(np.concatenate(from_tensorflow), np.concatenate(from_openvino), rtol=2e-3, atol=1e-3)
    for size in (8, 64):  # as a GPU has them: the last batch is filled up
        larger = list(inference.compile_tensorflow(tmp_path / "backbone.keras", "features", size)(batches))
        np.testing.assert_allclose(np.concatenate(larger), np.concatenate(from_tensorflow), rtol=2e-3, atol=1e-3)
